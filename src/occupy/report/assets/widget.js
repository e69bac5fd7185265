// The notebook's widget. Follows surface.js in the same module.
function bytesOf(view) {
  return view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
}

function render({ model, el }) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas.style, { width: "100%", height: `${model.get("height")}px`, display: "block", cursor: "grab" });
  canvas.tabIndex = 0;
  const choice = document.createElement("select");
  const key = document.createElement("span");
  const bar = document.createElement("div");
  Object.assign(bar.style, { display: "flex", gap: "10px", alignItems: "center", font: "13px system-ui, sans-serif", padding: "4px" });
  bar.append(choice, key);
  el.append(canvas, bar);
  let view;
  try {
    view = new SurfaceView(canvas);
  } catch (error) {
    el.textContent = error.message;
    return undefined;
  }
  const colours = model.get("colours");
  choice.append(...colours.map((c, i) => new Option(c.title, i)));
  let mesh = null;
  const paint = () => {
    const colour = colours[choice.value];
    const [low, high] = mesh.ranges[colour.layer];
    const { positions, normals, indices } = mesh.arrays;
    view.setMesh("surface", { positions, normals, indices, values: mesh.arrays[`colour:${colour.layer}`], origin: mesh.origin, extent: mesh.extent },
      { palette: paletteBytes(colour.colours), range: [colour.low, colour.high].map((v) => (v - low) / (high - low)) });
    key.textContent = `${colour.low} … ${colour.high}`;
    Object.assign(key.style, { padding: "1px 10px", minWidth: "150px", textAlign: "center", textShadow: "0 0 4px white", color: "black", borderRadius: "4px", background: `linear-gradient(to right, ${colour.colours.join(", ")})` });
  };
  const load = () => {
    mesh = unpack(bytesOf(model.get("mesh")));
    paint();
    view.setBoxAround({ ...mesh.arrays, origin: mesh.origin, extent: mesh.extent });
    view.drawNow();
    canvas.dataset.ready = "1";
  };
  choice.addEventListener("change", paint);
  model.on("change:mesh", load);
  load();
  return () => view.close();
}

export default { render };
