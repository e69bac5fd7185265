// The page: which map or set is shown, what is under way, theme and help.
import { get, onClosed, onLost, post, follow } from "./api.js";
import { h, note, standing } from "./dom.js";
import { filesPanel } from "./files.js";
import { mapPage } from "./map.js";
import { setPage } from "./set.js";

const main = document.getElementById("main");
const tabs = document.getElementById("tabs");
const busy = document.getElementById("busy");
const pages = new Map();
let current = null;

/** What all parts share. */
export const app = { info: null, open: openPath, watch, showScene, maps };

/** Maps that are open, sets left out. */
function maps() {
  return [...pages].filter(([, page]) => page.kind === "map").map(([id, { title }]) => ({ id, title }));
}

async function start() {
  app.info = await get("state");
  onLost((lost) => { document.getElementById("lost").hidden = !lost; });
  onClosed(sceneClosed);
  for (const scene of app.info.scenes) await addScene(scene.id, false).catch(() => {});
  if (pages.size) select([...pages.keys()].pop());
  else if (!app.info.jobs.length) select("welcome");
  for (const job of app.info.jobs) opened(job);
  document.body.dataset.ready = "page";
}

function welcome() {
  const page = h("section.welcome", {},
    h("h1", {}, "Open a map, an earlier result, or a set of maps"),
    h("p", {}, "Everything is computed where ", h("code", {}, "occupy view"), " runs; only pictures come to this browser."),
    filesPanel(app));
  return { element: page, title: "Open", activate() {}, deactivate() {}, close() {} };
}

function tab(id, title) {
  const close = id === "welcome" ? null : h("button.plain.close", {
    title: `Close ${title}`, "aria-label": `Close ${title}`,
    onclick: (event) => { event.stopPropagation(); closeScene(id); },
  }, "×");
  return h("div.tab", { role: "tab", tabIndex: 0, "data-id": id, title,
    onclick: () => select(id),
    onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") select(id); },
  }, h("span", {}, title), close);
}

function select(id) {
  if (id === "welcome" && !pages.has("welcome")) add("welcome", welcome());
  if (current !== null) pages.get(current)?.deactivate();
  current = id;
  const page = pages.get(id);
  main.replaceChildren(page.element);
  page.activate();
  for (const one of tabs.querySelectorAll(".tab")) one.setAttribute("aria-selected", one.dataset.id === String(id));
  document.title = id === "welcome" ? "OccuPy" : `${page.title} – OccuPy`;
}

function add(id, page) {
  pages.set(id, page);
  const others = [...tabs.querySelectorAll(".tab")];
  tabs.replaceChildren(...others, tab(id, page.title), plus());
}

function plus() {
  return h("button.plain.plus", { title: "Open another map (O)", "aria-label": "Open another map", onclick: () => select("welcome") }, "+");
}

async function addScene(id, show = true) {
  const scene = await get("describe", { id });
  if (pages.has(id)) pages.get(id).update(scene);
  else add(id, scene.kind === "set" ? setPage(app, scene) : mapPage(app, scene));
  if (show) select(id);
}

/** Bring a scene to the front, fetching what has changed. */
async function showScene(id, show = true) {
  await addScene(id, show);
}

/** Take away a scene that the server has closed, and say why, once. */
function sceneClosed(id, reason) {
  const line = document.getElementById("closed");
  line.querySelector("span").textContent = reason;
  line.hidden = false;
  if (pages.has(id)) closeScene(id);
}

async function closeScene(id) {
  pages.get(id)?.close();
  pages.delete(id);
  tabs.querySelector(`[data-id="${id}"]`)?.remove();
  if (current === id) {
    current = null;
    select([...pages.keys()].pop() ?? "welcome");
  }
  await post("close_scene", { id }).catch(() => {});
}

/** Open a file or folder of the server. */
async function openPath(request, kind = "open") {
  const { job } = await post(kind, request);
  return opened(job);
}

async function opened(job) {
  let first = null; // a map is shown as soon as it is read, and estimated meanwhile
  try {
    const done = await watch(job, (now) => {
      if (now.scene && now.state !== "done") first ??= addScene(now.scene, !pages.has(now.scene)).catch(() => {});
      first?.then(() => pages.get(now.scene)?.progress?.(now));
    });
    document.getElementById("closed").hidden = true;
    await first;
    if (done.result.scene) await addScene(done.result.scene, first === null);
    return done;
  } catch (error) {
    await first;
    if (!pages.size) select("welcome");
    if (current === "welcome" || current === null) main.querySelector(".openerror")?.replaceChildren(String(error.message));
    throw error;
  }
}

/** Follow a job and show it in the bar. */
async function watch(job, show) {
  const stop = h("button.plain", { title: "Stop this", onclick: () => post("stop", { job }) }, "stop");
  const line = h("span", {});
  try {
    return await follow(job, (now) => {
      line.textContent = `${now.title}: ${standing(now)}`;
      if (!busy.contains(line) && now.state === "running") busy.replaceChildren(h("span.spin"), line, stop);
      show?.(now);
    });
  } finally {
    if (busy.contains(line)) busy.replaceChildren();
  }
}

const KEYS = [
  ["Drag", "turn"], ["Shift or right drag", "move"], ["Wheel, + −", "zoom"], ["Double click, Home", "start view"],
  ["Click on the surface", "slices go there"], ["Arrow keys", "turn the surface, or move the cross in a slice"],
  ["Wheel, Page Up, Page Down on a slice", "next slice"], ["Click or drag in a slice", "the others follow"],
  ["Double click, Enter on a slice", "enlarge it, or show all (Escape)"],
  ["Ctrl+Z, Ctrl+Y", "undo and redo what changed in the view"],
  ["1 … 6", "panels on the right"], ["O", "open another map"], ["?", "this list"],
];

function help() {
  const dialog = document.getElementById("keys");
  dialog.replaceChildren(h("h2", {}, "Mouse and keys"),
    h("table", {}, KEYS.map(([what, does]) => h("tr", {}, h("th", {}, what), h("td", {}, does)))),
    h("form", { method: "dialog" }, h("button", {}, "Close")));
  dialog.showModal();
}

document.querySelector("#closed button").addEventListener("click", () => { document.getElementById("closed").hidden = true; });
// Files of this computer, dropped anywhere.
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const files = [...event.dataTransfer.files];
  if (!files.length || !app.info) return;
  select("welcome");
  app.send(files);
});
document.getElementById("help").addEventListener("click", help);
document.getElementById("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("occupy-theme", dark ? "light" : "dark");
  } catch { /* only for this visit, then */ }
  window.dispatchEvent(new Event("occupy-theme"));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => window.dispatchEvent(new Event("occupy-theme")));
document.addEventListener("keydown", (event) => {
  const move = (event.ctrlKey || event.metaKey) && !event.target.matches("input:not([type=range], [type=checkbox]), textarea") && { z: event.shiftKey ? "redo" : "undo", y: "redo" }[event.key.toLowerCase()];
  if (move && pages.get(current)?.[move]) {
    event.preventDefault();
    pages.get(current)[move]();
    return;
  }
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") help();
  else if (event.key.toLowerCase() === "o") select("welcome");
  else if (/^[1-6]$/.test(event.key)) main.querySelectorAll(".panels > nav [role=tab]")[event.key - 1]?.click();
});
start().catch((error) => {
  const line = note();
  line.bad(error);
  main.replaceChildren(h("section.welcome", {}, line));
});
