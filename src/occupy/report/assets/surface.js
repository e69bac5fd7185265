// Surfaces of maps in WebGL 2, to be turned with mouse, touch and keyboard.
// Used by the page, by the report and by the notebook widget; needs only geometry.js.

import { conjugate, matrix, nearest, normalised, product, turned } from "./geometry.js";

const MESH_VERTEX = `#version 300 es
in vec3 position; in vec4 normal; in float value;
uniform mat4 projection; uniform mat3 turn; uniform vec3 origin, extent, centre, shift;
out vec3 seen; out vec3 facing; out vec3 place; out float level;
void main() {
  place = origin + position * extent;
  seen = turn * (place - centre) + shift;
  facing = turn * normal.xyz;
  level = value;
  gl_Position = projection * vec4(seen, 1.0);
}`;

const MESH_FRAGMENT = `#version 300 es
precision highp float;
in vec3 seen; in vec3 facing; in vec3 place; in float level;
uniform vec3 low, high; uniform float cut;
uniform sampler2D palette; uniform vec2 range; uniform float opacity, depth, radius; uniform vec3 background;
out vec4 colour;
void main() {
  if (-seen.z < cut || any(lessThan(place, low)) || any(greaterThan(place, high))) discard;
  vec3 n = normalize(facing);
  vec3 eye = normalize(-seen);
  bool inside = dot(n, eye) < 0.0;
  if (inside) n = -n;
  float at = clamp((level - range.x) / max(range.y - range.x, 1e-6), 0.0, 1.0);
  vec3 base = texture(palette, vec2((at * 255.0 + 0.5) / 256.0, 0.5)).rgb;
  float key = max(dot(n, normalize(vec3(-0.35, 0.55, 0.75))), 0.0);
  float fill = max(dot(n, normalize(vec3(0.7, -0.2, 0.5))), 0.0);
  float rim = pow(1.0 - max(dot(n, eye), 0.0), 2.0);
  float gloss = pow(max(dot(n, normalize(normalize(vec3(-0.35, 0.55, 0.75)) + eye)), 0.0), 28.0);
  vec3 lit = base * (0.36 + 0.6 * key + 0.18 * fill) * (1.0 - 0.38 * rim) + 0.10 * gloss;
  if (inside) lit *= 0.72;
  float far = clamp((-seen.z - depth + 0.15 * radius) / (1.7 * radius), 0.0, 1.0);
  colour = vec4(mix(lit, background, 0.42 * far), opacity);
}`;

const LINE_VERTEX = `#version 300 es
in vec3 position;
uniform mat4 projection; uniform mat3 turn; uniform vec3 centre, shift;
void main() { gl_Position = projection * vec4(turn * (position - centre) + shift, 1.0); }`;

const LINE_FRAGMENT = `#version 300 es
precision highp float;
uniform vec4 paint; out vec4 colour;
void main() { colour = paint; }`;

const FIELD_OF_VIEW = Math.PI / 7;

/** Where the camera is; may be shared by several views. */
export class Camera {
  constructor() {
    this.views = new Set();
    this.reset();
  }
  reset() {
    this.turn = [0, 0, 0, 1];
    this.pan = [0, 0];
    this.zoom = 1;
    for (const view of this.views) view.centre = view.home ?? view.centre;
    this.changed();
  }
  changed() {
    for (const view of this.views) view.draw();
  }
  rotate(axis, angle) {
    const length = Math.hypot(...axis) || 1;
    const s = Math.sin(angle / 2) / length;
    this.turn = normalised(product([axis[0] * s, axis[1] * s, axis[2] * s, Math.cos(angle / 2)], this.turn));
    this.changed();
  }
  dolly(factor) {
    this.zoom = Math.min(40, Math.max(0.2, this.zoom * factor));
    this.changed();
  }
}

