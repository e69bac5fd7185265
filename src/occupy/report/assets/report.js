// Shows the surfaces of a report. Follows surface.js in the same module; everything it needs is in the page.
const groups = new Map();

async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

async function show(block) {
  const about = JSON.parse(block.querySelector("script.about").textContent);
  const canvas = block.querySelector("canvas");
  const packed = [...block.querySelectorAll("script.mesh")];
  const slider = block.querySelector("input[type=range]");
  let mesh = unpack(await inflate(packed[slider ? slider.value : 0].textContent));
  const group = about.group ? groups.get(about.group) : null;
  const view = new SurfaceView(canvas, { camera: group?.camera });
  const choice = block.querySelector("select");
  const surfaceOf = ({ arrays: { positions, normals, indices }, origin, extent }) => ({ positions, normals, indices, origin, extent });
  const source = surfaceOf(mesh);
  const pick = () => {
    const colour = about.colours[choice.value];
    const [low, high] = mesh.ranges[colour.layer];
    const range = [colour.low, colour.high].map((v) => (v - low) / (high - low));
    view.setMesh("surface", { ...surfaceOf(mesh), values: mesh.arrays[`colour:${colour.layer}`] }, { palette: paletteBytes(colour.colours), range });
    block.querySelector(".keybar").style.background = `linear-gradient(to right, ${colour.colours.join(", ")})`;
    const ticks = [0, 0.25, 0.5, 0.75, 1].map((f) => Number((colour.low + f * (colour.high - colour.low)).toPrecision(3)));
    block.querySelector(".keyticks").replaceChildren(...ticks.map((t) => Object.assign(document.createElement("span"), { textContent: t })));
  };
  choice.addEventListener("change", pick);
  if (slider) {
    const tell = () => { slider.nextElementSibling.textContent = ` ${Number(mesh.level.toPrecision(3))}`; };
    const known = new Map([[slider.value, mesh]]);
    tell();
    slider.addEventListener("input", async () => {
      const wanted = slider.value;
      if (!known.has(wanted)) known.set(wanted, unpack(await inflate(packed[wanted].textContent)));
      if (wanted !== slider.value) return;
      mesh = known.get(wanted);
      tell();
      pick();
      view.drawNow();
      canvas.dataset.level = mesh.level;
    });
  }
  block.querySelector("button").addEventListener("click", () => view.camera.reset());
  pick();
  view.setBoxAround(group?.source ?? source);
  if (about.group && !group) groups.set(about.group, { camera: view.camera, source });
  if (about.lines.length) view.setLines("marks", new Float32Array(about.lines), [0.12, 0.54, 0.44, 1]);
  view.drawNow();
  canvas.dataset.ready = "1";
  block.querySelector(".stage p")?.remove();
  // A WebGL canvas prints empty in some browsers: print a picture of it.
  const picture = block.querySelector("img");
  const freeze = () => { view.drawNow(); picture.src = canvas.toDataURL("image/png"); };
  freeze();
  window.addEventListener("beforeprint", freeze);
}

// Tables are sorted by a click, or Enter, on the name of a column: numbers by value, all else by letters.
function sortBy(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const down = heads[column].ariaSort === "ascending";
  const read = (row) => { const text = row.cells[column].textContent.trim(); const number = parseFloat(text.replace(/,/g, "")); return Number.isNaN(number) || column === 0 ? text : number; };
  const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : (typeof a === "string") - (typeof b === "string") || String(a).localeCompare(String(b), undefined, { numeric: true }));
  const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? -1 : 1) * order(read(a), read(b)));
  table.tBodies[0].append(...rows);
  heads.forEach((head, i) => { if (i === column) head.ariaSort = down ? "descending" : "ascending"; else head.removeAttribute("aria-sort"); });
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.tabIndex = 0;
    head.title = "sort";
    head.addEventListener("click", () => sortBy(table, column));
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sortBy(table, column); });
  });
}

// One after the other: the first of a group frames the others.
for (const block of document.querySelectorAll(".surface")) {
  await show(block).catch((error) => { block.querySelector(".stage p").textContent = `The surface cannot be shown here: ${error.message}`; });
}
