// Turning and hitting: quaternions x, y, z, w, and rays against triangles.
// Used by surface.js; in reports and notebooks both stand in one module.

export function product(a, b) {
  return [
    a[3] * b[0] + a[0] * b[3] + a[1] * b[2] - a[2] * b[1],
    a[3] * b[1] - a[0] * b[2] + a[1] * b[3] + a[2] * b[0],
    a[3] * b[2] + a[0] * b[1] - a[1] * b[0] + a[2] * b[3],
    a[3] * b[3] - a[0] * b[0] - a[1] * b[1] - a[2] * b[2],
  ];
}

export function normalised(q) {
  const length = Math.hypot(...q) || 1;
  return q.map((v) => v / length);
}

export function conjugate(q) {
  return [-q[0], -q[1], -q[2], q[3]];
}

export function turned(q, v) {
  const m = matrix(q);
  return [0, 1, 2].map((i) => m[i] * v[0] + m[3 + i] * v[1] + m[6 + i] * v[2]);
}

/** Return a quaternion as a 3×3 matrix, columns first. */
export function matrix([x, y, z, w]) {
  return [
    1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w),
    2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w),
    2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y),
  ];
}

/** Return how far along a ray the first triangle is hit within a box (Möller and Trumbore 1997). */
export function nearest(source, from, along, least, low, high) {
  const { positions, indices, origin, extent } = source;
  let best = Infinity;
  const p = new Float64Array(9);
  for (let t = 0; t < indices.length; t += 3) {
    for (let corner = 0; corner < 3; corner++) {
      const at = 3 * indices[t + corner];
      for (let i = 0; i < 3; i++) p[3 * corner + i] = origin[i] + (positions[at + i] / 65535) * extent[i];
    }
    const e1x = p[3] - p[0], e1y = p[4] - p[1], e1z = p[5] - p[2];
    const e2x = p[6] - p[0], e2y = p[7] - p[1], e2z = p[8] - p[2];
    const hx = along[1] * e2z - along[2] * e2y, hy = along[2] * e2x - along[0] * e2z, hz = along[0] * e2y - along[1] * e2x;
    const det = e1x * hx + e1y * hy + e1z * hz;
    if (Math.abs(det) < 1e-12) continue;
    const sx = from[0] - p[0], sy = from[1] - p[1], sz = from[2] - p[2];
    const u = (sx * hx + sy * hy + sz * hz) / det;
    if (u < 0 || u > 1) continue;
    const qx = sy * e1z - sz * e1y, qy = sz * e1x - sx * e1z, qz = sx * e1y - sy * e1x;
    const v = (along[0] * qx + along[1] * qy + along[2] * qz) / det;
    if (v < 0 || u + v > 1) continue;
    const hit = (e2x * qx + e2y * qy + e2z * qz) / det;
    const inside = (v, i) => { const at = from[i] + hit * v; return at >= low[i] && at <= high[i]; };
    if (hit > least && hit < best && along.every(inside)) best = hit;
  }
  return best;
}