/** A canvas that shows meshes, line segments and a cross, all in Å. */
export class SurfaceView {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{camera?: Camera, background?: number[], onPick?: (xyz: number[]) => void, onDraw?: (perPixel: number) => void}} options
   */
  constructor(canvas, options = {}) {
    this.canvas = canvas;
    this.camera = options.camera ?? new Camera();
    this.camera.views.add(this);
    this.background = options.background ?? [1, 1, 1];
    this.onPick = options.onPick ?? null;
    this.onDraw = options.onDraw ?? null; // is told the Å per CSS pixel at the middle of what is shown
    this.meshes = new Map();
    this.lines = new Map();
    this.centre = [0, 0, 0];
    this.radius = 1;
    this.clip = 0; // share of the depth, from the front, that is cut away
    this.low = [-Infinity, -Infinity, -Infinity]; // x, y, z in Å: outside of this box nothing is drawn
    this.high = [Infinity, Infinity, Infinity];
    this.drawn = 0;
    this.pending = 0;
    this.gl = canvas.getContext("webgl2", { antialias: true, alpha: false, powerPreference: "high-performance" });
    if (!this.gl) throw new Error("this browser has no WebGL 2, which the 3D view needs");
    this.prepare();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => this.restore());
    this.resizing = new ResizeObserver(() => this.draw());
    this.resizing.observe(canvas);
    steer(this);
  }

  prepare() {
    const gl = this.gl;
    this.meshProgram = program(gl, MESH_VERTEX, MESH_FRAGMENT, ["position", "normal", "value"]);
    this.lineProgram = program(gl, LINE_VERTEX, LINE_FRAGMENT, ["position"]);
    gl.enable(gl.DEPTH_TEST);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
  }

  restore() {
    this.prepare();
    for (const [name, mesh] of this.meshes) this.setMesh(name, mesh.source, mesh.look);
    for (const [name, line] of this.lines) this.setLines(name, line.source, line.paint);
  }

  /** Frame a box: turn around its centre. */
  setBox(origin, extent) {
    this.home = this.centre = origin.map((o, i) => o + extent[i] / 2);
    this.radius = Math.hypot(...extent) / 2 || 1;
    this.draw();
  }

  /** Bring a place to the middle, near by, and turn around it until the camera is reset. */
  lookAt(place) {
    this.centre = place;
    Object.assign(this.camera, { pan: [0, 0], zoom: Math.max(this.camera.zoom, 2.5) });
    this.camera.changed();
  }

  /** Frame what a mesh fills of its box. */
  setBoxAround({ positions, origin, extent }) {
    const low = [65535, 65535, 65535];
    const high = [0, 0, 0];
    for (let i = 0; i < positions.length; i++) {
      const a = i % 3;
      if (positions[i] < low[a]) low[a] = positions[i];
      if (positions[i] > high[a]) high[a] = positions[i];
    }
    if (!positions.length) return this.setBox(origin, extent);
    const at = (v, a) => origin[a] + (v / 65535) * extent[a];
    return this.setBox(low.map(at), low.map((l, a) => Math.max(at(high[a], a) - at(l, a), extent[a] * 0.02)));
  }

  /**
   * Show a mesh, or replace the one of that name.
   * @param {{positions: Uint16Array, normals: Int8Array, indices: Uint32Array, values?: Uint8Array,
   *          origin: number[], extent: number[]}} source
   * @param {{palette: Uint8Array, range: number[], opacity?: number, visible?: boolean}} look
   */
  setMesh(name, source, look) {
    this.remove(name);
    const gl = this.gl;
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    const buffers = [];
    const attribute = (place, data, size, type, normalise) => {
      const buffer = gl.createBuffer();
      buffers.push(buffer);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, size, type, normalise, 0, 0);
      return buffer;
    };
    attribute(0, source.positions, 3, gl.UNSIGNED_SHORT, true);
    attribute(1, source.normals, 4, gl.BYTE, true);
    const values = source.values ?? new Uint8Array(source.positions.length / 3);
    const valueBuffer = attribute(2, values, 1, gl.UNSIGNED_BYTE, true);
    const indexBuffer = gl.createBuffer();
    buffers.push(indexBuffer);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, indexBuffer);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, source.indices, gl.STATIC_DRAW);
    gl.bindVertexArray(null);
    const mesh = { array, buffers, valueBuffer, source, count: source.indices.length, texture: gl.createTexture() };
    this.meshes.set(name, mesh);
    this.setLook(name, { opacity: 1, visible: true, ...look });
  }

  /** Replace the values at a mesh's vertices (0 to 255). */
  setValues(name, values) {
    const mesh = this.meshes.get(name);
    if (!mesh) return;
    mesh.source.values = values;
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, mesh.valueBuffer);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, values, this.gl.DYNAMIC_DRAW);
    this.draw();
  }

  /** Change colours, their range (fractions of 255), opacity or visibility. */
  setLook(name, look) {
    const mesh = this.meshes.get(name);
    if (!mesh) return;
    mesh.look = { ...mesh.look, ...look };
    if (look.palette) {
      const gl = this.gl;
      gl.bindTexture(gl.TEXTURE_2D, mesh.texture);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, look.palette);
      for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, gl.LINEAR);
      for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
    }
    this.draw();
  }

  /** Show line segments: x, y, z of both ends of each, in Å. */
  setLines(name, source, paint) {
    this.remove(name);
    const gl = this.gl;
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, source, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
    gl.bindVertexArray(null);
    this.lines.set(name, { array, buffer, source, paint, count: source.length / 3 });
    this.draw();
  }

  /** Take a mesh or lines away. */
  remove(name) {
    const gl = this.gl;
    const mesh = this.meshes.get(name);
    if (mesh) {
      for (const buffer of mesh.buffers) gl.deleteBuffer(buffer);
      gl.deleteVertexArray(mesh.array);
      gl.deleteTexture(mesh.texture);
      this.meshes.delete(name);
    }
    const line = this.lines.get(name);
    if (line) {
      gl.deleteBuffer(line.buffer);
      gl.deleteVertexArray(line.array);
      this.lines.delete(name);
    }
    this.draw();
  }

  /** Draw at the next frame. */
  draw() {
    this.pending ||= requestAnimationFrame(() => {
      this.pending = 0;
      this.drawNow();
    });
  }

  drawNow() {
    const { gl, canvas } = this;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    gl.viewport(0, 0, width, height);
    gl.clearColor(...this.background, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const eye = this.eye();
    const visible = [...this.meshes.values()].filter((m) => m.look.visible && m.count);
    gl.useProgram(this.meshProgram.program);
    this.place(this.meshProgram.uniforms, eye);
    const u = this.meshProgram.uniforms;
    gl.uniform1f(u.depth, eye.distance);
    gl.uniform1f(u.radius, this.radius);
    gl.uniform3fv(u.background, this.background);
    const finite = (v) => Math.min(Math.max(v, -1e9), 1e9);
    gl.uniform3fv(u.low, this.low.map(finite));
    gl.uniform3fv(u.high, this.high.map(finite));
    gl.uniform1f(u.cut, this.cut(eye));
    for (const mesh of visible.filter((m) => m.look.opacity >= 1)) this.drawMesh(mesh, u);
    this.drawLines(eye);
    gl.useProgram(this.meshProgram.program);
    for (const mesh of visible.filter((m) => m.look.opacity < 1)) this.drawThrough(mesh, u);
    this.drawn += 1;
    this.onDraw?.((2 * eye.distance * Math.tan(FIELD_OF_VIEW / 2)) / Math.max(canvas.clientHeight, 1));
  }

  /** Only what is in front of a transparent surface's own back is drawn: depth first, colour after. */
  drawThrough(mesh, u) {
    const gl = this.gl;
    gl.colorMask(false, false, false, false);
    this.drawMesh(mesh, u);
    gl.colorMask(true, true, true, true);
    gl.depthFunc(gl.LEQUAL);
    gl.enable(gl.BLEND);
    this.drawMesh(mesh, u);
    gl.disable(gl.BLEND);
    gl.depthFunc(gl.LESS);
  }

  drawMesh(mesh, u) {
    const gl = this.gl;
    gl.uniform3fv(u.origin, mesh.source.origin);
    gl.uniform3fv(u.extent, mesh.source.extent);
    gl.uniform2fv(u.range, mesh.look.range ?? [0, 1]);
    gl.uniform1f(u.opacity, mesh.look.opacity);
    gl.bindTexture(gl.TEXTURE_2D, mesh.texture);
    gl.bindVertexArray(mesh.array);
    gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_INT, 0);
    gl.bindVertexArray(null);
  }

  drawLines(eye) {
    if (!this.lines.size) return;
    const gl = this.gl;
    gl.useProgram(this.lineProgram.program);
    this.place(this.lineProgram.uniforms, eye);
    // What lies behind a surface shows faintly.
    gl.enable(gl.BLEND);
    for (const [test, share] of [[gl.LEQUAL, 1], [gl.GREATER, 0.45]]) {
      gl.depthFunc(test);
      gl.depthMask(share === 1);
      for (const line of this.lines.values()) {
        gl.uniform4f(this.lineProgram.uniforms.paint, ...line.paint.slice(0, 3), line.paint[3] * share);
        gl.bindVertexArray(line.array);
        gl.drawArrays(gl.LINES, 0, line.count);
      }
    }
    gl.disable(gl.BLEND);
    gl.depthMask(true);
    gl.depthFunc(gl.LESS);
    gl.bindVertexArray(null);
  }

  eye() {
    const aspect = this.canvas.width / this.canvas.height;
    const half = Math.tan(FIELD_OF_VIEW / 2) * Math.min(1, aspect);
    const distance = (0.95 * this.radius) / half / this.camera.zoom;
    // What is drawn may reach beyond what was framed: a box, another mesh.
    const near = Math.max(distance - 3.5 * this.radius, distance / 200);
    return { aspect, distance, near, far: distance + 3.5 * this.radius };
  }

  /** Depth in Å from which on something is drawn. */
  cut(eye) {
    return this.clip > 0 ? eye.distance + (2 * this.clip - 1) * this.radius : 0;
  }

  place(u, eye) {
    const gl = this.gl;
    const f = 1 / Math.tan(FIELD_OF_VIEW / 2);
    const d = 1 / (eye.near - eye.far);
    const { near, far } = eye;
    gl.uniformMatrix4fv(u.projection, false, [f / eye.aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (near + far) * d, -1, 0, 0, 2 * near * far * d, 0]);
    gl.uniformMatrix3fv(u.turn, false, matrix(this.camera.turn));
    gl.uniform3fv(u.centre, this.centre);
    gl.uniform3fv(u.shift, this.shift(eye));
  }

  shift(eye) {
    return [this.camera.pan[0] * this.radius, this.camera.pan[1] * this.radius, -eye.distance];
  }

  /** Return where on the canvas, in CSS pixels, a place is drawn. */
  project(place) {
    const shift = this.shift(this.eye());
    const [x, y, z] = turned(this.camera.turn, place.map((v, i) => v - this.centre[i])).map((v, i) => v + shift[i]);
    const scale = this.canvas.clientHeight / (2 * Math.tan(FIELD_OF_VIEW / 2)) / Math.max(-z, 1e-6);
    return [this.canvas.clientWidth / 2 + x * scale, this.canvas.clientHeight / 2 - y * scale];
  }

  /** Return the place on the nearest opaque mesh under a point of the canvas, or null. */
  pick(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    const eye = this.eye();
    const t = Math.tan(FIELD_OF_VIEW / 2);
    const x = (2 * (clientX - box.left) / box.width - 1) * t * eye.aspect;
    const y = (1 - 2 * (clientY - box.top) / box.height) * t;
    const back = conjugate(this.camera.turn);
    const shift = this.shift(eye);
    const from = turned(back, shift.map((s) => -s)).map((v, i) => v + this.centre[i]);
    const along = turned(back, [x, y, -1]);
    let best = Infinity;
    for (const mesh of this.meshes.values()) {
      if (mesh.look.visible) best = Math.min(best, nearest(mesh.source, from, along, Math.max(eye.near, this.cut(eye)), this.low, this.high));
    }
    return Number.isFinite(best) ? from.map((v, i) => v + best * along[i]) : null;
  }

  /** Return the picture as it is, as PNG. */
  image() {
    this.drawNow();
    return new Promise((done) => this.canvas.toBlob(done, "image/png"));
  }

  close() {
    this.camera.views.delete(this);
    this.resizing.disconnect();
    for (const name of [...this.meshes.keys(), ...this.lines.keys()]) this.remove(name);
    cancelAnimationFrame(this.pending);
  }
}

