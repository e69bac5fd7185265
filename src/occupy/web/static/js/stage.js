// What is drawn with a surface: colour key, scale bar, axes, boxes and crosses.
import { matrix } from "./geometry.js";
import { nice, s } from "./dom.js";

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
