// Three linked planes of several layers; the modification is shown live by its factors, as the server gave them.
import { get, getBytes, paced, saveAs } from "./api.js";
import { h, nice, theme, wishes } from "./dom.js";
import { paletteBytes, unpack } from "./surface.js";

const AXES = ["z", "y", "x"];
const PREVIEW = "preview";
const CACHED = 90;

export function slicesView(ctx) {
  let chosen = wishes.get("layers", ["input", "scale", "confidence"]);
  const shown = [null, null, null]; // the latest slice of each axis
  const cache = new Map();
  const enlarge = h("button", { title: "One slice large, the others beside it (double click or Enter on a slice)",
    onclick: () => present().length && toggle(large ? null : { axis: 0, name: present().includes("scale") ? "scale" : present()[0] }) }, "Enlarge");
  const layerBar = h("div.row.layers", { role: "group", "aria-label": "Layers" });
  const grid = h("div.slices");
  const readout = h("div.readout", { role: "status" });
  const bars = AXES.map((name, axis) => h("input", { type: "range", min: 0, step: 1, "aria-label": `Slice along ${name}`,
    oninput: (event) => move(axis, Number(event.target.value)) }));
  const counts = AXES.map(() => h("span"));
  let cells = [];
  let large = null; // the axis and layer of the slice that is enlarged

  const layers = () => Object.keys(ctx.scene.looks).filter((name) => name !== "lowpass" || chosen.includes("lowpass"));
  const titles = (name) => (name === PREVIEW ? "Modified (preview)" : ctx.scene.looks[name].title);
  const present = () => chosen.filter((name) => (name === PREVIEW ? "scale" : name) in ctx.scene.looks);

  function needed() {
    const names = new Set(present().filter((name) => name !== PREVIEW));
    if (present().includes(PREVIEW)) for (const name of ["input", "scale", "confidence"]) names.add(name);
    return [...names];
  }

  function move(axis, index) {
    const cross = [...ctx.cross];
    cross[axis] = index;
    ctx.moveCross(cross);
  }

  /** Lay the grid out anew: one row per axis, one column per layer. */
  function build() {
    const names = present();
    const { shape, spacing } = ctx.scene;
    grid.style.setProperty("--columns", names.length);
    cells = [];
    if (large && !names.includes(large.name)) large = null;
    grid.classList.toggle("one", large !== null);
    enlarge.textContent = large ? "All slices" : "Enlarge";
    const rows = AXES.map((_, axis) => {
      const [up, right] = [0, 1, 2].filter((a) => a !== axis);
      bars[axis].max = shape[axis] - 1;
      const tiles = names.map((name) => {
        const canvas = h("canvas", { width: shape[right], height: shape[up], tabIndex: 0, role: "img", "aria-label": `${titles(name)}, slice along ${AXES[axis]}` });
        const lines = [h("div.cross.across"), h("div.cross.upright")];
        const frame = h("div.frame", {}, canvas, lines);
        frame.style.aspectRatio = `${shape[right] * spacing[2 - right]} / ${shape[up] * spacing[2 - up]}`;
        const cell = { axis, name, canvas, frame, lines, up, right };
        cells.push(cell);
        listen(cell);
        const chosen = large !== null && large.axis === axis && large.name === name;
        const caption = large ? `${titles(name)}, ${AXES[axis]}` : axis === 0 && titles(name);
        return h(chosen ? "div.cell.large" : "div.cell", {}, caption && h("div.caption", {}, caption), frame);
      });
      return h("div.axis", {}, h("label.axisbar", {}, h("b", {}, AXES[axis]), bars[axis], counts[axis]), h("div.tiles", {}, tiles));
    });
    if (large) {
      // One big, and all others beside it, to be enlarged in its place.
      const tiles = rows.flatMap((row) => [...row.querySelectorAll(".cell")]);
      const first = tiles.find((cell) => cell.classList.contains("large"));
      grid.replaceChildren(rows[large.axis].querySelector(".axisbar"), first, h("div.beside", {}, tiles.filter((cell) => cell !== first)));
    } else grid.replaceChildren(...rows);
    grid.dataset.large = large ? `${large.axis} ${large.name}` : "";
    for (let axis = 0; axis < 3; axis++) paint(axis);
    cross();
  }

  function listen(cell) {
    const { canvas, axis, up, right } = cell;
    const under = (event) => {
      const box = canvas.getBoundingClientRect();
      const clamp = (v, n) => Math.min(Math.max(v, 0), n - 1);
      const at = [...ctx.cross];
      at[right] = clamp(Math.floor(((event.clientX - box.left) / box.width) * ctx.scene.shape[right]), ctx.scene.shape[right]);
      at[up] = clamp(Math.floor((1 - (event.clientY - box.top) / box.height) * ctx.scene.shape[up]), ctx.scene.shape[up]);
      return at;
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      canvas.focus({ preventScroll: true });
      ctx.moveCross(under(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) ctx.moveCross(under(event));
      else read(under(event));
    });
    canvas.addEventListener("pointerleave", () => read(ctx.cross));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      move(axis, ctx.cross[axis] + (event.deltaY > 0 ? -1 : 1));
    }, { passive: false });
    canvas.addEventListener("dblclick", () => toggle({ axis, name: cell.name }));
    canvas.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || (event.key === "Escape" && large)) {
        event.preventDefault();
        toggle(event.key === "Escape" ? null : { axis, name: cell.name });
        return;
      }
      const by = { ArrowLeft: [right, -1], ArrowRight: [right, 1], ArrowUp: [up, 1], ArrowDown: [up, -1], PageUp: [axis, 1], PageDown: [axis, -1] }[event.key];
      if (!by || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      move(by[0], ctx.cross[by[0]] + by[1] * (event.shiftKey ? 10 : 1));
    });
  }

  /** Enlarge a slice, or show all again where it is enlarged already. */
  function toggle(which) {
    large = which && large && large.axis === which.axis && large.name === which.name ? null : which;
    ctx.history.changed();
    build();
    grid.querySelector(large ? ".large canvas" : "canvas")?.focus({ preventScroll: true });
  }

  const fetchers = AXES.map((_, axis) => paced(async () => {
    const index = ctx.cross[axis];
    try {
      shown[axis] = await slice(axis, index);
      paint(axis);
    } catch (error) {
      readout.textContent = error.message;
    }
  }));

  async function slice(axis, index) {
    const names = needed().join(",");
    const known = `${ctx.scene.revision} ${axis} ${index} ${names}`;
    if (!cache.has(known)) {
      const began = performance.now();
      const found = unpack(await getBytes("slices", { id: ctx.scene.id, axis, index, layers: names }));
      cache.set(known, found);
      grid.dataset.fetch = (performance.now() - began).toFixed(1);
      if (cache.size > CACHED) cache.delete(cache.keys().next().value);
    }
    return cache.get(known);
  }

  const soon = { timer: 0 };
  /** Fetch the neighbours while nothing moves, for slow lines. */
  function prefetch() {
    clearTimeout(soon.timer);
    soon.timer = setTimeout(async () => {
      for (const axis of [0, 1, 2]) {
        for (const step of [1, -1]) {
          const index = ctx.cross[axis] + step;
          if (index >= 0 && index < ctx.scene.shape[axis] && !ctx.closed) await slice(axis, index).catch(() => {});
        }
      }
    }, 400);
  }

  const palettes = {};
  function palette(name) {
    palettes[name] ??= paletteBytes(ctx.app.info.palettes[name]);
    return palettes[name];
  }

  function paint(axis) {
    const found = shown[axis];
    if (!found || found.axis !== axis) return;
    for (const cell of cells) {
      if (cell.axis !== axis) continue;
      const bytes = cell.name === PREVIEW ? preview(found) : found.arrays[cell.name];
      if (!bytes) continue;
      const look = cell.name === PREVIEW ? ctx.scene.looks.input : ctx.scene.looks[cell.name];
      draw(cell, bytes, found, palette(look.palette), look.palette === "scale");
      cell.canvas.dataset.index = found.index;
    }
    performance.mark("slice-painted");
  }

  function draw(cell, bytes, found, colours, isScale) {
    const { rows, columns } = found;
    const image = new ImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    const table = new Uint32Array(colours.buffer);
    // As in the figures: colours begin at the minimum scale, and what may be solvent is grey.
    const least = isScale ? 255 * ctx.app.info.minimum_scale : 0;
    const grey = isScale ? 255 * ctx.scene.shown_from : 0;
    const threshold = isScale && ctx.threshold !== null ? 255 * ctx.threshold : -1;
    const lookup = new Uint32Array(256);
    for (let v = 0; v < 256; v++) {
      lookup[v] = isScale ? table[Math.max(0, Math.round((v - least) / (255 - least) * 255))] : table[v];
      if (v < grey) lookup[v] = (0xff000000 | (0x010101 * Math.round(30 + (60 * v) / grey))) >>> 0;
      if (v < threshold) lookup[v] = dim(lookup[v], 0.3);
    }
    for (let row = 0; row < rows; row++) {
      const from = row * columns;
      const to = (rows - 1 - row) * columns;
      for (let i = 0; i < columns; i++) pixels[to + i] = lookup[bytes[from + i]];
    }
    if (cell.canvas.width !== columns || cell.canvas.height !== rows) Object.assign(cell.canvas, { width: columns, height: rows });
    cell.canvas.getContext("2d").putImageData(image, 0, 0);
  }

  /** The modified slice, as bytes: input times the factor for its scale and confidence. */
  function preview(found) {
    const { input, scale, confidence } = found.arrays;
    if (!input || !scale || !confidence) return null;
    if (!ctx.factors) return input;
    const began = performance.now();
    const { doubtful, certain } = ctx.factors;
    const [low, high] = found.ranges.input;
    const zero = (-low / (high - low)) * 255;
    const out = new Uint8ClampedArray(input.length);
    for (let i = 0; i < input.length; i++) {
      const s = scale[i];
      out[i] = zero + (input[i] - zero) * (doubtful[s] + (confidence[i] / 255) * (certain[s] - doubtful[s]));
    }
    grid.dataset.preview = (performance.now() - began).toFixed(2);
    return out;
  }

  function cross() {
    const at = ctx.cross;
    AXES.forEach((_, axis) => {
      bars[axis].value = at[axis];
      counts[axis].textContent = `${at[axis]}`;
    });
    for (const { lines, up, right } of cells) {
      lines[0].style.bottom = `${((at[up] + 0.5) / ctx.scene.shape[up]) * 100}%`;
      lines[1].style.left = `${((at[right] + 0.5) / ctx.scene.shape[right]) * 100}%`;
    }
  }

  const read = paced(async (at) => {
    const names = ["input", "scale", "occupancy", "confidence", ...needed()].filter((n, i, all) => all.indexOf(n) === i && n in ctx.scene.looks);
    try {
      const values = await get("values", { id: ctx.scene.id, z: at[0], y: at[1], x: at[2], layers: names.join(",") });
      const place = ctx.place(at).map((v) => v.toFixed(1)).join(", ");
      const parts = names.map((n) => {
        const extra = n === "input" ? ` (${nice(values[n] / ctx.scene.sigma, 3)} σ)` : "";
        return h("span", {}, h("i", {}, ctx.scene.looks[n].title.toLowerCase()), ` ${nice(values[n], 3)}${extra}`);
      });
      if (ctx.factors?.product) {
        const s = Math.round(255 * values.scale);
        const { doubtful, certain } = ctx.factors;
        const factor = doubtful[s] + values.confidence * (certain[s] - doubtful[s]);
        parts.push(h("span", {}, h("i", {}, "modified"), ` × ${nice(factor, 3)}`));
      }
      readout.replaceChildren(h("span", {}, h("i", {}, "x, y, z"), ` ${place} Å`), ...parts);
    } catch (error) {
      readout.textContent = error.message;
    }
  });

  function choose() {
    const names = [...layers(), ...(ctx.scene.looks.scale ? [PREVIEW] : [])];
    layerBar.replaceChildren(...names.map((name) => h("label.check", {},
      h("input", { type: "checkbox", checked: chosen.includes(name), "data-layer": name, onchange: (e) => {
        chosen = e.target.checked ? names.filter((n) => chosen.includes(n) || n === name) : chosen.filter((n) => n !== name);
        wishes.set("layers", chosen);
        ctx.history.changed();
        build();
        for (const fetcher of fetchers) fetcher();
      } }), titles(name))));
  }

  /** All slices as one PNG. */
  async function image() {
    const names = present();
    const side = 320;
    const gap = 12;
    const made = h("canvas", { width: names.length * (side + gap) + gap, height: 3 * (side + gap) + 40 });
    const pen = made.getContext("2d");
    const look = theme();
    pen.fillStyle = look.read("--page");
    pen.fillRect(0, 0, made.width, made.height);
    pen.fillStyle = look.read("--ink");
    pen.font = "14px system-ui, sans-serif";
    names.forEach((name, i) => pen.fillText(titles(name), gap + i * (side + gap), 24));
    for (const cell of cells) {
      const box = cell.frame.getBoundingClientRect();
      const fit = Math.min(side / box.width, side / box.height);
      const [w, t] = [box.width * fit, box.height * fit];
      const x = gap + names.indexOf(cell.name) * (side + gap);
      const y = 36 + cell.axis * (side + gap);
      pen.drawImage(cell.canvas, x, y, w, t);
      pen.fillText(`${AXES[cell.axis]} ${ctx.cross[cell.axis]}`, x + 6, y + t - 8);
    }
    return new Promise((done) => made.toBlob(done, "image/png"));
  }

  function refresh() {
    for (const fetcher of fetchers) fetcher();
    cross();
    read(ctx.cross);
    prefetch();
  }

  function restore(to) {
    if (Array.isArray(to.layers)) chosen = to.layers.filter((name) => typeof name === "string");
    large = [0, 1, 2].includes(to.large?.axis) ? { axis: to.large.axis, name: to.large.name } : null;
    choose();
    build();
    refresh();
  }

  ctx.on("scene", () => { cache.clear(); choose(); build(); refresh(); });
  ctx.on("cross", refresh);
  ctx.on("factors", () => { for (let axis = 0; axis < 3; axis++) paint(axis); });
  ctx.on("threshold", () => { for (let axis = 0; axis < 3; axis++) paint(axis); });
  ctx.on("layer", (name) => {
    if (chosen.includes(name)) return;
    chosen = [...chosen, name];
    choose();
    build();
    refresh();
  });
  const save = h("button", { title: "Save the slices as PNG", onclick: async () => saveAs(await image(), `${ctx.scene.title}_slices.png`) }, "PNG");
  const element = h("div.middle.pane", {}, h("div.row", {}, layerBar, enlarge, save), grid, readout);
  return { element, image, restore, state: () => ({ layers: [...chosen], large }), resize() {} };
}

function dim(colour, factor) {
  const part = (shift) => Math.round(((colour >>> shift) & 255) * factor) << shift;
  return (0xff000000 | part(0) | part(8) | part(16)) >>> 0;
}