/** Return colours at equal steps ("#rrggbb") as 256 RGBA pixels. */
export function paletteBytes(colours) {
  const stops = colours.map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));
  const out = new Uint8Array(1024);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(at), Math.max(stops.length - 2, 0));
    const high = Math.min(low + 1, stops.length - 1);
    for (let c = 0; c < 3; c++) out[4 * i + c] = stops[low][c] + (stops[high][c] - stops[low][c]) * (at - low);
    out[4 * i + 3] = 255;
  }
  return out;
}

/** Read a message of the server (or of a report): the head, with `arrays` as typed arrays. */
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const kinds = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, uint32: Uint32Array, float32: Float32Array };
  const arrays = {};
  for (const [name, a] of Object.entries(head.arrays)) arrays[name] = new kinds[a.type](buffer, 4 + length + a.offset, a.length);
  return { ...head, arrays };
}

function steer(view) {
  const { canvas, camera } = view;
  const down = new Map();
  let moved = 0;
  canvas.style.touchAction = "none";
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    down.set(event.pointerId, [event.clientX, event.clientY]);
    moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = down.get(event.pointerId);
    if (!last) return;
    const dx = event.clientX - last[0];
    const dy = event.clientY - last[1];
    moved += Math.abs(dx) + Math.abs(dy);
    const others = [...down].filter(([id]) => id !== event.pointerId);
    down.set(event.pointerId, [event.clientX, event.clientY]);
    if (others.length === 1) {
      const [ox, oy] = others[0][1];
      const before = Math.hypot(last[0] - ox, last[1] - oy);
      camera.dolly(Math.hypot(event.clientX - ox, event.clientY - oy) / Math.max(before, 1));
      pan(view, dx / 2, dy / 2);
    } else if (event.shiftKey || event.buttons & 6) pan(view, dx, dy);
    else if (dx || dy) camera.rotate([dy, dx, 0], (Math.hypot(dx, dy) / Math.min(canvas.clientWidth, canvas.clientHeight)) * 3.6);
  });
  const up = (event) => {
    if (down.delete(event.pointerId) && event.type === "pointerup" && moved < 4 && event.button === 0 && view.onPick) {
      const place = view.pick(event.clientX, event.clientY);
      if (place) view.onPick(place);
    }
  };
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, up);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    camera.dolly(Math.exp(-Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 120) * 0.0016));
  }, { passive: false });
  canvas.addEventListener("dblclick", () => camera.reset());
  canvas.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.35 : 0.09;
    const actions = {
      ArrowLeft: () => camera.rotate([0, -1, 0], step),
      ArrowRight: () => camera.rotate([0, 1, 0], step),
      ArrowUp: () => camera.rotate([-1, 0, 0], step),
      ArrowDown: () => camera.rotate([1, 0, 0], step),
      "+": () => camera.dolly(1.12),
      "=": () => camera.dolly(1.12),
      "-": () => camera.dolly(1 / 1.12),
      Home: () => camera.reset(),
    };
    if (actions[event.key] && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      actions[event.key]();
    }
  });
}

function pan(view, dx, dy) {
  const eye = view.eye();
  const perPixel = (2 * Math.tan(FIELD_OF_VIEW / 2) * eye.distance) / view.canvas.clientHeight / view.radius;
  view.camera.pan = [view.camera.pan[0] + dx * perPixel, view.camera.pan[1] - dy * perPixel];
  view.camera.changed();
}

function program(gl, vertex, fragment, attributes) {
  const made = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  attributes.forEach((name, place) => gl.bindAttribLocation(made, place, name));
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS) && !gl.isContextLost()) throw new Error(gl.getProgramInfoLog(made));
  const uniforms = {};
  for (let i = 0; i < gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS); i++) {
    const { name } = gl.getActiveUniform(made, i);
    uniforms[name] = gl.getUniformLocation(made, name);
  }
  return { program: made, uniforms };
}
