// Small helpers to build the page.

/** Make an element: h("div.note", { onclick }, "text", child, …). */
export function h(what, options, ...children) {
  const [tag, ...classes] = what.split(".");
  const made = document.createElement(tag || "div");
  if (classes.length) made.className = classes.join(" ");
  for (const [name, value] of Object.entries(options ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "list" && !name.includes("-")) made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** Make an SVG element. */
export function s(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) made.setAttribute(name, value);
  made.append(...children.flat());
  return made;
}

/** The view that the page's address asks for of a map, or null. */
export function linkedView(title) {
  try {
    const said = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    return said.map === title ? said : null;
  } catch {
    return null;
  }
}

/** The round length (1, 2 or 5 times a power of ten) that is nearest below `most`. */
export function roundLength(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return power * (most >= 5 * power ? 5 : most >= 2 * power ? 2 : 1);
}

/** A number for people: four figures, no trailing zeros. */
export function nice(value, figures = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return String(Number(value.toPrecision(figures)));
}

/** A labelled slider with a number field; `change` is called while it moves, `settle` when it rests. */
export function slider({ label, low, high, step, value, unit = "", title = "", log = false, change, settle }) {
  const toBar = (v) => (log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low));
  const fromBar = (p) => (log ? low * (high / low) ** p : low + p * (high - low));
  const field = h("input", { type: "number", step: step ?? "any", value: nice(value), "aria-label": label });
  const bar = h("input", { type: "range", min: 0, max: 1, step: 0.0005, value: toBar(value), "aria-label": label });
  const rounded = (v) => (step ? Number((Math.round(v / step) * step).toPrecision(10)) : Number(v.toPrecision(4)));
  bar.addEventListener("input", () => {
    field.value = nice(rounded(fromBar(Number(bar.value))));
    change?.(Number(field.value));
  });
  bar.addEventListener("change", () => settle?.(Number(field.value)));
  field.addEventListener("change", () => {
    const typed = Number(field.value);
    if (!Number.isFinite(typed) || field.value === "") return;
    bar.value = Math.min(1, Math.max(0, toBar(typed)));
    change?.(typed);
    settle?.(typed);
  });
  const made = h("label.slider", { title }, h("span", {}, label), bar, field, h("i", {}, unit));
  made.set = (v) => {
    field.value = nice(v);
    bar.value = Math.min(1, Math.max(0, toBar(v)));
  };
  made.value = () => Number(field.value);
  return made;
}

/** A choice between a few, as a row of buttons. */
export function segments(label, choices, value, change) {
  const group = h("div.segments", { role: "radiogroup", "aria-label": label });
  const mark = (chosen) => {
    for (const button of group.children) {
      const on = button.dataset.value === chosen;
      button.setAttribute("aria-checked", on);
      button.tabIndex = on ? 0 : -1;
    }
  };
  for (const [name, title] of choices) {
    group.append(h("button", { type: "button", role: "radio", "data-value": name, onclick: () => { mark(name); change(name); } }, title));
  }
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = [...group.children];
    const next = all[(all.findIndex((b) => b.tabIndex === 0) + step + all.length) % all.length];
    next.focus();
    next.click();
  });
  group.set = mark;
  mark(value);
  return group;
}

/** A colour key: a bar with numbers under it. */
export function key(colours, low, high, title) {
  const bar = h("div.keybar");
  bar.style.background = `linear-gradient(to right, ${colours.join(", ")})`;
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((f) => h("span", {}, nice(low + f * (high - low), 3)));
  return h("div.key", {}, h("div.keytitle", {}, title), bar, h("div.keyticks", {}, ticks));
}

/** What a job is doing, and for how long it has been at work. */
export function standing(job) {
  const share = job.total > 4 ? ` ${Math.floor((100 * job.done) / job.total)} %` : "";
  return `${job.stage}${share}, ${job.seconds < 10 ? job.seconds.toFixed(1) : Math.round(job.seconds)} s`;
}

/** A line that says what went right or wrong. */
export function note() {
  const line = h("p.note", { role: "status", "aria-live": "polite" });
  line.good = (text) => { line.classList.remove("bad"); line.textContent = text; };
  line.bad = (error) => { line.classList.add("bad"); line.textContent = String(error.message ?? error); };
  return line;
}

export function theme() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return { read, background: hex(read("--canvas")) };
}

/** "#rrggbb" as fractions. */
export function hex(colour) {
  return [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16) / 255);
}

/** Remember small wishes from visit to visit, where the browser lets us. */
export const wishes = {
  get(name, fallback) {
    try {
      return JSON.parse(localStorage.getItem(`occupy-${name}`)) ?? fallback;
    } catch {
      return fallback;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`occupy-${name}`, JSON.stringify(value));
    } catch { /* then not */ }
  },
};
