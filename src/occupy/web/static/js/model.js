// A model beside the map: its trace as a tube coloured by what its parts read, and the list of them.
import { getBytes, post } from "./api.js";
import { colourOf } from "./charts.js";
import { h, note, standing } from "./dom.js";
import { fileList } from "./files.js";
import { unpack } from "./surface.js";

const RADIUS = 1.3; // Å
const STEPS = 3;
const SIDES = 6;

export function modelPanel(ctx) {
  const said = note();
  const notices = h("div");
  const by = h("select", { "aria-label": "Parts are", onchange: () => find() },
    [["chain", "chains"], ["entity", "molecules"], ["ligand", "ligands"]].map(([value, title]) => h("option", { value }, title)));
  const reading = h("input", { type: "checkbox", onchange: () => find() });
  const list = partsTable(ctx);
  const choices = h("div.row", { hidden: true }, h("label.inline", {}, "Parts are ", by),
    h("label.check", { title: "The local scale at a part's atoms, instead of fitting all parts to the map together" }, reading, "Read at the atoms"),
    h("button", { onclick: () => remove() }, "Take the model away"));
  const leftOver = h("input", { type: "checkbox", "data-mask": "residual", onchange: () => ctx.emit("mask", "residual", leftOver.checked) });
  const residual = h("div.row.residual", { hidden: true, title: "Map minus fitted model, at three standard deviations: red where the map has less, blue where it has more" },
    h("label.check", {}, leftOver, "What the fit leaves over"), h("button", { onclick: () => ctx.emit("layer", "residual") }, "in slices"));
  const forget = () => { residual.hidden = true; leftOver.checked = false; ctx.emit("mask", "residual", false); };
  let path = null;
  let trace = null;
  let of = -1; // revision of the estimate that was read

  const files = fileList((entry) => choose(entry), { kinds: ["model"] });

  function remove() {
    files.hidden = false;
    path = trace = null;
    ctx.emit("trace", []);
    forget();
    list.show(null);
    notices.replaceChildren();
    said.good("");
    choices.hidden = true;
  }
  async function choose(entry) {
    remove();
    try {
      trace = unpack(await getBytes("trace", { path: entry.path }));
    } catch (error) {
      return said.bad(error);
    }
    path = entry.path;
    files.hidden = true;
    choices.hidden = false;
    ctx.emit("trace", tubes(trace, null));
    document.body.dataset.trace = trace.chains.length;
    return find();
  }
  async function find() {
    if (!path) return;
    const [asked, { id, revision }] = [path, ctx.scene];
    of = revision;
    forget();
    list.show(null);
    notices.replaceChildren();
    try {
      const { job } = await post("parts", { id, path, by: by.value, by_reading: reading.checked });
      const done = await ctx.app.watch(job, (now) => said.good(standing(now)));
      if (path !== asked || of !== revision) return;
      said.good(`${done.result.name}: ${done.result.parts.length} parts, ${done.result.fitted ? "occupancies fitted together" : `${done.result.kind === "scale" ? "local scale" : "occupancy"} at their atoms`}. Click on one to go there.`);
      notices.replaceChildren(...done.result.notices.map((text) => h("p.warn", {}, text)));
      list.show(done.result.parts);
      ctx.emit("trace", tubes(trace, done.result));
      of = done.result.revision;
      if (of !== revision) await ctx.app.showScene(id, false);
      residual.hidden = !done.result.fitted;
      document.body.dataset.parts = done.result.parts.length;
    } catch (error) {
      said.bad(error.message.replace("--by-reading reads", "“Read at the atoms” reads"));
    }
  }
  ctx.on("scene", () => { if (path && ctx.scene.revision !== of) find(); });
  return [
    h("p.faint", {}, "A model in the map's frame is drawn as a tube, checked for its fit, and its parts are listed with what they read."),
    files, choices, said, notices, residual, list.element,
  ];
}

/** The list of parts: what is missing comes first; a click goes there. */
function partsTable(ctx) {
  let parts = [];
  let order = "value";
  const body = h("tbody");
  const filter = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter parts", oninput: () => fill() });
  const heading = (what, title) => h("th", { tabIndex: 0, role: "button", title: `Sort by ${title.toLowerCase()}`, onclick: () => { order = what; fill(); },
    onkeydown: (event) => { if (event.key === "Enter") event.target.click(); } }, title);
  const element = h("div", { hidden: true }, filter, h("table.parts", {}, h("thead", {}, h("tr", {}, heading("name", "Part"), heading("value", "Occupancy"), h("th", {}, "95 %"))), body));
  const row = (part) => {
    const { paint, ink } = colourOf(ctx.app, "scale", part.value, 0, 1);
    const cell = h("td", {}, h("b", {}, part.value?.toFixed(2) ?? "–"), part.error === null ? "" : ` ± ${part.error.toFixed(2)}`);
    Object.assign(cell.style, { background: paint, color: ink });
    const made = h("tr", { tabIndex: 0, role: "button", title: part.note || `Go to ${part.name}`, "data-part": part.name,
      onclick: () => { for (const other of body.children) other.classList.toggle("chosen", other === made); ctx.goTo(part.place); },
      onkeydown: (event) => { if (event.key === "Enter") made.click(); } },
    h("th", {}, part.name, part.note && h("i.noted", {}, " *")), cell, h("td", {}, part.low === null ? "" : `${part.low.toFixed(2)} – ${part.high.toFixed(2)}`));
    return made;
  };
  function fill() {
    const word = filter.value.toLowerCase();
    const compare = { value: (a, b) => (a.value ?? 2) - (b.value ?? 2), name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }) }[order];
    body.replaceChildren(...parts.filter((part) => part.name.toLowerCase().includes(word)).sort(compare).map(row));
  }
  return { element, show(found) { parts = [...(found ?? [])]; element.hidden = !parts.length; filter.value = ""; fill(); } };
}

