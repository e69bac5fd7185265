// What is drawn with a surface: colour key, scale bar, axes, boxes and crosses.
import { matrix } from "./geometry.js";
import { h, nice, s } from "./dom.js";

const AXES = [["x", "#d55e00"], ["y", "#009e73"], ["z", "#56b4e9"]];
// Turns that bring x, y or z to the viewer.
const TOWARDS = { x: [0, -Math.SQRT1_2, 0, Math.SQRT1_2], y: [Math.SQRT1_2, 0, 0, Math.SQRT1_2], z: [0, 0, 0, 1] };

/** Which way the axes point; a click on one looks along it. */
export function gizmo(look) {
  const parts = AXES.map(([name, colour]) => {
    const line = s("line", { x1: 0, y1: 0, stroke: colour, "stroke-width": 2.2 });
    const text = s("text", { fill: colour, "text-anchor": "middle", "dominant-baseline": "central", role: "button", tabindex: 0, "data-axis": name }, name);
    const title = s("title", {}, `Look along ${name}`);
    text.append(title);
    text.addEventListener("click", () => look(TOWARDS[name]));
    text.addEventListener("keydown", (event) => { if (event.key === "Enter") look(TOWARDS[name]); });
    return { line, text };
  });
  const element = s("svg", { viewBox: "-34 -34 68 68", class: "gizmo", "aria-label": "Axes" });
  return {
    element,
    turn(camera) {
      const m = matrix(camera);
      const ends = parts.map(({ line, text }, a) => {
        const [x, y, z] = [22 * m[3 * a], -22 * m[3 * a + 1], m[3 * a + 2]];
        for (const [key, value] of [["x2", x], ["y2", y]]) line.setAttribute(key, value.toFixed(1));
        for (const [key, value] of [["x", 1.32 * x], ["y", 1.32 * y]]) text.setAttribute(key, value.toFixed(1));
        return { z, line, text };
      });
      // What points to the viewer is drawn last.
      element.replaceChildren(...ends.sort((a, b) => a.z - b.z).flatMap(({ line, text }) => [line, text]));
    },
  };
}

/** A crop box: its numbers in Å, and a handle on each face, to be dragged along its axis. `change` is told six numbers. */
export function cropFaces(view, on, whole, change) {
  const now = () => { const all = whole(); return [...view.low, ...view.high].map((v, i) => (Number.isFinite(v) ? v : all[i])); };
  /** Move one face, by no more than to the one opposite and to the end of the map's box. */
  const move = (face, to) => {
    const [ends, all, low] = [now(), whole(), face < 3];
    const opposite = ends[(face + 3) % 6];
    ends[face] = low ? Math.max(Math.min(to, opposite - 1), all[face]) : Math.min(Math.max(to, opposite + 1), all[face]);
    change(ends.map((v) => Number(v.toFixed(1))));
  };
  const names = [0, 1, 2, 3, 4, 5].map((face) => `${AXES[face % 3][0]} ${face < 3 ? "from" : "to"}`);
  const inputs = names.map((name, face) => h("input", { type: "number", step: "any", "aria-label": `Face ${name}`,
    onchange: (event) => { if (event.target.value !== "") move(face, Number(event.target.value)); show(); } }));
  const fields = h("div.row.crop", { title: "Faces of the crop box, in Å; they can be dragged too" }, [0, 1, 2].map((a) => h("span.inline", {}, AXES[a][0], inputs[a], "–", inputs[a + 3])), "Å",
    h("button", { title: "Show all of the map's box", onclick: () => change(null) }, "Uncrop"));
  const centre = (ends, face) => [0, 1, 2].map((a) => (a === face % 3 ? ends[face] : (ends[a] + ends[a + 3]) / 2));
  /** Pixels that one Å along a face's axis is long on the screen, there. */
  const perAngstrom = (ends, face) => {
    const at = centre(ends, face);
    const [from, to] = [view.project(at), view.project(at.map((v, a) => v + (a === face % 3)))];
    return [to[0] - from[0], to[1] - from[1]];
  };
  const handles = names.map((name, face) => {
    const handle = h("div.face", { hidden: true, title: `Drag to crop ${name}` });
    handle.style.background = AXES[face % 3][1];
    handle.addEventListener("pointerdown", (down) => {
      const [ends, step] = [now(), perAngstrom(now(), face)];
      const length = step[0] ** 2 + step[1] ** 2;
      handle.setPointerCapture(down.pointerId);
      handle.onpointermove = (event) => move(face, ends[face] + ((event.clientX - down.clientX) * step[0] + (event.clientY - down.clientY) * step[1]) / Math.max(length, 1e-4));
      handle.onpointerup = handle.onpointercancel = () => { handle.onpointermove = null; };
    });
    return handle;
  });
  function place() {
    const ends = now();
    handles.forEach((handle, face) => {
      // What points to the viewer cannot be dragged.
      handle.hidden = !on() || Math.hypot(...perAngstrom(ends, face)) < 0.25 * Math.hypot(...[0, 1, 2].map((f) => Math.hypot(...perAngstrom(ends, f))));
      const [x, y] = view.project(centre(ends, face));
      Object.assign(handle.style, { left: `${x}px`, top: `${y}px` });
    });
  }
  function show() {
    const ends = now();
    inputs.forEach((input, face) => { input.value = nice(ends[face]); });
    place();
  }
  return { fields, handles, place, show };
}

/** Draw a scale bar into a picture's lower right corner. */
export function paintRuler(pen, canvas, length, text, look) {
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

/** Edges of a box as line segments. */
export function boxLines(origin, extent) {
  const at = (i) => origin.map((o, a) => o + ((i >> a) & 1) * extent[a]);
  const out = [];
  for (let i = 0; i < 8; i++) for (let a = 0; a < 3; a++) if (!((i >> a) & 1)) out.push(...at(i), ...at(i | (1 << a)));
  return new Float32Array(out);
}

/** Three circles around a place. */
export function circles(centre, radius) {
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

/** A small cross at a place. */
export function crossLines(place, extent) {
  const reach = Math.max(...extent) * 0.06;
  const out = [];
  for (let a = 0; a < 3; a++) for (const end of [-reach, reach]) out.push(...place.map((v, i) => v + (i === a ? end : 0)));
  return new Float32Array(out);
}
