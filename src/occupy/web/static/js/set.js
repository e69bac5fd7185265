// The page of a set of maps: heat map, gallery, two classes side by side with their difference, components.
import { getBytes, latest, saveAs } from "./api.js";
import { colourOf } from "./charts.js";
import { h, key, nice, note, segments, slider, theme } from "./dom.js";
import { paintKey } from "./stage.js";
import { Camera, SurfaceView, paletteBytes, unpack } from "./surface.js";

const PER_PAGE = 24;
const KINDS = [["occupancy", "Occupancy"], ["relative", "Relative"], ["uncertainty", "Uncertainty"], ["uniform", "One colour"]];

export function setPage(app, first) {
  const ctx = { app, scene: first, level: first.level, kind: "occupancy", a: 0, b: Math.min(1, first.maps.length - 1), camera: new Camera(), listeners: [] };
  // Every picture is framed alike, by what the composite fills: maps differ by what they lack.
  ctx.frame = async () => {
    ctx.framed ??= getBytes("mesh", { id: first.id, source: "composite", level: first.level, dust: first.dust, quality: "thumb", colours: "" }).then((bytes) => {
      const mesh = unpack(bytes);
      return { positions: mesh.arrays.positions, origin: mesh.origin, extent: mesh.extent };
    });
    return ctx.framed;
  };
  ctx.tell = (what) => ctx.listeners.forEach((listen) => listen(what));
  ctx.choose = (slot, index) => { ctx[slot] = index; ctx.tell("chosen"); };
  const views = comparison(ctx);
  const pictures = gallery(ctx);
  const table = heatMap(ctx);
  const left = h("div.pane.setleft", {}, h("h3", {}, `${first.title}: ${first.maps.length} maps`), table, pictures.element);
  const element = h("section.set", {}, left, views.element);
  ctx.tell("chosen");
  return {
    element,
    title: first.title,
    activate() { views.draw(); pictures.load(); },
    deactivate() {},
    close() { views.close(); pictures.close(); },
    update(scene) { ctx.scene = scene; ctx.tell("chosen"); },
  };
}

/** Rows of the table in an order: those that differ most between maps first, by name, or by what one map reads. */
function ordered(scene, by) {
  const read = (cells) => cells.filter((cell) => cell !== null).map((cell) => cell.occupancy);
  const value = {
    difference: (r) => { const found = read(scene.cells[r]); return found.length ? Math.max(...found) - Math.min(...found) : -1; },
    lowest: (r) => -Math.min(2, ...read(scene.cells[r])),
  }[by] ?? ((r) => -(scene.cells[r][by]?.occupancy ?? 2));
  const rows = scene.regions.map((_, r) => r);
  if (by === "name") return rows.sort((a, b) => scene.regions[a].localeCompare(scene.regions[b], "en", { numeric: true }));
  return rows.sort((a, b) => value(b) - value(a));
}

/** What tells names apart, where there is little room: without what all of them begin and end with. */
function shortNames(maps) {
  const names = maps.map((map) => map.told);
  if (names.length < 2 || names.every((name) => name.startsWith("class "))) return names;
  const same = (at) => names.every((name) => at(name) !== undefined && at(name) === at(names[0]));
  let start = 0;
  while (same((name) => name[start])) start += 1;
  let end = 0;
  while (same((name) => (name.length - end > start ? name[name.length - 1 - end] : undefined))) end += 1;
  // Neither a word nor a number is cut in two.
  while (start > 0 && /[A-Za-z0-9]/.test(names[0][start - 1])) start -= 1;
  while (end > 0 && /[A-Za-z0-9]/.test(names[0][names[0].length - end])) end -= 1;
  const short = names.map((name) => name.slice(start, name.length - end));
  return short.every(Boolean) ? short : names;
}

const plusMinus = (cell) => ("standard_error" in cell ? ` ± ${Math.max(cell.standard_error, 0.001).toFixed(cell.standard_error < 0.01 ? 3 : 2)}` : "");

