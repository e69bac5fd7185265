// The panels on the right of a map: estimate, solvent, modification, masks, model, export.
import { download, paced, post, saveAs } from "./api.js";
import { modificationChart, solventChart } from "./charts.js";
import { h, nice, note, segments, slider, standing, wishes } from "./dom.js";
import { modelPanel } from "./model.js";

const PARTS = [["estimate", "Estimate"], ["solvent", "Solvent"], ["modify", "Modify"], ["masks", "Masks"], ["model", "Model"], ["export", "Export"]];
const MODIFICATIONS = ["amplify", "attenuate", "sigmoid"];

export function panels(ctx) {
  const makers = { estimate: estimatePanel, solvent: solventPanel, modify: modifyPanel, masks: masksPanel, model: modelPanel, export: exportPanel };
  const bodies = Object.fromEntries(PARTS.map(([name]) => [name, h("div.panel", { role: "tabpanel", id: `panel-${name}-${ctx.scene.id}` }, makers[name](ctx))]));
  const nav = h("nav", { role: "tablist" }, PARTS.map(([name, title]) => h("button", { role: "tab", type: "button", "data-panel": name, onclick: () => pick(name) }, title)));
  const notices = h("div.notices");
  function pick(chosen) {
    for (const button of nav.children) button.setAttribute("aria-selected", button.dataset.panel === chosen);
    for (const [name, body] of Object.entries(bodies)) body.hidden = name !== chosen;
  }
  pick("estimate");
  ctx.on("scene", () => {
    const { scene } = ctx;
    const loud = scene.bad_fit ? [h("p.alarm", { role: "alert" }, "Bad solvent fit: do not trust the confidence, nor maps weighted by it.")] : [];
    notices.replaceChildren(...loud, ...scene.notices.map((n) => h(n.code === "neighbours" ? "p.faint" : n.grave ? "p.alarm" : "p.warn", {}, n.text)));
  });
  const element = h("aside.panels.pane", {}, nav, notices, ...Object.values(bodies));
  return { element, pick };
}

/** What stands there until the map that is shown already has been estimated. */
export function waitingPanel(ctx) {
  const stage = h("p.stageline", { role: "status" }, "reading …");
  const bar = h("progress", { max: 4, value: 0, "aria-label": "Progress of the estimate" });
  const stop = h("button", {}, "Stop");
  const log = h("pre.log", { "aria-label": "Log" });
  const title = h("h3");
  const lowpass = h("input", { type: "number", min: 0, step: "any", placeholder: "auto", value: ctx.scene.asked.lowpass ?? "", "aria-label": "Low-pass" });
  const beside = h("input", { type: "checkbox", checked: ctx.scene.inputs.neighbours });
  const again = h("form.settings", { hidden: true, onsubmit: (event) => { event.preventDefault(); retry(); } },
    h("label.setting", {}, h("span", {}, "Low-pass"), lowpass, h("i", {}, "Å")),
    h("label.check", { title: "Half-maps named as RELION, cryoSPARC or EMDB name them" }, beside, "Take half-maps that lie beside the map"),
    h("div.row", {}, h("button.primary", {}, "Estimate again")));
  async function retry() {
    again.hidden = true;
    const settings = { ...ctx.scene.asked, lowpass: Number(lowpass.value) || undefined };
    await ctx.app.open({ id: ctx.scene.id, settings, neighbours: beside.checked }, "estimate").catch((error) => { if (again.hidden) progress({ state: "failed", error: error.message }); });
  }
  function progress(now) {
    const over = now.state === "failed" || now.state === "stopped";
    stage.classList.toggle("bad", now.state === "failed");
    stage.textContent = now.state === "failed" ? now.error : over ? "Only the map itself is shown." : standing(now);
    title.textContent = over ? "Not estimated" : "Estimating the local scale …";
    bar.hidden = stop.hidden = over;
    again.hidden = !over;
    if (now.total) Object.assign(bar, { max: now.total, value: now.done });
    if (now.log) log.textContent = now.log.join("\n");
    stop.onclick = () => now.id && post("stop", { job: now.id });
  }
  progress(ctx.scene.at_work ? { stage: "reading", seconds: 0 } : { state: "stopped" });
  const element = h("aside.panels.pane.waiting", {}, title, stage, bar, again,
    h("p.faint", {}, "The map is shown as it was read. Colours, confidence and settings follow as soon as they are known."), h("div.row", {}, stop), log);
  return { element, progress };
}

