// The page of one map: the surface on the left, slices in the middle, panels on the right.
import { getBytes, latest, paced, postBytes, saveAs } from "./api.js";
import { h, hex, key, linkedView, nice, roundLength, segments, slider, theme, wishes } from "./dom.js";
import { panels, waitingPanel } from "./panels.js";
import { slicesView } from "./slices.js";
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
  const waiting = first.kind === "read" ? waitingPanel(ctx) : null;
  const element = h("section.map", {}, surface.element, slices.element, waiting ? waiting.element : panels(ctx).element);
  ctx.emit("scene");
  return {
    element,
    title: first.title,
    progress: waiting?.progress,
    activate() { surface.view.draw(); slices.resize(); },
    deactivate() {},
    close() { surface.view.close(); ctx.closed = true; window.removeEventListener("occupy-theme", surface.retheme); },
    update(scene) {
      const estimated = ctx.scene.kind === "read" && scene.kind === "map";
      ctx.before = ctx.scene.numbers ?? null;
      ctx.scene = scene;
      if (estimated) {
        if (!ctx.moved) ctx.cross = middleOf(scene);
        waiting.element.replaceWith(panels(ctx).element);
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
  const linked = linkedView(scene.title);
  return {
    app,
    scene,
    before: null,
    cross: asked(linked?.cross, middleOf(scene)).map((v, a) => Math.min(Math.max(v, 0), scene.shape[a] - 1)),
    modification: modificationOf(scene.asked),
    linked,
    moved: Array.isArray(linked?.cross),
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
    place(cross) {
      const { origin, spacing } = this.scene;
      return [0, 1, 2].map((i) => origin[i] + cross[2 - i] * spacing[i]);
    },
  };
}

/** The camera that a link asks for, or null where its numbers are none. */
function cameraOf(linked) {
  const { turn = [], pan = [], centre = [], zoom, radius } = linked?.camera ?? {};
  const whole = [[turn, 4], [pan, 2], [centre, 3], [[zoom, radius], 2]].every(([list, count]) => Array.isArray(list) && list.length === count && list.every(Number.isFinite));
  return whole && zoom > 0 && radius > 0 ? { turn, pan, zoom, centre, radius } : null;
}

/** Three whole numbers that were asked for, or others. */
function asked(numbers, others) {
  return Array.isArray(numbers) && numbers.length === 3 && numbers.every(Number.isInteger) ? numbers : others;
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
    view = new SurfaceView(canvas, { background: theme().background, onPick: (xyz) => toCross(xyz), onDraw: (a) => ruler(a) });
  } catch (error) {
    wrap.replaceChildren(h("p.note.bad", {}, `${error.message}. Slices and numbers work without it.`));
    view = new Proxy({}, { get: () => () => {} });
  }
  let framed = false;
  let shown = null; // the head of the mesh on screen
  let level = ctx.scene.level;
  let chosenLevel = ctx.linked?.level > 0 ? ctx.linked.level : null; // by the user; else that of the map
  let opacity = 1;
  let dust = ctx.scene.dust;
  let source = "input";
  const known = colourings(ctx.scene, ctx.app);
  let wanted = ctx.linked?.colour ?? "scale";
  let colouring = known[0];
  let range = [colouring.low, colouring.high];
  const keybox = h("div.keybox");
  const facts = h("p.faint.facts");
  const trouble = h("div.trouble", { role: "status" });
  const ruled = h("div.ruler", { title: "Length in the middle of what is shown; nearer parts look larger" }, h("i"), h("b"));
  wrap.append(keybox, ruled, trouble);
  let bar = { pixels: 0, text: "" };

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
    const fresh = shown === null || scene.revision !== shown.revision;
    shown = { ...mesh, revision: scene.revision, quality };
    view.setMesh("surface", {
      positions: mesh.arrays.positions, normals: mesh.arrays.normals, indices: mesh.arrays.indices,
      values: values(), origin: mesh.origin, extent: mesh.extent,
    }, look());
    if (fresh && (quality === "fine" || !framed)) { frame(mesh); framed = true; }
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
    if (camera) Object.assign(view, { centre: camera.centre, radius: camera.radius });
    else view.setBoxAround({ ...mesh.arrays, origin: mesh.origin, extent: mesh.extent });
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
  function pickColouring(name) {
    const all = colourings(ctx.scene, ctx.app);
    colouring = all.find((c) => c.name === name) ?? all[0];
    choice.value = colouring.name;
    range = [colouring.low, colouring.high];
    [low.value, high.value] = range.map((v) => nice(v));
    for (const field of [low, high]) field.disabled = ["uniform", "modification"].includes(colouring.name);
    recolour();
  }
  const shows = segments("Surface of", [["input", "Input"], ["modified", "Modified"]], source, (name) => { source = name; reload(); });
  const see = slider({ label: "Opacity", low: 0.1, high: 1, step: 0.05, value: 1, change: (v) => { opacity = v; view.setLook("surface", { opacity }); } });
  const dustBar = h("input", { type: "number", min: 0, step: "any", value: nice(dust, 3), "aria-label": "Hide pieces below",
    onchange: () => { dust = Math.max(0, Number(dustBar.value) || 0); refine(); } });
  // The tile is of interest where full scale comes from it.
  const fromTile = () => ctx.scene.numbers?.full_scale_source === "tile";
  const extras = { tile: wishes.get("tile", true), box: wishes.get("box", false), cross: wishes.get("cross", true) };
  const toggle = (name, title, explain) => h("label.check", { title: explain },
    h("input", { type: "checkbox", checked: extras[name], onchange: (e) => { extras[name] = e.target.checked; wishes.set(name, extras[name]); drawExtras(); } }), title);
  const tileCheck = toggle("tile", "Tile", "Where full scale was found");
  const picture = h("button", { title: "Save this view as PNG", onclick: async () => saveAs(await image(), `${ctx.scene.title}_surface.png`) }, "PNG");

  /** An address that shows this map as it is seen now, to anyone whom the server lets in. */
  function link() {
    const { turn, pan, zoom } = view.camera;
    const { centre, radius } = view;
    const said = { map: ctx.scene.title, level, colour: colouring.name, camera: { turn, pan, zoom, centre, radius }, cross: ctx.cross,
      layers: wishes.get("layers", ["input", "scale", "confidence"]) };
    history.replaceState(null, "", `#${encodeURIComponent(JSON.stringify(said))}`);
    return location.href;
  }
  const share = h("button", { title: "Copy an address that restores level, camera, colours, layers and cross", onclick: async () => {
    const address = link();
    await navigator.clipboard?.writeText(address).catch(() => {});
    facts.textContent = "The address of this view is in the address bar, and copied.";
  } }, "Link");
  const camera = cameraOf(ctx.linked);
  if (camera && view.camera) Object.assign(view.camera, { turn: camera.turn, pan: camera.pan, zoom: camera.zoom });

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
    drawExtras();
    reload();
  });
  ctx.on("cross", drawExtras);
  ctx.on("factors", () => { if (colouring.name === "modification") recolour(); });
  const modified = latest((signal) => load(signal, "fine"));
  ctx.on("modified", () => { if (source === "modified") modified().catch(failed); });

  /** Show a mask as a transparent surface, or take it away. */
  ctx.on("mask", async (layer, visible) => {
    if (!visible) return view.remove(layer);
    try {
      const mesh = unpack(await getBytes("mesh", { id: ctx.scene.id, source: layer, level: 0.5, colours: "", quality: "coarse" }));
      const colour = theme().read(layer === "solvent_mask" ? "--cross" : "--tile");
      const { positions, normals, indices } = mesh.arrays;
      view.setMesh(layer, { positions, normals, indices, origin: mesh.origin, extent: mesh.extent },
        { palette: paletteBytes([colour, colour]), range: [0, 1], opacity: 0.28 });
    } catch (error) {
      failed(error);
    }
    return undefined;
  });
  ctx.on("trace", (segmentsOfModel) => {
    if (segmentsOfModel) view.setLines("trace", segmentsOfModel, [...hex(theme().read("--trace")), 1]);
    else view.remove("trace");
  });
  ctx.on("show", (name) => { source = name; shows.set(name); reload(); });
  ctx.on("colour", (name) => { wanted = name; pickColouring(name); });

  const element = h("div.left.pane", {}, wrap,
    h("div.controls", {}, levelBar, see,
      h("div.row", {}, h("label.inline", {}, "Colour ", choice), h("span.inline.range", {}, low, "to", high),
        h("label.inline", { title: "Smaller pieces are hidden as noise" }, "Dust ", dustBar, h("i", {}, "Å³")),
        h("span.spacer"), share, picture),
      h("div.row", {}, shows,
        toggle("cross", "Cross", "Where the slices meet"), tileCheck, toggle("box", "Box", "The map's box"),
        h("span.spacer"), h("button", { title: "Start view (Home)", onclick: () => view.camera.reset() }, "Reset")),
      facts));
  return { element, view, retheme, image, level: () => level };
}