function heatMap(ctx) {
  const { scene, app } = ctx;
  if (!scene.regions.length) return h("p.faint", {}, "No table of occupancies in this folder.");
  const short = shortNames(scene.maps);
  const said = h("p.faint.cellfacts", {}, "Rows are regions, columns maps. Click a cell to see its map coloured by occupancy, a heading to sort by it.");
  const head = h("thead");
  const body = h("tbody");
  let by = "difference";
  const filter = h("input", { type: "search", placeholder: "Filter regions", "aria-label": "Filter regions", oninput: () => draw() });
  const errors = h("input", { type: "checkbox", onchange: () => draw() });
  const sort = h("select", { "aria-label": "Order of the regions", onchange: () => { by = sort.value; draw(); } });
  const about = (region, index, cell) => `${region} in ${scene.maps[index].told}: occupancy ${nice(cell.occupancy, 3)}${plusMinus(cell)}`;
  const tell = (region, index, cell) => {
    const bar = "low_95" in cell ? `, 95 % from ${nice(cell.low_95, 2)} to ${nice(cell.high_95, 2)}` : "";
    said.textContent = `${about(region, index, cell)}${bar}${"voxels" in cell ? `, ${cell.voxels} voxels` : ""}`;
  };
  const heading = (name, title, act) => h("th", { title, tabIndex: 0, role: "button", onclick: act, onkeydown: (event) => { if (event.key === "Enter") act(); } }, h("span", {}, name));
  function cellOf(r, index) {
    const [region, cell] = [scene.regions[r], scene.cells[r][index]];
    if (cell === null) return h("td.none", { title: "not known" }, "–");
    const { paint, ink } = colourOf(app, "scale", cell.occupancy, 0, 1);
    const made = h("td", { tabIndex: 0, role: "button", "data-region": r, "data-map": index, title: about(region, index, cell),
      onclick: () => { tell(region, index, cell); ctx.choose("a", index); views3d(ctx, region); },
      onkeydown: (event) => { if (event.key === "Enter") made.click(); },
      onpointerenter: () => tell(region, index, cell) }, cell.occupancy.toFixed(2), errors.checked && h("small", {}, plusMinus(cell)));
    Object.assign(made.style, { background: paint, color: ink });
    return made;
  }
  function draw() {
    const word = filter.value.toLowerCase();
    const rows = ordered(scene, by).filter((r) => scene.regions[r].toLowerCase().includes(word));
    const choices = [["difference", "what differs most"], ["lowest", "lowest anywhere"], ["name", "name"], ...scene.maps.map((m, i) => [i, `as in ${m.told}`])];
    if (!sort.options.length) sort.replaceChildren(...choices.map(([value, title]) => h("option", { value }, title)));
    sort.value = by;
    head.replaceChildren(h("tr", {}, h("th", {}, ""), ctx.here.map((i) => heading(short[i], `${scene.maps[i].name}: sort regions by it`, () => { by = i; draw(); }))));
    const weights = scene.maps.some((m) => m.weight !== null && m.weight !== undefined)
      ? [h("tr.weights", {}, h("th", {}, "weight"), ctx.here.map((i) => h("td", {}, nice(scene.maps[i].weight, 2))))] : [];
    const named = (r) => heading(scene.regions[r], `${scene.regions[r]}: order the maps by it`, () => ctx.orderBy(r));
    body.replaceChildren(...rows.map((r) => h("tr", {}, named(r), ctx.here.map((index) => cellOf(r, index)))), ...weights);
    mark();
  }
  function mark() {
    for (const cell of body.querySelectorAll("td[data-map]")) cell.classList.toggle("chosen", Number(cell.dataset.map) === ctx.a);
  }
  const table = h("table.heat", {}, head, body);
  // Names that are long even so stand upright.
  table.classList.toggle("upright", Math.max(...short.map((name) => name.length)) > 9);
  ctx.listeners.push((what) => (what === "page" ? draw() : mark()));
  draw();
  return h("div.heatbox", {}, h("div.row", {}, h("label.inline", {}, "Regions by ", sort), filter, h("label.check", { title: "The standard error in every cell" }, errors, "± in cells")),
    h("div.heatscroll", {}, table), said);
}

/** A region whose component was found is shown with the map. */
function views3d(ctx, region) {
  ctx.tell(`region ${region}`);
}

function looks(ctx, index) {
  const { scene, app } = ctx;
  const layer = `${ctx.kind}:${index}`;
  const look = scene.looks[layer];
  if (ctx.kind === "uniform" || !look) {
    const plain = theme().read("--uniform");
    return { layer: null, colours: [plain, plain], range: [0, 1], title: "" };
  }
  const low = look.palette === "scale" ? 0 : look.low;
  return { layer, colours: app.info.palettes[look.palette], range: [low, look.high], own: [look.low, look.high], title: look.title };
}

async function fetchClass(ctx, index, quality, signal) {
  const { layer, colours, range, own } = looks(ctx, index);
  const source = `class:${index}` in ctx.scene.looks && `relative:${index}` in ctx.scene.looks ? `class:${index}` : "composite";
  const mesh = unpack(await getBytes("mesh", { id: ctx.scene.id, source, level: ctx.level, dust: ctx.scene.dust, quality, colours: layer ?? "" }, signal));
  return { mesh, ...shown(mesh, layer, colours, range, own) };
}