// ------------------------------------------------------------------ estimate

// In words: what a setting is called on the page, the few that most people need first.
const COMMON = { lowpass: "Low-pass", mode: "What is compared" };
const EXPERT = {
  estimator: "Estimator", resolution: "Worst resolution", kernel_radius: "Radius of the footprint", kernel_size: "Box of the footprint",
  tile_size: "Size of a tile", tau: "Quantile for full scale", naive: "Full scale from the maximum", recalibrate: "Zero at the lowest confident value",
  hedge: "Power of the confidence", fdr: "False-discovery rate", bfactor: "Relative B-factors", max_box: "Largest box", threads: "Threads",
};
const TERMS = [
  ["footprint", "the ball around each voxel in which the highest value is taken: what the voxel reads"],
  ["full scale", "what a fully occupied part reads; everything else is a share of it"],
  ["tile", "a block of the map; where full scale comes from tiles, the one that reads most like a full part gives it"],
  ["power", "how strongly something is applied: 1 changes nothing"],
];

/** What the program chose for a setting, as text. */
function automatic(name, resolved) {
  const value = resolved?.[name];
  if (value === undefined || value === null) return "";
  return nice(Array.isArray(value) ? value[0] : value, 4);
}

function estimatePanel(ctx) {
  const said = note();
  const fields = new Map();
  const numbers = h("table.numbers");
  const log = h("pre.log", { "aria-label": "Log" });
  const command = h("code.command");
  const copy = h("button", { onclick: () => navigator.clipboard?.writeText(command.textContent).then(() => said.good("copied")) }, "Copy");
  const run = h("button.primary", { title: "Estimate again with these settings" }, "Run");
  const stop = h("button", { disabled: true }, "Stop");
  const back = h("button", { hidden: true, title: "The settings that gave what is shown", onclick: () => show(ctx.scene.asked, ctx.scene.inputs.neighbours) }, "Back to those shown");
  const auto = h("input", { type: "checkbox" });
  const beside = h("input", { type: "checkbox", onchange: () => resolve() });
  const besideRow = h("label.check", { title: "They tell the noise, which changes the numbers" }, beside, "Half-maps beside the map");
  const read = h("p.faint");
  let resolved = ctx.scene.settings;
  let job = null;

  const schema = ctx.app.info.schema.filter((f) => ["Scale", "Solvent"].includes(f.panel) && !["exclude_solvent", "use_confidence"].includes(f.name));
  schema.push(...ctx.app.info.schema.filter((f) => f.name === "threads"));

  function value(field) {
    const input = fields.get(field.name);
    if (field.kind === "bool") return input.checked;
    if (input.value === "") return null;
    if (field.choices.length || field.kind === "text") return input.value;
    return Number(input.value);
  }
  function settings() {
    const out = {};
    for (const field of schema) {
      const v = value(field);
      if (v !== null && v !== field.default) out[field.name] = v;
    }
    return out;
  }
  function put(asked) {
    for (const field of schema) {
      const v = asked[field.name] ?? field.default;
      const input = fields.get(field.name);
      if (field.kind === "bool") input.checked = Boolean(v);
      else input.value = v ?? "";
    }
  }
  const resolve = paced(async () => {
    const differs = JSON.stringify(settings()) !== JSON.stringify(pickFrom(ctx.scene.asked, schema))
      || beside.checked !== ctx.scene.inputs.neighbours;
    back.hidden = !differs;
    ctx.history.changed();
    try {
      const found = await post("resolve", { id: ctx.scene.id, neighbours: beside.checked, settings: { ...settings(), ...asModification(ctx) } });
      resolved = found.settings;
      command.textContent = found.command;
      for (const field of schema) {
        const input = fields.get(field.name);
        const chosen = automatic(field.name, resolved);
        const unsaid = chosen ? `auto: ${chosen}` : "none";
        if (field.default === null && field.choices.length) input.options[0].textContent = resolved[field.name] ? `auto: ${resolved[field.name]}` : "auto";
        else if (field.default === null) input.placeholder = unsaid;
        input.classList.remove("wrong");
      }
      run.classList.toggle("pending", differs);
      said.good(differs ? "Settings differ from those of the result shown." : "");
      if (differs && auto.checked && job === null) start();
    } catch (error) {
      said.bad(error);
    }
  });
  function row(field) {
    const label = COMMON[field.name] ?? EXPERT[field.name] ?? field.name.replaceAll("_", " ");
    const explained = field.help.replace(/ ?\[default: [^\]]*\]/, "");
    const changed = () => resolve();
    let input;
    if (field.kind === "bool") input = h("input", { type: "checkbox", onchange: changed });
    else if (field.choices.length) input = h("select", { onchange: changed }, field.default === null && h("option", { value: "" }, "auto"), field.choices.map((c) => h("option", { value: c }, c)));
    else input = h("input", { type: field.kind === "text" ? "text" : "number", step: "any", onchange: changed });
    input.dataset.setting = field.name;
    fields.set(field.name, input);
    return h("label.setting", {}, h("span", {}, label), input, h("i", {}, field.unit), h("small", {}, explained));
  }
  const isCommon = (field) => field.name in COMMON;
  const expert = h("details.more", { open: wishes.get("expert", false), ontoggle: () => wishes.set("expert", expert.open) }, h("summary", {}, "Expert settings"),
    h("dl.terms", {}, TERMS.map(([term, means]) => [h("dt", {}, term), h("dd", {}, means)])), schema.filter((field) => !isCommon(field)).map(row));
  const form = h("form.settings", { onsubmit: (event) => { event.preventDefault(); start(); } }, schema.filter(isCommon).map(row), expert);
  async function start() {
    const asked = settings();
    run.disabled = true;
    stop.disabled = false;
    log.textContent = "";
    try {
      ({ job } = await post("estimate", { id: ctx.scene.id, settings: asked, neighbours: beside.checked }));
      await ctx.app.watch(job, (now) => { log.textContent = now.log.join("\n"); });
      job = null;
      await ctx.app.showScene(ctx.scene.id, false);
      document.body.dataset.estimated = ctx.scene.revision;
    } catch (error) {
      said.bad(error);
    } finally {
      job = null;
      run.disabled = false;
      stop.disabled = true;
    }
  }
  run.addEventListener("click", start);
  stop.addEventListener("click", () => job && post("stop", { job }));
  auto.addEventListener("change", () => resolve());

  function show(asked, neighbours) {
    beside.checked = neighbours;
    put(asked);
    resolve();
  }
  ctx.settings = () => ({ asked: settings(), neighbours: beside.checked });
  ctx.on("settings", ({ asked, neighbours }) => show(asked, neighbours));
  ctx.on("scene", () => {
    const { files, neighbours, beside: found } = ctx.scene.inputs;
    besideRow.hidden = !found;
    read.textContent = Object.keys(files).length ? `Read with the map: ${Object.values(files).join(", ")}` : "";
    numbers.replaceChildren(...numberRows(ctx.scene, ctx.before));
    show(ctx.scene.asked, neighbours);
  });
  ctx.on("modified", () => resolve());
  return [
    h("h3", {}, "What was found"), numbers, read,
    h("h3", {}, "Settings"), h("p.faint", {}, "Empty fields are chosen by the program; what it chose stands in grey."),
    form, besideRow,
    h("div.row", {}, run, stop, back, h("label.check", { title: "Estimate again whenever a setting changes" }, auto, "at every change")),
    said,
    h("h3", {}, "The same in a shell"), h("div.row.commandrow", {}, command, copy),
    log,
  ];
}