/** Draw a scale bar into a picture's lower right corner. */
function paintRuler(pen, canvas, length, text, look) {
  const unit = canvas.height / 480;
  const [right, y] = [canvas.width - 16 * unit, canvas.height - 20 * unit];
  pen.fillStyle = look.read("--ink");
  pen.fillRect(right - length, y, length, 3 * unit);
  pen.font = `${12 * unit}px system-ui, sans-serif`;
  pen.textAlign = "center";
  pen.fillText(text, right - length / 2, y - 6 * unit);
}

/** Draw a colour key into a picture's lower left corner. */
export function paintKey(pen, canvas, colours, range, title, look) {
  const unit = canvas.height / 480;
  const [x, y, width, height] = [16 * unit, canvas.height - 44 * unit, 170 * unit, 12 * unit];
  const fill = pen.createLinearGradient(x, 0, x + width, 0);
  colours.forEach((c, i) => fill.addColorStop(i / Math.max(colours.length - 1, 1), c));
  pen.fillStyle = fill;
  pen.fillRect(x, y, width, height);
  pen.fillStyle = look.read("--ink");
  pen.font = `${12 * unit}px system-ui, sans-serif`;
  pen.textAlign = "left";
  pen.fillText(title, x, y - 6 * unit);
  pen.textAlign = "center";
  for (const f of [0, 0.5, 1]) pen.fillText(nice(range[0] + f * (range[1] - range[0]), 3), x + f * width, y + height + 15 * unit);
}

function boxLines(origin, extent) {
  const at = (i) => origin.map((o, a) => o + ((i >> a) & 1) * extent[a]);
  const out = [];
  for (let i = 0; i < 8; i++) for (let a = 0; a < 3; a++) if (!((i >> a) & 1)) out.push(...at(i), ...at(i | (1 << a)));
  return new Float32Array(out);
}

function circles(centre, radius) {
  const out = [];
  const around = (axis, angle) => {
    const p = [...centre];
    p[(axis + 1) % 3] += radius * Math.cos(angle);
    p[(axis + 2) % 3] += radius * Math.sin(angle);
    return p;
  };
  for (let axis = 0; axis < 3; axis++) for (let i = 0; i < 48; i++) out.push(...around(axis, (i * Math.PI) / 24), ...around(axis, ((i + 1) * Math.PI) / 24));
  return new Float32Array(out);
}

function crossLines(place, extent) {
  const reach = Math.max(...extent) * 0.06;
  const out = [];
  for (let a = 0; a < 3; a++) for (const end of [-reach, reach]) out.push(...place.map((v, i) => v + (i === a ? end : 0)));
  return new Float32Array(out);
}
