// Graphs as SVG: the solvent's histogram with its fit, and the curve of a modification.
import { nice, s } from "./dom.js";
import { paletteBytes } from "./surface.js";

const WIDTH = 420;
const HEIGHT = 230;
const EDGE = { left: 42, right: 36, top: 10, bottom: 34 };

/** Where a value lies in its palette, and the ink that is read on it. */
export function colourOf(app, palette, value, low, high) {
  const bytes = (colourOf[palette] ??= paletteBytes(app.info.palettes[palette]));
  const at = 4 * Math.round(255 * Math.min(1, Math.max(0, (value - low) / (high - low))));
  const luminance = (0.3 * bytes[at] + 0.59 * bytes[at + 1] + 0.11 * bytes[at + 2]) / 255;
  return { paint: `rgb(${bytes[at]} ${bytes[at + 1]} ${bytes[at + 2]})`, ink: luminance > 0.55 ? "#16202b" : "#ffffff" };
}

function frame(label) {
  return s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, class: "chart" });
}

function path(points, name) {
  let d = "";
  let pen = false;
  for (const [x, y] of points) {
    if (!Number.isFinite(y)) { pen = false; continue; }
    d += `${pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = true;
  }
  return s("path", { d, class: name });
}

function ticks(low, high, count = 5) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((v) => v >= rough);
  const out = [];
  for (let v = Math.ceil(low / step) * step; v <= high + 1e-9 * step; v += step) out.push(Math.abs(v) < 1e-9 * step ? 0 : v);
  return out;
}

function bottomAxis(svg, toX, low, high, title) {
  const y = HEIGHT - EDGE.bottom;
  svg.append(s("line", { x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y, y2: y, class: "axisline" }));
  for (const v of ticks(low, high)) {
    svg.append(s("line", { x1: toX(v), x2: toX(v), y1: y, y2: y + 4, class: "axisline" }));
    svg.append(s("text", { x: toX(v), y: y + 15, "text-anchor": "middle" }, nice(v, 3)));
  }
  svg.append(s("text", { x: (EDGE.left + WIDTH - EDGE.right) / 2, y: HEIGHT - 4, "text-anchor": "middle", class: "axistitle" }, title));
}

/** The histogram of low-passed values (log scale), solvent fit, confidence, and what was found. */
export function solventChart(graph, part) {
  const { value, density, fit, confidence } = graph[part];
  const svg = frame("Histogram of low-passed map values with the solvent fit and the confidence");
  const [low, high] = [value[0], value[value.length - 1]];
  const toX = (v) => EDGE.left + ((v - low) / (high - low)) * (WIDTH - EDGE.left - EDGE.right);
  const [floor, top] = [Math.log(graph.floor), Math.log(graph.top * 3)];
  const base = HEIGHT - EDGE.bottom;
  const toY = (d) => base - ((Math.log(Math.max(d, graph.floor)) - floor) / (top - floor)) * (base - EDGE.top);
  const toRight = (c) => base - c * 0.92 * (base - EDGE.top);
  const area = value.map((v, i) => [toX(v), toY(density[i])]);
  const d = `M${toX(low)} ${base}${area.map(([x, y]) => `L${x.toFixed(1)} ${y.toFixed(1)}`).join("")}L${toX(high)} ${base}Z`;
  svg.append(s("path", { d, class: "histogram" }));
  svg.append(path(value.map((v, i) => [toX(v), fit[i] > graph.floor ? toY(fit[i]) : NaN]), "fit"));
  svg.append(path(value.map((v, i) => [toX(v), toRight(confidence[i])]), "confidence"));
  for (const [name, at] of [["mean", graph.mean], ["lowest", graph.lowest], ["full", graph.full]]) {
    if (at > low && at < high) svg.append(s("line", { x1: toX(at), x2: toX(at), y1: EDGE.top, y2: base, class: `mark ${name}` }));
  }
  bottomAxis(svg, toX, low, high, "low-passed map value");
  for (const c of [0, 0.5, 1]) svg.append(s("text", { x: WIDTH - EDGE.right + 5, y: toRight(c) + 4, class: "confidence" }, String(c)));
  const decades = [];
  for (let e = Math.ceil(floor / Math.LN10); e <= top / Math.LN10; e++) decades.push(e);
  for (const e of decades.filter((_, i) => i % Math.ceil(decades.length / 5) === 0)) {
    svg.append(s("text", { x: EDGE.left - 5, y: toY(10 ** e) + 4, "text-anchor": "end" }, "10", s("tspan", { dy: -4, "font-size": 8 }, String(e))));
  }
  return svg;
}

/** Output scale against input scale. */
export function modificationChart(found, lowest, pivot) {
  const svg = frame("What the modification makes of each scale, where confidence is 1");
  const base = HEIGHT - EDGE.bottom;
  const toX = (v) => EDGE.left + v * (WIDTH - EDGE.left - EDGE.right);
  const toY = (v) => base - v * (base - EDGE.top);
  svg.append(s("rect", { x: toX(0), y: EDGE.top, width: Math.max(0, toX(lowest) - toX(0)), height: base - EDGE.top, class: "solventarea" }));
  for (const v of [0.25, 0.5, 0.75, 1]) svg.append(s("line", { x1: toX(0), x2: toX(1), y1: toY(v), y2: toY(v), class: "gridline" }));
  svg.append(path([[toX(0), toY(0)], [toX(1), toY(1)]], "unchanged"));
  for (const curve of Object.values(found.curves)) svg.append(path(found.scale.map((v, i) => [toX(v), toY(curve[i])]), "modified"));
  if (pivot !== null) svg.append(s("circle", { cx: toX(pivot), cy: toY(pivot), r: 4, class: "pivot" }));
  bottomAxis(svg, toX, 0, 1, "local scale of the input");
  for (const v of [0, 0.5, 1]) svg.append(s("text", { x: EDGE.left - 6, y: toY(v) + 4, "text-anchor": "end" }, String(v)));
  return svg;
}