function pickFrom(asked, schema) {
  const out = {};
  for (const field of schema) if (asked[field.name] !== undefined && asked[field.name] !== null && asked[field.name] !== field.default) out[field.name] = asked[field.name];
  return out;
}

function numberRows(scene, before) {
  const rows = [
    ["Full scale", (n) => n.full_scale_value, "map units"],
    ["Lowest confident scale", (n) => n.lowest_confident_scale, ""],
    ["Solvent mean", (n) => n.solvent.mean, "map units"],
    ["Solvent σ", (n) => n.solvent.sigma, "map units"],
    ["Misfit of the solvent", (n) => n.solvent.misfit, ""],
    ["Variability limit", (n) => n.variability_limit, ""],
  ];
  if (scene.numbers.target) rows.push(["Target occupancy", (n) => n.target?.occupancy, ""]);
  const size = scene.shape.slice().reverse().join(" × ");
  const voxel = [...new Set(scene.spacing.map((a) => nice(a)))].join(", ");
  const was = (of) => {
    if (!before) return "";
    const [a, b] = [nice(of(before)), nice(of(scene.numbers))];
    return a === b ? "" : `was ${a}`;
  };
  return [
    h("tr", {}, h("th", {}, "Box"), h("td", {}, size), h("td", {}, "voxels")),
    h("tr", {}, h("th", {}, "Voxel"), h("td", {}, voxel), h("td", {}, "Å")),
    h("tr", {}, h("th", {}, "Low-pass"), h("td", {}, nice(scene.settings.lowpass)), h("td", {}, "Å")),
    ...rows.map(([title, of, unit]) => h("tr", {}, h("th", {}, title), h("td", {}, nice(of(scene.numbers))), h("td", {}, unit, " ", h("i.was", {}, was(of))))),
  ];
}