/** Tubes to draw: where parts were read, one with their values, and one without for the rest. */
function tubes({ arrays: { points, first } }, found) {
  const part = (i) => found?.part_of[i] ?? -1;
  const value = (i) => (part(i) < 0 ? 0 : 255 * Math.min(1, Math.max(0, found.parts[part(i)].value ?? 0)));
  return [["trace", false, tube(points, first, (i) => part(i) < 0, value)], ["parts", true, tube(points, first, (i) => part(i) >= 0, value)]];
}

/** A smooth tube through those runs of points that are wanted, as a mesh. */
function tube(points, first, wanted, value) {
  const rings = [];
  let run = [];
  const close = () => { if (run.length > 1) rings.push(sweep(points, run)); run = []; };
  for (let i = 0; i < first.length; i++) {
    if (first[i] || !wanted(i)) close();
    if (wanted(i)) run.push(i);
  }
  close();
  return mesh(rings, value);
}

const minus = (a, b) => a.map((v, i) => v - b[i]);
const along = (a, b, t) => a.map((v, i) => v + t * b[i]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const unit = (a) => { const length = Math.hypot(...a) || 1; return a.map((v) => v / length); };
const across = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

/** Rings along a run: Catmull and Rom's spline, each frame carried on from the one before so that nothing twists. */
function sweep(points, run) {
  const at = (k) => { const i = 3 * run[Math.min(Math.max(k, 0), run.length - 1)]; return [points[i], points[i + 1], points[i + 2]]; };
  const rings = [];
  let normal = null;
  for (let s = 0; s <= STEPS * (run.length - 1); s++) {
    const k = Math.min(Math.floor(s / STEPS), run.length - 2);
    const t = s / STEPS - k;
    const [a, b, c, d] = [at(k - 1), at(k), at(k + 1), at(k + 2)];
    const [m, n] = [minus(c, a).map((v) => v / 2), minus(d, b).map((v) => v / 2)];
    const place = b.map((v, i) => v + t * (m[i] + t * (3 * (c[i] - v) - 2 * m[i] - n[i] + t * (2 * (v - c[i]) + m[i] + n[i]))));
    const way = unit(b.map((v, i) => m[i] + t * (2 * (3 * (c[i] - v) - 2 * m[i] - n[i]) + 3 * t * (2 * (v - c[i]) + m[i] + n[i]))));
    normal ??= across(way, Math.abs(way[0]) < 0.8 ? [1, 0, 0] : [0, 1, 0]);
    normal = unit(along(normal, way, -dot(normal, way)));
    rings.push({ place, normal, other: across(way, normal), point: run[Math.round(k + t)] });
  }
  return rings;
}

/** Runs of rings as a mesh that a view takes: places as 16 bits of the box around them. */
function mesh(runs, value) {
  const rings = runs.flat();
  const origin = [0, 1, 2].map((a) => rings.reduce((low, r) => Math.min(low, r.place[a]), Infinity) - RADIUS);
  const extent = [0, 1, 2].map((a) => Math.max(rings.reduce((high, r) => Math.max(high, r.place[a]), -Infinity) + RADIUS - origin[a], 1));
  const count = rings.length * SIDES;
  const made = { positions: new Uint16Array(3 * count), normals: new Int8Array(4 * count), values: new Uint8Array(count), origin, extent };
  rings.forEach((ring, r) => {
    for (let side = 0; side < SIDES; side++) {
      const angle = (2 * Math.PI * side) / SIDES;
      const n = ring.normal.map((v, a) => v * Math.cos(angle) + ring.other[a] * Math.sin(angle));
      const v = r * SIDES + side;
      for (let a = 0; a < 3; a++) {
        made.positions[3 * v + a] = Math.round((65535 * (ring.place[a] + RADIUS * n[a] - origin[a])) / extent[a]);
        made.normals[4 * v + a] = Math.round(127 * n[a]);
      }
      made.values[v] = value(ring.point);
    }
  });
  return { ...made, indices: quads(runs) };
}

function quads(runs) {
  const out = [];
  let base = 0;
  for (const run of runs) {
    for (let r = 0; r + 1 < run.length; r++) {
      for (let side = 0; side < SIDES; side++) {
        const [a, b] = [base + r * SIDES + side, base + r * SIDES + ((side + 1) % SIDES)];
        out.push(a, b, a + SIDES, b, b + SIDES, a + SIDES);
      }
    }
    base += run.length * SIDES;
  }
  return new Uint32Array(out);
}
