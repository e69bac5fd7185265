// The page of one map: the surface on the left, slices in the middle, panels on the right.
import { besideView } from "./beside.js";
import { getBytes, latest, paced, postBytes, saveAs } from "./api.js";
import { h, hex, key, linkedView, nice, roundLength, segments, slider, theme, wishes } from "./dom.js";
import { panels, waitingPanel } from "./panels.js";
import { slicesView } from "./slices.js";
import { boxLines, circles, cropFaces, crossLines, gizmo, paintKey, paintRuler } from "./stage.js";
import { changes, keptViews } from "./state.js";
import { SurfaceView, paletteBytes, unpack } from "./surface.js";

/** Colours that can be put on the surface, with the range of their key. */
function colourings(scene, app) {
  const out = [];
  const plain = { name: "uniform", title: "One colour", layers: [], palette: null, low: 0, high: 1 };
  if (!scene.looks.scale) return [plain];
  for (const name of ["occupancy", "scale", "confidence", "uncertainty"]) {
    const look = scene.looks[name];
    if (look) out.push({ name, title: look.title, layers: [name], palette: look.palette, low: look.palette === "scale" ? app.info.minimum_scale : look.low, high: look.high });
  }
  out.push({ name: "modification", title: "Modification factor", layers: ["scale", "confidence"], palette: "difference", low: -2, high: 2 });
  return [...out, plain];
}

export function mapPage(app, first) {
  const ctx = context(app, first);
  const surface = surfaceView(ctx);
  const slices = slicesView(ctx);
  ctx.parts = { surface, slices };
  const linked = linkedView(first.title);
  const waiting = first.kind === "read" ? waitingPanel(ctx) : null;
  const element = h("section.map", {}, surface.element, slices.element, waiting ? waiting.element : panels(ctx).element);
  ctx.emit("scene");
  if (linked) ctx.restore(linked);
  ctx.history.clear();
  return {
    element,
    title: first.title,
    kind: "map",
    progress: waiting?.progress,
    activate() { surface.beside.refresh(); surface.view.draw(); slices.resize(); },
    deactivate() {},
    undo: ctx.history.undo,
    redo: ctx.history.redo,
    close() { surface.beside.close(); surface.view.close(); ctx.closed = true; window.removeEventListener("occupy-theme", surface.retheme); },
    update(scene) {
      const estimated = ctx.scene.kind === "read" && scene.kind === "map";
      ctx.before = ctx.scene.numbers ?? null;
      ctx.scene = scene;
      if (estimated) {
        if (!ctx.moved) ctx.cross = middleOf(scene);
        waiting.element.replaceWith(panels(ctx).element);
        ctx.history.clear();
      }
      ctx.emit("scene");
    },
  };
}

/** Where the slices meet first: where full scale was found, or the middle of the box. */
function middleOf(scene) {
  return scene.shape.map((n, a) => (scene.tile ? Math.round((scene.tile.centre[2 - a] - scene.origin[2 - a]) / scene.spacing[2 - a]) : n >> 1));
}

/** What the parts of the page share: the scene, the cross, the modification; and who wants to hear of changes. */
function context(app, scene) {
  const listeners = new Map();
  const ctx = {
    app,
    scene,
    before: null,
    cross: middleOf(scene),
    modification: modificationOf(scene.asked),
    moved: false,
    factors: null,
    threshold: null,
    on(event, listener) {
      listeners.set(event, [...(listeners.get(event) ?? []), listener]);
    },
    emit(event, ...said) {
      for (const listener of listeners.get(event) ?? []) listener(...said);
    },
    moveCross(cross) {
      this.moved = true;
      this.cross = cross.map((v, a) => Math.min(Math.max(Math.round(v), 0), this.scene.shape[a] - 1));
      this.emit("cross");
    },
    /** Bring slices and camera to a place, x, y, z in Å. */
    goTo(xyz) {
      const { origin, spacing } = this.scene;
      this.moveCross([2, 1, 0].map((i) => (xyz[i] - origin[i]) / spacing[i]));
      this.emit("go", xyz);
    },
    place(cross) {
      const { origin, spacing } = this.scene;
      return [0, 1, 2].map((i) => origin[i] + cross[2 - i] * spacing[i]);
    },
    /** Everything that is seen and can be chosen, as plain values: for undo, kept views and links. */
    state() {
      return { ...this.parts.surface.state(), ...this.parts.slices.state(), cross: [...this.cross], modification: { ...this.modification } };
    },
    restore(state) {
      const { cross, modification, settings } = state;
      if (settings && this.settings) this.emit("settings", settings);
      if (modification && typeof modification === "object") this.modification = { ...modification };
      this.emit("modification");
      if (Array.isArray(cross) && cross.length === 3 && cross.every(Number.isFinite)) this.moveCross(cross);
      this.parts.slices.restore(state);
      this.parts.surface.restore(state);
    },
  };
  ctx.history = changes(ctx);
  return ctx;
}