/** The modification on the page, as settings. */
function asModification(ctx) {
  return { ...ctx.modification };
}

// ------------------------------------------------------------------ solvent

function solventPanel(ctx) {
  let part = "peak";
  const chart = h("div.chartbox");
  const draw = () => chart.replaceChildren(solventChart(ctx.scene.graph, part));
  const list = h("ul.legend");
  ctx.on("scene", () => {
    const { graph, numbers } = ctx.scene;
    const item = (name, text) => h("li", { "data-mark": name }, text);
    list.replaceChildren(
      item("histogram", "low-passed values"), item("fit", `Gaussian solvent, misfit ${nice(100 * (numbers.solvent.misfit ?? NaN), 2)} %`),
      item("confidence", "confidence (right axis)"), item("mean", `solvent mean ${nice(graph.mean, 3)}`),
      item("lowest", `lowest confident value ${nice(graph.lowest, 3)} (scale ${nice(numbers.lowest_confident_scale, 2)})`),
      item("full", `full scale ${nice(graph.full, 3)}`));
    draw();
  });
  return [
    segments("Range", [["peak", "Solvent peak"], ["full", "Up to full scale"]], part, (name) => { part = name; draw(); }),
    chart, list,
    h("p.faint", {}, "Confidence is 1 − solvent fit / histogram: where it is low, content can't be told from solvent. The scale itself does not depend on this fit."),
  ];
}

// ------------------------------------------------------------------ modify

const MEANS = {
  none: "The map as it is. Choose what is done to parts that are not fully occupied.",
  amplify: "Weak parts are made stronger. The power says how much: 1 leaves them, large powers make all parts equally strong.",
  attenuate: "Weak parts are made weaker. The power says how much: 1 leaves them, large powers delete all that is not full.",
  sigmoid: "Parts above the pivot are made stronger, parts below it weaker. The power says how much; at 1 nothing changes.",
};

