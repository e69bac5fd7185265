// Other open maps beside one, up to six in all: one camera, levels that move together, the same colours.
import { getBytes, get, latest } from "./api.js";
import { h, theme } from "./dom.js";
import { SurfaceView, paletteBytes, unpack } from "./surface.js";

const MOST = 6;
const REST = 200; // ms

/** Stages of other maps around the stage of this one, and the list to choose them from. */
export function besideView(ctx, main, stage) {
  const others = new Map();
  const grid = h("div.together", {}, stage);
  const own = h("div.stagetitle", { hidden: true }, ctx.scene.title);
  stage.append(own);
  const list = h("div.row");
  const choice = h("details.more", { ontoggle: () => fill() }, h("summary", {}, "Other open maps beside this one"), list);
  let timer = 0;

  function fill() {
    const open = ctx.app.maps().filter(({ id }) => id !== ctx.scene.id);
    for (const id of [...others.keys()]) if (!open.some((map) => map.id === id)) drop(id);
    const check = ({ id, title }) => h("label.check", {}, h("input", { type: "checkbox", "data-beside": id, checked: others.has(id),
      disabled: !others.has(id) && others.size + 1 >= MOST, onchange: (event) => { if (event.target.checked) add(id); else drop(id); fill(); } }), title);
    list.replaceChildren(...open.map(check), ...(open.length ? [] : [h("span.faint", {}, "No other map is open; + in the bar above opens one.")]));
  }
  function layout() {
    const count = others.size + 1;
    grid.style.setProperty("--across", count > 2 ? 2 : 1);
    own.hidden = count === 1;
    grid.dataset.count = count;
  }
  function add(id) {
    const canvas = h("canvas.other", { tabIndex: 0, role: "img", "data-map": id, "aria-label": "Surface of another map, turned with the first" });
    const title = h("div.stagetitle");
    const element = h("div.stage", {}, canvas, title);
    const one = { id, canvas, title, element, view: null, scene: null, asked: "" };
    others.set(id, one);
    grid.append(element);
    layout();
    one.view = new SurfaceView(canvas, { camera: main.view.camera, background: theme().background });
    one.load = latest((signal) => load(one, signal));
    one.load().catch((error) => { title.textContent = error.message; });
  }
  function drop(id) {
    const one = others.get(id);
    one?.view.close();
    one?.element.remove();
    others.delete(id);
    layout();
  }
  /** Fetch a map's surface at as many times its own level as the first is shown at. */
  async function load(one, signal) {
    one.scene ??= await get("describe", { id: one.id }, signal);
    const { level, colour } = main.state();
    const name = colour in one.scene.looks ? colour : null;
    const times = level / ctx.scene.level;
    const mesh = unpack(await getBytes("mesh", { id: one.id, source: "input", level: one.scene.level * times, dust: one.scene.dust, quality: "fine", colours: name ?? "" }, signal));
    const { positions, normals, indices } = mesh.arrays;
    const plain = theme().read("--uniform");
    const palette = name ? ctx.app.info.palettes[one.scene.looks[name].palette] : [plain, plain];
    one.view.setMesh("surface", { positions, normals, indices, values: name ? mesh.arrays[`colour:${name}`] : undefined, origin: mesh.origin, extent: mesh.extent }, { palette: paletteBytes(palette), range: [0, 1] });
    one.view.setBoxAround({ positions, origin: mesh.origin, extent: mesh.extent });
    one.title.textContent = one.scene.title;
    follow(one);
    one.view.drawNow();
    one.canvas.dataset.ready = "fine";
  }
  /** The same length in pixels everywhere; the same place too, where maps lie in one frame. */
  function follow(one) {
    const { view, scene } = one;
    if (!scene) return;
    const together = scene.origin.every((o, i) => Math.abs(o - ctx.scene.origin[i]) < 1)
      && scene.spacing.every((a, i) => Math.abs(a * scene.shape[2 - i] - ctx.scene.spacing[i] * ctx.scene.shape[2 - i]) < 2);
    const { radius, clip, centre, low, high } = main.view;
    Object.assign(view, { radius, clip }, together ? { centre, low, high } : {});
    view.draw();
  }
  ctx.on("drawn", () => {
    for (const one of others.values()) follow(one);
    clearTimeout(timer);
    timer = setTimeout(() => {
      const { level, colour } = main.state();
      for (const one of others.values()) {
        const asked = `${level} ${colour}`;
        if (one.asked && one.asked !== asked) one.load().catch((error) => { one.title.textContent = error.message; });
        one.asked = asked;
      }
    }, REST);
  });
  const retheme = () => { for (const { view } of others.values()) { view.background = theme().background; view.draw(); } };
  window.addEventListener("occupy-theme", retheme);
  const close = () => {
    window.removeEventListener("occupy-theme", retheme);
    clearTimeout(timer);
    for (const id of [...others.keys()]) drop(id);
  };
  return { grid, choice, close, refresh: fill };
}