function shown(mesh, layer, colours, range, own) {
  const { positions, normals, indices } = mesh.arrays;
  const fraction = own ? range.map((v) => (v - own[0]) / (own[1] - own[0])) : range;
  return {
    source: { positions, normals, indices, values: layer ? mesh.arrays[`colour:${layer}`] : undefined, origin: mesh.origin, extent: mesh.extent },
    look: { palette: paletteBytes(colours), range: fraction },
  };
}

function gallery(ctx) {
  let page = 0;
  let order = ctx.scene.maps.map((_, i) => i);
  let loaded = new Map();
  let frame = null;
  const camera = new Camera();
  const canvas = h("canvas.offstage", { width: 180, height: 150 });
  const grid = h("div.gallery", { role: "list" });
  const where = h("span");
  const back = h("button", { "aria-label": "Previous page", onclick: () => turn(-1) }, "‹");
  const on = h("button", { "aria-label": "Next page", onclick: () => turn(1) }, "›");
  const sort = h("select", { "aria-label": "Order of the maps", onchange: () => { arrange(); page = 0; build(); load(); } },
    h("option", { value: "order" }, "as in the set"), h("option", { value: "weight" }, "by weight"), ctx.scene.regions.map((r, i) => h("option", { value: i }, `by ${r}`)));
  const short = shortNames(ctx.scene.maps);
  ctx.orderBy = (region) => { sort.value = region; sort.dispatchEvent(new Event("change")); };
  let view = null;
  let tiles = [];

  function arrange() {
    const { maps, cells } = ctx.scene;
    order = maps.map((_, i) => i);
    const value = sort.value === "weight" ? (i) => maps[i].weight ?? 0 : sort.value === "order" ? null : (i) => cells[Number(sort.value)][i]?.occupancy ?? -1;
    if (value) order.sort((i, j) => value(j) - value(i));
  }
  function turn(step) {
    page = Math.min(Math.max(page + step, 0), Math.ceil(order.length / PER_PAGE) - 1);
    build();
    load();
  }
  function build() {
    const from = page * PER_PAGE;
    const here = order.slice(from, from + PER_PAGE);
    ctx.here = here;
    ctx.tell("page");
    where.textContent = `${from + 1}–${from + here.length} of ${order.length}`;
    back.disabled = page === 0;
    on.disabled = from + PER_PAGE >= order.length;
    tiles = here.map((index) => {
      const picture = h("canvas", { width: 180, height: 150, "data-map": index });
      const weight = ctx.scene.maps[index].weight;
      const tile = h("button.thumb", { type: "button", role: "listitem", title: `Show ${ctx.scene.maps[index].name}; shift-click to compare`, onclick: (e) => ctx.choose(e.shiftKey ? "b" : "a", index) },
        picture, h("span", {}, short[index]), h("i", {}, weight === null || weight === undefined ? "" : `${nice(100 * weight, 3)} %`));
      return { index, picture, tile };
    });
    grid.replaceChildren(...tiles.map((t) => t.tile));
    mark();
  }
  function mark() {
    for (const { index, tile } of tiles) {
      tile.classList.toggle("a", index === ctx.a);
      tile.classList.toggle("b", ctx.mode === "pair" && index === ctx.b);
    }
  }
  const run = latest(async (signal) => {
    loaded = new Map();
    frame = await ctx.frame();
    for (const { index, picture } of tiles) {
      loaded.set(index, await fetchClass(ctx, index, "thumb", signal));
      paint(index, picture);
    }
    grid.dataset.ready = page;
  });
  const load = () => run().catch((error) => { where.textContent = error.message; });
  function paint(index, picture) {
    const found = loaded.get(index);
    if (!found) return;
    view ??= new SurfaceView(canvas, { camera });
    camera.turn = [...ctx.camera.turn];
    view.background = theme().background;
    view.setMesh("surface", found.source, found.look);
    view.setBoxAround(frame);
    view.drawNow();
    picture.getContext("2d").drawImage(canvas, 0, 0, picture.width, picture.height);
  }
  function repaint() {
    for (const { index, picture } of tiles) paint(index, picture);
  }
  let resting = 0;
  // The gallery follows when the large view has been turned.
  ctx.camera.views.add({ draw() { clearTimeout(resting); resting = setTimeout(repaint, 250); } });
  window.addEventListener("occupy-theme", repaint);
  ctx.listeners.push((what) => {
    mark();
    if (what === "level" || what === "kind") load();
  });
  build();
  return {
    element: h("div.gallerybox", {}, h("div.row", {}, back, where, on, h("label.inline", {}, "Order ", sort)), grid, canvas),
    load,
    close() { view?.close(); clearTimeout(resting); window.removeEventListener("occupy-theme", repaint); },
  };
}