function modifyPanel(ctx) {
  const said = note();
  const chart = h("div.chartbox");
  const kinds = [["none", "None"], ["amplify", "Amplify"], ["attenuate", "Attenuate"], ["sigmoid", "Sigmoid"]];
  let kind = MODIFICATIONS.find((k) => ctx.modification[k]) ?? "none";
  let found = null;

  const fetchFactors = paced(async () => {
    try {
      const began = performance.now();
      found = await post("modification", { id: ctx.scene.id, settings: ctx.modification });
      ctx.factors = found;
      ctx.emit("factors");
      chart.replaceChildren(modificationChart(found, ctx.scene.settings.recalibrate ? 0 : ctx.scene.numbers.lowest_confident_scale, kind === "sigmoid" ? ctx.modification.pivot : null));
      chart.dataset.milliseconds = (performance.now() - began).toFixed(1);
      said.good("");
      performance.mark("modification-shown");
    } catch (error) {
      said.bad(error);
    }
  });
  function change(settled = false) {
    for (const name of MODIFICATIONS) delete ctx.modification[name];
    if (kind !== "none") ctx.modification[kind] = power.value();
    ctx.modification.pivot = pivot.value();
    ctx.modification.scale_limit = limit.value();
    ctx.modification.exclude_solvent = exclude.checked;
    ctx.modification.use_confidence = weight.checked;
    const low = Number(lowpass.value);
    if (low > 0) ctx.modification.lowpass_output = low;
    else delete ctx.modification.lowpass_output;
    pivot.hidden = kind !== "sigmoid";
    power.hidden = kind === "none";
    fetchFactors();
    ctx.history.changed();
    if (settled) ctx.emit("modified");
  }
  const settle = () => change(true);
  const power = slider({ label: "Power", low: 1, high: 1000, log: true, value: ctx.modification[kind] ?? 3, title: "1 leaves the map as it is; large powers equalise (amplify) or delete (attenuate)", change: () => change(), settle });
  const pivot = slider({ label: "Pivot", low: 0.02, high: 0.98, step: 0.01, value: ctx.modification.pivot, title: "Scale that stays as it is", change: () => change(), settle });
  const limit = slider({ label: "Scale limit", low: 0, high: 0.5, step: 0.01, value: ctx.modification.scale_limit, title: "Below this scale nothing is modified", change: () => change(), settle });
  const exclude = h("input", { type: "checkbox", checked: ctx.modification.exclude_solvent, onchange: settle });
  const weight = h("input", { type: "checkbox", checked: ctx.modification.use_confidence, onchange: settle });
  const lowpass = h("input", { type: "number", min: 0, step: "any", placeholder: "none", value: ctx.modification.lowpass_output ?? "", "aria-label": "Low-pass of the output", onchange: settle });
  const choose = segments("Modification", kinds, kind, (name) => { kind = name; change(true); });
  pivot.hidden = kind !== "sigmoid";
  power.hidden = kind === "none";
  ctx.on("modification", () => {
    const to = ctx.modification;
    kind = MODIFICATIONS.find((name) => to[name]) ?? "none";
    choose.set(kind);
    for (const [control, value] of [[power, to[kind]], [pivot, to.pivot], [limit, to.scale_limit]]) if (value > 0) control.set(value);
    exclude.checked = Boolean(to.exclude_solvent);
    weight.checked = to.use_confidence !== false;
    lowpass.value = to.lowpass_output ?? "";
    change(true);
  });
  ctx.on("scene", () => change());
  const means = h("p.faint");
  ctx.on("factors", () => { means.textContent = MEANS[kind]; });
  return [
    choose, means, power, pivot, limit,
    h("div.row", {}, h("label.check", {}, exclude, "Leave solvent out"), h("label.check", { title: "Modify only where content is confident" }, weight, "Weight by confidence")),
    h("label.setting", { title: "Shown in the surface and written; not in the slices' preview" }, h("span", {}, "low-pass output"), lowpass, h("i", {}, "Å")),
    chart, said,
    h("div.row", {}, h("button", { onclick: () => ctx.emit("layer", "preview") }, "Show in slices"),
      h("button", { onclick: () => ctx.emit("show", "modified") }, "Show as surface"),
      h("button", { onclick: () => ctx.emit("colour", "modification") }, "Colour by factor")),
    h("p.faint", {}, "Grey: scales below the lowest confident one. Slices follow while you drag; the noise that attenuation puts in place of what it takes away is in the surface and in files only."),
  ];
}