/** Whether numbers that were asked for are so many numbers. */
function areNumbers(list, count) {
  return Array.isArray(list) && list.length === count && list.every(Number.isFinite);
}

/** The camera that a state asks for, or null where its numbers are none. */
function cameraOf({ camera }) {
  const { turn, pan, centre, zoom } = camera ?? {};
  return areNumbers(turn, 4) && areNumbers(pan, 2) && (centre === null || areNumbers(centre, 3)) && zoom > 0 ? camera : null;
}

/** The modification a map was opened with: the first that was asked for. */
function modificationOf(asked) {
  const { exclude_solvent, use_confidence, pivot, scale_limit, lowpass_output } = asked;
  const kind = ["amplify", "attenuate", "sigmoid"].find((name) => asked[name]) ?? null;
  const out = { exclude_solvent: exclude_solvent ?? false, use_confidence: use_confidence ?? true, pivot: pivot ?? 0.5, scale_limit: scale_limit ?? 0.05 };
  if (lowpass_output) out.lowpass_output = lowpass_output;
  if (kind) out[kind] = asked[kind];
  return out;
}

function surfaceView(ctx) {
  const canvas = h("canvas.surface", { tabIndex: 0, role: "img", "aria-label": "Surface of the map; drag or use the arrow keys to turn it" });
  const wrap = h("div.stage", {}, canvas);
  let view;
  try {
    view = new SurfaceView(canvas, { background: theme().background, onPick: (xyz) => toCross(xyz), onDraw: (a) => drawn(a) });
  } catch (error) {
    wrap.replaceChildren(h("p.note.bad", {}, `${error.message}. Slices and numbers work without it.`));
    view = new Proxy({ low: [0, 0, 0], high: [0, 0, 0], project: () => [0, 0] }, { get: (known, name) => known[name] ?? (() => {}) });
  }
  let shown = null; // the head of the mesh on screen
  let level = ctx.scene.level;
  let chosenLevel = null; // by the user; else that of the map
  let opacity = 1;
  let dust = ctx.scene.dust;
  let source = "input";
  const known = colourings(ctx.scene, ctx.app);
  let wanted = null; // the colouring the user chose; else the first that the map has
  let colouring = known[0];
  let range = [colouring.low, colouring.high];
  const keybox = h("div.keybox");
  const facts = h("p.faint.facts");
  const trouble = h("div.trouble", { role: "status" });
  const ruled = h("div.ruler", { title: "Length in the middle of what is shown; nearer parts look larger" }, h("i"), h("b"));
  const axes = gizmo((turn) => { Object.assign(view.camera, { turn: [...turn] }); view.camera.changed(); });
  wrap.append(keybox, ruled, trouble, axes.element);
  let clip = 0; // share of the depth that is cut away from the front
  let crop = Infinity; // Å, side of the cube around the cross outside of which nothing is drawn
  let box = null; // x, y, z from, x, y, z to in Å: a crop box of any place and shape, in place of the cube
  let framing = null; // centre and radius that a link asks for
  let bar = { pixels: 0, text: "" };

  function drawn(perPixel) {
    ruler(perPixel);
    axes.turn(view.camera.turn);
    faces.place();
    ctx.history.changed();
    ctx.emit("drawn");
  }
  function ruler(perPixel) {
    const length = roundLength(Math.max(140 * perPixel, 1e-6));
    bar = { pixels: length / perPixel, text: `${nice(length, 3)} Å` };
    ruled.querySelector("b").style.width = `${bar.pixels}px`;
    ruled.querySelector("i").textContent = bar.text;
  }

  const toCross = (xyz) => {
    const { origin, spacing } = ctx.scene;
    ctx.moveCross([2, 1, 0].map((i) => (xyz[i] - origin[i]) / spacing[i]));
  };

  async function load(signal, quality) {
    const { scene } = ctx;
    const colours = ["occupancy", "scale", "confidence", "uncertainty"].filter((name) => name in scene.looks);
    const said = { id: scene.id, source, level, dust, quality, revision: scene.revision };
    const began = performance.now();
    const bytes = source === "modified"
      ? await postBytes("preview_mesh", { ...said, colours, settings: ctx.modification }, signal)
      : await getBytes("mesh", { ...said, colours: colours.join(",") }, signal);
    const mesh = unpack(bytes);
    if (scene.id !== ctx.scene.id || ctx.closed) return;
    // Framed by the first surface of the estimate, wherever the one before it was drawn.
    const framed = shown !== null && shown.revision > 0;
    shown = { ...mesh, revision: scene.revision, quality };
    view.setMesh("surface", {
      positions: mesh.arrays.positions, normals: mesh.arrays.normals, indices: mesh.arrays.indices,
      values: values(), origin: mesh.origin, extent: mesh.extent,
    }, look());
    if (!framed) frame(mesh);
    view.drawNow();
    canvas.dataset.ready = scene.kind === "read" ? `read-${quality}` : quality;
    canvas.dataset.triangles = mesh.triangles;
    canvas.dataset.milliseconds = (performance.now() - began).toFixed(1);
    performance.mark(`${scene.kind === "read" ? "read" : "surface"}-${quality}`);
    const coarse = mesh.step > 1 ? `, every ${mesh.step}${mesh.step === 2 ? "nd" : mesh.step === 3 ? "rd" : "th"} voxel` : "";
    facts.textContent = `${mesh.triangles.toLocaleString("en")} triangles${coarse}`;
    trouble.textContent = mesh.triangles === 0 ? "Nothing is above this level." : "";
  }
  function frame(mesh) {
    view.setBoxAround({ ...mesh.arrays, origin: mesh.origin, extent: mesh.extent });
    if (framing) Object.assign(view, framing);
  }
  const failed = (error) => { trouble.textContent = error.message; };
  const exact = latest(load);
  const refine = () => exact("fine").catch(failed);
  const drag = paced(() => exact("coarse").catch(failed));
  const reload = () => exact("coarse").then(refine).catch(failed);

  /** Values of the vertices, 0 to 255, for the colouring chosen. */
  function values() {
    const arrays = shown.arrays;
    const count = shown.vertices;
    if (colouring.name === "uniform") return new Uint8Array(count);
    if (colouring.name !== "modification") return arrays[`colour:${colouring.name}`];
    const out = new Uint8Array(count).fill(128);
    if (!ctx.factors) return out;
    const { doubtful, certain } = ctx.factors;
    const scale = arrays["colour:scale"];
    const confidence = arrays["colour:confidence"];
    for (let i = 0; i < count; i++) {
      const s = scale[i];
      const factor = doubtful[s] + (confidence[i] / 255) * (certain[s] - doubtful[s]);
      out[i] = Math.min(255, Math.max(0, 127.5 + 63.75 * Math.log2(Math.max(factor, 1e-3))));
    }
    return out;
  }

  function colours() {
    return colouring.palette ? ctx.app.info.palettes[colouring.palette] : [theme().read("--uniform"), theme().read("--uniform")];
  }

  function look() {
    // What goes along as bytes lies between the ends of the layer's own look.
    const [low, high] = shown?.ranges?.[colouring.name] ?? [colouring.low, colouring.high];
    const fraction = (v) => (v - low) / (high - low || 1);
    return { palette: paletteBytes(colours()), range: range.map(fraction), opacity };
  }

  function recolour() {
    drawKey();
    // The surface of a map that was just read carries no values; the next one does.
    if (!shown || !colouring.layers.every((name) => `colour:${name}` in shown.arrays)) return;
    view.setValues("surface", values());
    view.setLook("surface", look());
  }

  function drawKey() {
    if (colouring.name === "uniform") return keybox.replaceChildren();
    const made = key(colours(), range[0], range[1], colouring.title);
    if (colouring.name === "modification") made.querySelector(".keyticks").replaceChildren(...["÷4", "÷2", "1", "×2", "×4"].map((t) => h("span", {}, t)));
    return keybox.replaceChildren(made);
  }

  const sigma = h("i");
  const tellLevel = () => { sigma.textContent = `= ${nice(level / ctx.scene.sigma, 3)} σ`; };
  const top = Math.max(ctx.scene.range[1], 1e-9);
  const levelBar = slider({
    label: "Level", low: top / 400, high: top * 0.9, log: true, value: level, title: "Contour level in map units",
    change: (v) => { level = chosenLevel = v; tellLevel(); drag(); }, settle: (v) => { level = chosenLevel = v; tellLevel(); refine(); },
  });
  levelBar.append(sigma);
  const choice = h("select", { "aria-label": "Colour by", onchange: () => { wanted = choice.value; pickColouring(wanted); } });
  const low = h("input", { type: "number", step: "any", "aria-label": "Colour range from" });
  const high = h("input", { type: "number", step: "any", "aria-label": "Colour range to" });
  for (const field of [low, high]) {
    field.addEventListener("change", () => {
      const typed = [Number(low.value), Number(high.value)];
      if (typed[1] > typed[0]) { range = typed; recolour(); }
    });
  }
  function pickColouring(name, ends) {
    const all = colourings(ctx.scene, ctx.app);
    colouring = all.find((c) => c.name === name) ?? all[0];
    choice.value = colouring.name;
    range = areNumbers(ends, 2) && ends[1] > ends[0] ? [...ends] : [colouring.low, colouring.high];
    [low.value, high.value] = range.map((v) => nice(v));
    low.parentElement.hidden = ["uniform", "modification"].includes(colouring.name);
    recolour();
  }
  const shows = segments("Surface of", [["input", "Input"], ["modified", "Modified"]], source, (name) => { source = name; reload(); });
  const see = slider({ label: "Opacity", low: 0.1, high: 1, step: 0.05, value: 1, change: (v) => setOpacity(v) });
  const setOpacity = (v) => { opacity = v; view.setLook("surface", { opacity }); };
  const side = Math.max(...ctx.scene.spacing.map((a, i) => a * ctx.scene.shape[2 - i]));
  const clipBar = slider({ label: "Clip", low: 0, high: 1, step: 0.01, value: 0, title: "Cut away what is nearer than a plane across the view", change: (v) => { clip = v; cut(); } });
  const cropBar = slider({ label: "Crop", low: 10, high: Math.ceil(side), step: 1, value: Math.ceil(side), unit: "Å", title: "Side of the cube around the cross outside of which nothing is drawn; at its end all is", change: (v) => { crop = v >= Math.ceil(side) ? Infinity : v; box = null; cut(); } });
  const isCropped = () => box !== null || Number.isFinite(crop);
  const faces = cropFaces(view, () => isCropped(), () => {
    const { origin, spacing, shape } = ctx.scene;
    return [...origin, ...origin.map((o, i) => o + spacing[i] * (shape[2 - i] - 1))];
  }, (to) => { box = to; if (!to) crop = Infinity; cropBar.set(Math.min(crop, Math.ceil(side))); cut(); });
  /** Tell the view what is cut away. */
  function cut() {
    const place = ctx.place(ctx.cross);
    view.clip = clip;
    view.low = box ? box.slice(0, 3) : place.map((v) => v - crop / 2);
    view.high = box ? box.slice(3) : place.map((v) => v + crop / 2);
    faces.show();
    drawExtras();
    view.draw();
  }
  const dustBar = h("input", { type: "number", min: 0, step: "any", value: nice(dust, 3), "aria-label": "Hide pieces below",
    onchange: () => { dust = Math.max(0, Number(dustBar.value) || 0); refine(); } });
  // The tile is of interest where full scale comes from it.
  const fromTile = () => ctx.scene.numbers?.full_scale_source === "tile";
  const extras = { tile: wishes.get("tile", true), box: wishes.get("box", false), cross: wishes.get("cross", true) };
  const toggle = (name, title, explain) => h("label.check", { title: explain },
    h("input", { type: "checkbox", checked: extras[name], onchange: (e) => { extras[name] = e.target.checked; wishes.set(name, extras[name]); drawExtras(); } }), title);
  const tileCheck = toggle("tile", "Tile", "Where full scale was found");
  const picture = h("button", { title: "Save this view as PNG", onclick: async () => saveAs(await image(), `${ctx.scene.title}_surface.png`) }, "PNG");

  function state() {
    const { turn = [0, 0, 0, 1], pan = [0, 0], zoom = 1 } = view.camera ?? {};
    const centre = !view.home || view.centre === view.home ? null : view.centre;
    return { level, opacity, colour: colouring.name, range: [...range], source, dust, clip, crop: Number.isFinite(crop) ? crop : null, box, camera: { turn: [...turn], pan: [...pan], zoom, centre } };
  }
  function restore(to) {
    const before = `${level} ${dust} ${source}`;
    const positive = (value, other) => (value > 0 ? value : other);
    if (to.level > 0) level = chosenLevel = to.level;
    dust = to.dust >= 0 ? to.dust : dust;
    clip = Math.min(1, to.clip > 0 ? to.clip : 0);
    crop = positive(to.crop, Infinity);
    box = areNumbers(to.box, 6) && [0, 1, 2].every((i) => to.box[i] < to.box[i + 3]) ? [...to.box] : null;
    source = to.source === "modified" && ctx.scene.kind === "map" ? "modified" : "input";
    setOpacity(Math.min(1, positive(to.opacity, opacity)));
    const bars = [[levelBar, level], [see, opacity], [clipBar, clip], [cropBar, Math.min(crop, Math.ceil(side))]];
    for (const [control, value] of bars) control.set(value);
    dustBar.value = nice(dust, 3);
    tellLevel();
    shows.set(source);
    wanted = typeof to.colour === "string" ? to.colour : wanted;
    pickColouring(wanted, to.range);
    const camera = cameraOf(to);
    if (camera && view.camera) {
      framing = camera.radius > 0 && camera.centre ? { centre: camera.centre, radius: camera.radius } : null;
      Object.assign(view.camera, { turn: [...camera.turn], pan: [...camera.pan], zoom: camera.zoom });
      view.centre = camera.centre ?? view.home ?? view.centre;
      if (framing) view.radius = framing.radius;
    }
    cut();
    if (`${level} ${dust} ${source}` !== before) reload();
  }

  /** An address that shows this map as it is seen now, to anyone whom the server lets in. */
  function link() {
    const now = ctx.state();
    const said = { map: ctx.scene.title, ...now, camera: { ...now.camera, centre: view.centre, radius: view.radius } };
    history.replaceState(null, "", `#${encodeURIComponent(JSON.stringify(said))}`);
    return location.href;
  }
  const share = h("button", { title: "Copy an address that restores level, camera, colours, layers, modification and cross", onclick: async () => {
    const address = link();
    await navigator.clipboard?.writeText(address).catch(() => {});
    facts.textContent = "The address of this view is in the address bar, and copied.";
  } }, "Link");
  const undo = h("button", { title: "Undo the last change of the view (Ctrl+Z)", "aria-label": "Undo", disabled: true, onclick: () => ctx.history.undo() }, "↶");
  const redo = h("button", { title: "Redo (Ctrl+Y)", "aria-label": "Redo", disabled: true, onclick: () => ctx.history.redo() }, "↷");
  ctx.on("history", (past, future) => { undo.disabled = !past; redo.disabled = !future; });

  /** The view with its colour key, as PNG. */
  async function image() {
    view.drawNow();
    const made = h("canvas", { width: canvas.width, height: canvas.height });
    const pen = made.getContext("2d");
    pen.drawImage(canvas, 0, 0);
    if (colouring.name !== "uniform") paintKey(pen, made, colours(), range, colouring.title, theme());
    paintRuler(pen, made, bar.pixels * (canvas.width / canvas.clientWidth), bar.text, theme());
    return new Promise((done) => made.toBlob(done, "image/png"));
  }

  function drawExtras() {
    const { scene } = ctx;
    const paint = hex(theme().read("--line"));
    const extent = scene.spacing.map((a, i) => a * (scene.shape[2 - i] - 1));
    if (extras.box) view.setLines("box", boxLines(scene.origin, extent), [...paint, 1]);
    else view.remove("box");
    if (extras.tile && fromTile()) view.setLines("tile", circles(scene.tile.centre, scene.tile.radius), [...hex(theme().read("--tile")), 1]);
    else view.remove("tile");
    if (extras.cross) view.setLines("cross", crossLines(ctx.place(ctx.cross), extent), [...hex(theme().read("--cross")), 1]);
    else view.remove("cross");
    if (isCropped()) view.setLines("crop", boxLines(view.low, view.high.map((v, i) => v - view.low[i])), [...paint, 1]);
    else view.remove("crop");
  }

  function retheme() {
    view.background = theme().background;
    drawExtras();
    recolour();
    view.draw();
  }
  window.addEventListener("occupy-theme", retheme);

  ctx.on("scene", () => {
    const { scene } = ctx;
    if (shown === null || shown.revision === 0) level = chosenLevel ?? scene.level;
    levelBar.set(level);
    tellLevel();
    choice.replaceChildren(...colourings(scene, ctx.app).map((c) => h("option", { value: c.name }, c.title)));
    pickColouring(wanted);
    shows.hidden = scene.kind === "read";
    tileCheck.hidden = !fromTile();
    cut();
    reload();
  });
  ctx.on("cross", cut);
  ctx.on("factors", () => { if (colouring.name === "modification") recolour(); });
  const modified = latest((signal) => load(signal, "fine"));
  ctx.on("modified", () => { if (source === "modified") modified().catch(failed); });

  /** Show a mask as a transparent surface, or both sides of a residual at three standard deviations; or take them away. */
  ctx.on("mask", async (layer, visible) => {
    const { low, high } = ctx.scene.looks[layer] ?? {};
    const ends = ctx.app.info.palettes.difference;
    const sides = layer === "residual" ? [[0.75 * low, ends[0], 0.7], [0.75 * high, ends[ends.length - 1], 0.7]] : [[0.5, theme().read(layer === "solvent_mask" ? "--cross" : "--tile"), 0.28]];
    for (const [side, [level, colour, opacity]] of sides.entries()) {
      const name = `${layer} ${side}`;
      view.remove(name);
      if (!visible) continue;
      try {
        const { arrays: { positions, normals, indices }, origin, extent } = unpack(await getBytes("mesh", { id: ctx.scene.id, source: layer, level, dust: layer === "residual" ? dust : 0, colours: "", quality: "coarse" }));
        view.setMesh(name, { positions, normals, indices, origin, extent }, { palette: paletteBytes([colour, colour]), range: [0, 1], opacity });
        canvas.dataset.masks = name;
      } catch (error) {
        failed(error);
      }
    }
  });
  /** Show a model's tubes inside the surface; those whose parts were read in the colours of the scale. */
  ctx.on("trace", (tubes) => {
    for (const name of ["trace", "parts"]) view.remove(name);
    for (const [name, read, tube] of tubes) {
      const plain = theme().read("--trace");
      if (tube.indices.length) view.setMesh(name, tube, { palette: paletteBytes(read ? ctx.app.info.palettes.scale : [plain, plain]), range: [0, 1] });
    }
    if (tubes.length && opacity === 1) { see.set(0.4); setOpacity(0.4); }
  });
  ctx.on("go", (place) => view.lookAt(place));
  ctx.on("show", (name) => { source = name; shows.set(name); reload(); });
  ctx.on("colour", (name) => { wanted = name; pickColouring(name); });

  wrap.append(...faces.handles);
  const more = h("details.more", { open: wishes.get("more", false), ontoggle: () => wishes.set("more", more.open) }, h("summary", {}, "Opacity, clipping, dust, kept views"),
    see, clipBar, cropBar, faces.fields,
    h("div.row", {}, h("label.inline", { title: "Smaller pieces are hidden as noise" }, "Dust ", dustBar, h("i", {}, "Å³")), keptViews(ctx)));
  const beside = besideView(ctx, { view, state }, wrap);
  const element = h("div.left.pane", {}, beside.grid,
    h("div.controls", {}, levelBar,
      h("div.row", {}, h("label.inline", {}, "Colour ", choice), h("span.inline.range", {}, low, "to", high), h("span.spacer"), share, picture),
      h("div.row", {}, shows,
        toggle("cross", "Cross", "Where the slices meet"), tileCheck, toggle("box", "Box", "The map's box"), h("span.spacer"),
        undo, redo, h("button", { title: "Start view (Home)", onclick: () => view.camera.reset() }, "Reset")),
      more, beside.choice, facts));
  return { element, view, beside, retheme, image, state, restore };
}