/** One large view, or two with one camera, and the difference of their occupancies. */
function comparison(ctx) {
  const { scene, app } = ctx;
  ctx.mode = "one";
  const said = note();
  const stage = (name) => {
    const canvas = h("canvas.surface", { tabIndex: 0, role: "img", "data-slot": name, "aria-label": `Surface ${name}; drag or use the arrow keys to turn it` });
    const title = h("div.stagetitle");
    const keybox = h("div.keybox");
    return { canvas, title, keybox, element: h("div.stage", {}, canvas, title, keybox), view: null };
  };
  const stages = { a: stage("a"), b: stage("b"), difference: stage("difference") };
  for (const one of Object.values(stages)) one.view = new SurfaceView(one.canvas, { camera: ctx.camera, background: theme().background });
  const components = new Set();
  let spread = 0.5;

  const loaders = Object.fromEntries(Object.keys(stages).map((slot) => [slot, latest(async (signal, quality) => {
    const one = stages[slot];
    const found = slot === "difference" ? await difference(signal, quality) : await fetchClass(ctx, ctx[slot], quality, signal);
    one.view.setMesh("surface", found.source, found.look);
    if (one.framed !== true) one.view.setBoxAround(await ctx.frame());
    one.framed = true;
    const { colours, range, title } = slot === "difference" ? { colours: app.info.palettes.difference, range: [-spread, spread], title: "B − A" } : looks(ctx, ctx[slot]);
    one.keybox.replaceChildren(...(title ? [key(colours, range[0], range[1], title)] : []));
    one.view.drawNow();
    one.canvas.dataset.ready = quality;
    one.canvas.dataset.map = slot === "difference" ? `${ctx.a},${ctx.b}` : ctx[slot];
  })]));
  async function difference(signal, quality) {
    const layer = `difference:${ctx.b}:${ctx.a}`;
    const mesh = unpack(await getBytes("mesh", { id: scene.id, source: "composite", level: ctx.level, dust: scene.dust, quality, colours: layer }, signal));
    return { mesh, ...shown(mesh, layer, app.info.palettes.difference, [-spread, spread], [-1, 1]) };
  }
  const present = () => ({ one: ["a"], pair: ["a", "b"], difference: ["a", "b", "difference"] })[ctx.mode];
  function load(quality = "fine") {
    for (const slot of present()) loaders[slot](quality).then(() => said.good("")).catch((error) => said.bad(error));
    for (const slot of ["a", "b"]) {
      const m = scene.maps[ctx[slot]];
      stages[slot].title.textContent = `${ctx.mode === "one" ? "" : `${slot.toUpperCase()}: `}${m.told}`;
    }
    stages.difference.title.textContent = `${scene.maps[ctx.b].told} − ${scene.maps[ctx.a].told}, on the composite`;
  }
  const select = (slot) => h("select", { "aria-label": `Map ${slot.toUpperCase()}`, onchange: (e) => ctx.choose(slot, Number(e.target.value)) }, scene.maps.map((m, i) => h("option", { value: i, title: m.name }, m.told)));
  const picks = { a: select("a"), b: select("b") };
  const bPick = h("label.inline", {}, "B ", picks.b);
  function layout() {
    const on = present();
    for (const [slot, one] of Object.entries(stages)) one.element.hidden = !on.includes(slot);
    bPick.hidden = ctx.mode === "one";
    boxes.dataset.mode = ctx.mode;
  }
  const mode = segments("View", [["one", "One map"], ["pair", "Side by side"], ["difference", "With difference"]], "one", (name) => {
    // A map beside itself shows nothing: the one that differs most from it, then.
    const unlike = (i) => scene.cells.reduce((sum, row) => sum + Math.abs((row[i]?.occupancy ?? 0) - (row[ctx.a]?.occupancy ?? 0)), i === ctx.a ? -1 : 0);
    if (name !== "one" && ctx.a === ctx.b) ctx.b = scene.maps.reduce((best, _, i) => (unlike(i) > unlike(best) ? i : best), ctx.a);
    ctx.mode = name; layout(); ctx.tell("chosen"); });
  const kind = h("select", { "aria-label": "Colour by", onchange: () => { ctx.kind = kind.value; ctx.tell("kind"); load(); } }, KINDS.map(([name, title]) => h("option", { value: name }, title)));
  const top = scene.range[1];
  const level = slider({ label: "Level", low: top / 200, high: top, log: true, value: ctx.level, title: "One level for all, on the composite's grey scale",
    change: (v) => { ctx.level = v; load("coarse"); }, settle: (v) => { ctx.level = v; ctx.tell("level"); load(); drawComponents(); } });
  const checks = scene.components.map((name, i) => h("label.check", {}, swatch(i), h("input", { type: "checkbox", "data-component": name, onchange: (e) => toggle(name, e.target.checked) }), name.replaceAll("_", " ")));
  function toggle(name, wanted) {
    if (wanted) components.add(name);
    else components.delete(name);
    for (const check of element.querySelectorAll("[data-component]")) if (check.dataset.component === name) check.checked = wanted;
    drawComponents();
  }
  async function drawComponents() {
    for (const [i, name] of scene.components.entries()) {
      const id = `component:${name}`;
      for (const slot of ["a", "b", "difference"]) if (!components.has(name) || !present().includes(slot)) stages[slot].view.remove(id);
      if (!components.has(name)) continue;
      try {
        const mesh = unpack(await getBytes("mesh", { id: scene.id, source: id, level: 0.5, colours: "", quality: "coarse" }));
        const { positions, normals, indices } = mesh.arrays;
        const paint = componentColour(i);
        for (const slot of present()) stages[slot].view.setMesh(id, { positions, normals, indices, origin: mesh.origin, extent: mesh.extent }, { palette: paletteBytes([paint, paint]), range: [0, 1], opacity: 0.3 });
        element.dataset.components = [...components].join(",");
      } catch (error) {
        said.bad(error);
      }
    }
  }
  ctx.listeners.push((what) => {
    for (const slot of ["a", "b"]) picks[slot].value = ctx[slot];
    if (what === "chosen") { load(); drawComponents(); }
    const region = what.startsWith("region ") ? what.slice(7) : null;
    if (region && scene.components.includes(region)) {
      components.clear();
      toggle(region, true);
    }
  });
  const retheme = () => { for (const one of Object.values(stages)) { one.view.background = theme().background; one.view.draw(); } };
  window.addEventListener("occupy-theme", retheme);
  const save = async () => {
    const one = stages[ctx.mode === "difference" ? "difference" : "a"];
    one.view.drawNow();
    const made = h("canvas", { width: one.canvas.width, height: one.canvas.height });
    const pen = made.getContext("2d");
    pen.drawImage(one.canvas, 0, 0);
    const { colours, range, title } = ctx.mode === "difference" ? { colours: app.info.palettes.difference, range: [-spread, spread], title: "occupancy, B − A" } : looks(ctx, ctx.a);
    if (title) paintKey(pen, made, colours, range, title, theme());
    made.toBlob((blob) => saveAs(blob, `${scene.title}_${scene.maps[ctx.a].name}.png`), "image/png");
  };
  const range = h("input", { type: "number", min: 0.05, max: 1, step: 0.05, value: spread, "aria-label": "Range of the difference",
    onchange: () => { spread = Math.min(1, Math.max(0.05, Number(range.value) || 0.5)); load(); } });
  const boxes = h("div.stages", {}, stages.a.element, stages.b.element, stages.difference.element);
  const element = h("div.pane.setright", {},
    h("div.row", {}, mode, h("label.inline", {}, "A ", picks.a), bPick),
    boxes,
    h("div.controls", {}, level,
      h("div.row", {}, h("label.inline", {}, "Colour ", kind), h("label.inline", { title: "Ends of the difference's colours" }, "Difference ± ", range), h("span.spacer"),
        h("button", { onclick: () => ctx.camera.reset() }, "Reset"), h("button", { title: "Save this view as PNG", onclick: save }, "PNG")),
      checks.length ? h("div.row.components", { role: "group", "aria-label": "Components found" }, h("span.faint", {}, "Components:"), checks) : null,
      said));
  layout();
  return {
    element,
    draw() { for (const one of Object.values(stages)) one.view.draw(); },
    close() { window.removeEventListener("occupy-theme", retheme); for (const one of Object.values(stages)) one.view.close(); },
  };
}

// Okabe and Ito's colours, told apart with any colour deficiency.
const COMPONENTS = ["#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#0072b2", "#d55e00", "#f0e442"];

function componentColour(i) {
  return COMPONENTS[i % COMPONENTS.length];
}

function swatch(i) {
  const made = h("span.swatch");
  made.style.background = componentColour(i);
  return made;
}