// ------------------------------------------------------------------ masks

function masksPanel(ctx) {
  const said = note();
  const made = h("ul.made");
  const usual = ctx.scene.usual_content;
  const tellThreshold = (v) => { ctx.threshold = v; ctx.emit("threshold"); };
  const threshold = slider({ label: "Threshold", low: 0, high: 0.99, step: 0.005, value: usual.threshold, title: "Scale above which a voxel is content", change: tellThreshold });
  const weak = slider({ label: "Weak", low: 0, high: 0.99, step: 0.005, value: usual.weak, title: "Parts above this are kept too, where they touch content" });
  const number = (label, value, title, unit = "Å") => {
    const input = h("input", { type: "number", min: 0, step: "any", value, "aria-label": label });
    return { row: h("label.setting", { title }, h("span", {}, label), input, h("i", {}, unit)), value: () => Number(input.value) || 0 };
  };
  const smallest = number("smallest piece", 0, "Smaller pieces are dropped", "Å³");
  const close = number("fill gaps", usual.close, "Gaps narrower than twice this are filled");
  const extend = number("extend", 0, "Grow the mask by this");
  const soft = number("soft edge", 0, "Width of the soft edge outside");
  const edge = number("smooth", 0, "Å over which the mask is smoothed");
  let kind = "attenuate";
  const power = slider({ label: "Power", low: 1, high: 50, log: true, value: 5, title: "Keep S^(power − 1), or above the pivot all" });
  const pivot = slider({ label: "Pivot", low: 0.02, high: 0.98, step: 0.01, value: 0.5, title: "All above this scale is kept" });
  pivot.hidden = true;

  async function make(button, what, options) {
    button.disabled = true;
    said.good("working …");
    try {
      const { job } = await post("mask", { id: ctx.scene.id, kind: what, options });
      const done = await ctx.app.watch(job);
      await ctx.app.showScene(ctx.scene.id, false);
      said.good(done.log[done.log.length - 1]);
      ctx.emit("layer", done.result.layer);
      document.body.dataset.mask = done.result.layer;
    } catch (error) {
      said.bad(error);
    } finally {
      button.disabled = false;
    }
  }
  const solvent = h("button.primary", { onclick: () => make(solvent, "solvent", {
    threshold: threshold.value(), weak: Math.min(weak.value(), threshold.value()), close: close.value(), smallest: smallest.value(), extend: extend.value(), soft_edge: soft.value() }) }, "Make solvent definition");
  const subtraction = h("button.primary", { onclick: () => make(subtraction, "subtraction",
    kind === "attenuate" ? { attenuate: power.value(), soft_edge: edge.value() } : { sigmoid: power.value(), pivot: pivot.value(), soft_edge: edge.value() }) }, "Make subtraction mask");
  ctx.on("scene", () => {
    const present = Object.keys(ctx.scene.looks).filter((name) => name.endsWith("_mask"));
    made.replaceChildren(...present.map((name) => h("li", {}, h("span", {}, ctx.scene.looks[name].title),
      h("label.check", {}, h("input", { type: "checkbox", "data-mask": name, onchange: (e) => ctx.emit("mask", name, e.target.checked) }), "in 3D"),
      h("button", { onclick: () => ctx.emit("layer", name) }, "in slices"),
      h("button", { onclick: () => save(name) }, "Save"),
      h("button", { onclick: () => fetchFile(name) }, "Download"))));
  });
  const save = async (layer) => {
    try {
      const { job } = await post("save", { id: ctx.scene.id, layer });
      said.good((await ctx.app.watch(job)).log.pop());
    } catch (error) {
      said.bad(error);
    }
  };
  const fetchFile = async (layer) => {
    try {
      said.good(`${await download({ id: ctx.scene.id, layer })} downloaded`);
    } catch (error) {
      said.bad(error);
    }
  };
  return [
    h("h3", {}, "Solvent definition"), h("p.faint", {}, "1 where there is content, weak parts included. While the threshold moves, the scale's slices grow dark below it."),
    threshold, weak, close.row, smallest.row, extend.row, soft.row, h("div.row", {}, solvent),
    h("h3", {}, "Mask for particle subtraction"), h("p.faint", {}, "RELION's convention: 1 is kept, 0 is subtracted."),
    segments("Keep by", [["attenuate", "Attenuation"], ["sigmoid", "Sigmoid"]], kind, (name) => { kind = name; pivot.hidden = name !== "sigmoid"; }),
    power, pivot, edge.row, h("div.row", {}, subtraction),
    said, made,
  ];
}

