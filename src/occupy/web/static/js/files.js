// Choosing a file of the server, or an entry of EMDB.
import { get, upload } from "./api.js";
import { h, note } from "./dom.js";

const ICONS = { folder: "▸", map: "◍", result: "◉", set: "⊞", model: "⌬" };
const NAMES = { folder: "folder", map: "map", result: "result", set: "set of maps", model: "model" };

/** A folder's list; `choose(entry)` is called with a map, result, set or model. */
export function fileList(choose, { kinds = ["map", "result", "set"], said } = {}) {
  const where = h("div.path");
  const list = h("ul.files", { role: "listbox", "aria-label": "Files" });
  const filter = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter files", oninput: () => narrow() });
  let here = "";
  const narrow = () => {
    const word = filter.value.toLowerCase();
    for (const row of list.children) row.hidden = !row.dataset.name?.toLowerCase().includes(word);
  };
  const row = (entry) => {
    const go = () => (entry.kind === "folder" ? show(entry.path) : choose(entry));
    const inside = entry.kind === "result" || entry.kind === "set";
    return h("li", { tabIndex: 0, role: "option", "data-name": entry.name, "data-kind": entry.kind,
      onclick: go, onkeydown: (event) => { if (event.key === "Enter") go(); } },
    h("b", {}, ICONS[entry.kind]), h("span", {}, entry.name),
    h("i", {}, entry.bytes === null ? NAMES[entry.kind] : size(entry.bytes)),
    inside && h("button.plain", { title: `Look into ${entry.name}`, onclick: (event) => { event.stopPropagation(); show(entry.path); } }, "▸"));
  };
  async function show(path) {
    try {
      const found = await get("files", { path });
      here = found.path;
      const rows = found.entries.filter((e) => e.kind === "folder" || e.kind === "result" || e.kind === "set" || kinds.includes(e.kind));
      const up = found.parent === null ? [] : [row({ name: "..", kind: "folder", path: found.parent, bytes: null })];
      list.replaceChildren(...up, ...rows.map(row));
      if (!rows.length) list.append(h("li.empty", { "data-name": "" }, "Nothing here that can be opened."));
      if (found.more) list.append(h("li.empty", { "data-name": "" }, `… and ${found.more} more; use the filter of a deeper folder`));
      where.textContent = here === "." ? "/" : `/${here}`;
      filter.value = "";
      said?.good("");
    } catch (error) {
      said?.bad(error);
    }
  }
  show("");
  const element = h("div.browser", {}, h("div.row", {}, where, filter), list);
  element.refresh = () => show(here);
  return element;
}

/** The list of files and the field for EMDB entries. */
export function filesPanel(app) {
  const said = note();
  said.classList.add("openerror");
  const open = async (request, kind) => {
    said.good("opening …");
    try {
      await app.open(request, kind);
      said.good("");
    } catch (error) {
      said.bad(error);
    }
  };
  const beside = h("input", { type: "checkbox", checked: app.info.neighbours });
  const { most, folder } = app.info.upload;
  const send = async (files) => {
    for (const file of files) {
      try {
        if (file.size > most) throw new Error(`${file.name} has ${size(file.size)}; at most ${size(most)} can be uploaded here. Copy it into ${folder}, and open it there.`);
        const { path, kind } = await upload(file, (share) => said.good(`sending ${file.name}: ${Math.floor(100 * share)} %`));
        list.refresh();
        if (kind === "map") await open({ path, neighbours: beside.checked });
        else said.good(`${file.name} is in ${folder}: choose it in the panel Model of a map`);
      } catch (error) {
        said.bad(error);
      }
    }
  };
  const chosen = h("input", { type: "file", multiple: true, hidden: true, "aria-label": "Files to upload", onchange: () => send([...chosen.files]) });
  app.send = send;
  const list = fileList((found) => open({ path: found.path, neighbours: beside.checked }), { said });
  const entry = h("input", { type: "text", placeholder: "EMD-3061", "aria-label": "EMDB entry", size: 12 });
  const typed = h("input", { type: "text", placeholder: "path of a map, a result or a set", "aria-label": "Path", size: 40 });
  return h("div.opener", {},
    h("p.faint", {}, `Files below ${app.info.root}`),
    list,
    h("form.row.typed", { onsubmit: (event) => { event.preventDefault(); open({ path: typed.value.trim(), neighbours: beside.checked }); } },
      h("label", {}, "Path ", typed), h("button", {}, "Open")),
    h("div.row", {}, h("button", { type: "button", title: `Send a map or model of this computer into ${folder}, where occupy view runs`, onclick: () => chosen.click() }, "Upload …"), chosen,
      h("span.faint", {}, `or drop files on this page; they are written into ${folder}`)),
    h("form.row", { onsubmit: (event) => { event.preventDefault(); open({ entry: entry.value, neighbours: beside.checked }, "fetch"); } },
      h("label", {}, "From EMDB ", entry), h("button", {}, "Download")),
    h("label.check", { title: "Half-maps named as RELION, cryoSPARC or EMDB name them tell the noise, which changes the numbers" },
      beside, "Take half-maps that lie beside a map"),
    said);
}

function size(bytes) {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}
