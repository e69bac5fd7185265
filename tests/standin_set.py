"""A set folder as `occupy classes` writes it, small, made of balls whose occupancies are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from occupy.io.mrc import write_map
from occupy.volume import Volume

SIDE, VOXEL = 36, 3.0
REGIONS = {"core": (0.0, 0.0, 0.0), "lobe_a": (0.0, 0.0, 0.27), "lobe_b": (0.0, 0.0, -0.27)}


def occupancies(maps: int) -> list[dict[str, float]]:
    """Return region → occupancy for each map: one lobe comes as the other goes."""
    return [
        {"core": 1.0, "lobe_a": i / max(1, maps - 1), "lobe_b": 1 - i / max(1, maps - 1)} for i in range(maps)
    ]


def write_set(folder: Path, maps: int = 3, called: str = "class_{:03d}") -> Path:
    """Write a set of ``maps`` maps, named by their number, and return its folder."""
    (folder / "components").mkdir(parents=True)
    z, y, x = (np.indices((SIDE,) * 3, dtype=np.float32) - (SIDE - 1) / 2) / SIDE
    rng = np.random.default_rng(1)
    noise = 0.02 * rng.standard_normal((SIDE,) * 3, dtype=np.float32)
    masks = {
        name: (z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2 < 0.14**2 for name, c in REGIONS.items()
    }
    composite = sum(mask.astype(np.float32) for mask in masks.values()) + noise

    def save(name: str, data: np.ndarray) -> None:
        write_map(folder / name, Volume.from_array(data.astype(np.float32), VOXEL, Path(name).stem))

    save("composite.mrc", composite)
    truth = occupancies(maps)
    listed, lines, stack = [], [], []
    for i, values in enumerate(truth):
        # Defined a little beyond the density, as an occupancy from a window is.
        occupancy = np.select([x > 0.135, x < -0.135], [values["lobe_a"], values["lobe_b"]], values["core"])
        occupancy = occupancy * (z**2 + y**2 < 0.19**2) * (np.abs(x) < 0.47)
        stack.append(occupancy)
        stem = called.format(i + 1)
        files = {kind: f"{stem}_{kind}.mrc" for kind in ("occupancy", "relative", "uncertainty")}
        save(files["occupancy"], occupancy)
        save(files["relative"], occupancy)
        save(files["uncertainty"], 0.1 * (occupancy > 0))
        listed.append({"name": stem, "weight": 1 / maps, "share": 1 / maps, "outputs": files})
        lines += [
            ",".join(
                map(
                    str,
                    (
                        name,
                        stem,
                        value,
                        0.02,
                        max(0, value - 0.04),
                        min(1, value + 0.04),
                        masks[name].sum(),
                        12,
                    ),
                )
            )
            for name, value in values.items()
        ]
    save("mean_occupancy.mrc", np.mean(stack, axis=0))
    save("variability.mrc", np.std(stack, axis=0))
    for name in ("lobe_a", "lobe_b"):
        save(f"components/{name}.mrc", masks[name])
    head = "region,map,occupancy,standard_error,low_95,high_95,voxels,independent_voxels"
    (folder / "occupancy.csv").write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    outputs = {name: f"{name}.mrc" for name in ("composite", "mean_occupancy", "variability")}
    outputs |= {name: f"components/{name}.mrc" for name in ("lobe_a", "lobe_b")} | {"csv": "occupancy.csv"}
    record = {
        "program": "occupy",
        "format": 1,
        "what": "set",
        "maps": listed,
        "outputs": outputs,
        "numbers": {},
        "options": {},
        "notices": [],
    }
    (folder / "occupy_set.json").write_text(json.dumps(record), encoding="utf-8")
    return folder