// ------------------------------------------------------------------ export

function exportPanel(ctx) {
  const said = note();
  const plot = h("input", { type: "checkbox", checked: true });
  const report = h("input", { type: "checkbox", checked: true });
  const layer = h("select", { "aria-label": "Map to download" });
  const busy = async (work) => {
    said.good("working …");
    try {
      said.good(await work());
    } catch (error) {
      said.bad(error);
    }
  };
  const save = () => busy(async () => {
    const { job } = await post("save", { id: ctx.scene.id, settings: ctx.modification, plot: plot.checked, report: report.checked });
    const done = await ctx.app.watch(job);
    // The maps of the folder it was opened from have been replaced.
    if (done.result.folder === ctx.scene.folder) await ctx.app.showScene(ctx.scene.id, false);
    document.body.dataset.saved = done.result.folder;
    return `written to ${done.result.folder}`;
  });
  const fetchOne = (body) => busy(async () => `${await download({ id: ctx.scene.id, settings: ctx.modification, ...body })} downloaded`);
  const picture = (part, name) => busy(async () => {
    saveAs(await ctx.parts[part].image(), `${ctx.scene.title}_${name}.png`);
    return "";
  });
  ctx.on("scene", () => {
    const options = Object.entries(ctx.scene.looks).map(([name, look]) => h("option", { value: name }, look.title));
    layer.replaceChildren(...options, h("option", { value: "preview" }, "Modified map"));
  });
  return [
    h("h3", {}, "Write into the folder"), h("p.faint.into", {}, "Scale, confidence, the modification chosen, ChimeraX script and record, as the command line writes them, into ", h("code", {}, ctx.scene.saves_into), "."),
    h("div.row", {}, h("label.check", {}, plot, "Pictures"), h("label.check", {}, report, "Report"), h("button.primary", { onclick: save }, "Save results")),
    h("h3", {}, "Download"),
    h("div.row", {}, layer, h("button", { onclick: () => fetchOne({ layer: layer.value }) }, "Map")),
    h("div.row", {}, h("button", { title: "Maps and script, to open in ChimeraX on your own computer", onclick: () => fetchOne({}) }, "ChimeraX archive"),
      h("button", { title: "One page with everything, for a colleague", onclick: () => fetchOne({ report: true }) }, "Report")),
    h("div.row", {}, h("button", { onclick: () => picture("surface", "surface") }, "Picture of the surface"), h("button", { onclick: () => picture("slices", "slices") }, "Picture of the slices")),
    said,
  ];
}
