"""What is painted on surfaces: how much of complete particles reads full, chains as inside; masks.

python -m benchmarks.surfaces MAP …            share of vertices at or above 0.9, per contour level
python -m benchmarks.surfaces --model FILE …   simulated from models: complete, and with partial chains
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from occupy import Volume
from occupy.io.mrc import read_map
from occupy.masks import solvent_definition, usual_content
from occupy.numerics.mesh import Mesh, sample
from occupy.pipeline import Estimate, estimate
from occupy.report.chimerax import contour_level
from occupy.report.surfaces import LIMITS, _fitting_mesh, blocks_of, carried, colouring, paint

SHARES = (0.1, 0.2, 0.3, 0.5, 0.7)
PARTIAL = (1.0, 1.0, 0.7, 0.4, 1.0, 0.85, 0.55)
# Atoms: chains of 40 residues, 5 kDa. What is smaller reads mostly its neighbours, inside as well.
LARGE = 300
# Å, Å, signal to noise: a map at medium resolution, and a sharper one with noise in it.
KINDS = ((3.0, 6.0, 30.0), (1.5, 4.0, 10.0))


def painted(est: Estimate, level: float) -> tuple[Any, dict[str, Any]]:
    """Return the vertices (fractional z, y, x) and the occupancy painted on them, or the scale."""
    data, size = est.volume.data, np.array(est.volume.voxel_size)
    mesh, step = _fitting_mesh(data, level, LIMITS["fine"], est.settings.lowpass**3 / float(np.prod(size)))
    mesh = Mesh(mesh.vertices * np.float32(step), mesh.normals, mesh.faces)
    blocks, beneath = blocks_of(data.shape, size.tolist()), carried(data, {"scale": est.scale}, size.tolist())
    measured = paint(beneath["scale"], mesh.vertices, blocks)
    judged = measured if est.calibration is None else est.calibration.occupancy_of(measured)
    coarse = est.settings.voxel_size
    at = mesh.vertices * (size / coarse).astype(np.float32)
    in_chimerax = paint(colouring(est).data, at, blocks_of(est.settings.shape, coarse))
    at_rim = sample([est.occupancy], mesh.vertices)[0]
    shown = {"rim": at_rim, "beneath": judged, "ChimeraX": in_chimerax}
    return mesh.vertices, shown | {"scale beneath": measured}


def levels(est: Estimate) -> Iterator[tuple[str, float]]:
    """Yield the default level and shares of full scale."""
    yield "default", contour_level(est)
    for share in SHARES:
        yield f"{share:g} of full", share * est.full_scale.value


def full_shares(est: Estimate, near: Any = None) -> None:
    """Print the share of vertices that read at least 0.9; only of those for which ``near`` holds."""
    for name, level in levels(est):
        points, values = painted(est, level)
        kept = np.ones(len(points), bool) if near is None else near(points)
        words = [f"{what} {100 * (v[kept] >= 0.9).mean():5.1f} %" for what, v in values.items()]
        print(
            f"  {name:12} ({level / est.full_scale.value:.2f}) {kept.sum():7} vertices  " + "  ".join(words)
        )


def mask_fit(est: Estimate, tree: Any, present: Any, places: Any) -> None:
    """Print what the usual mask holds: atoms of parts above 0.2, and how much more than the particle."""
    usual = usual_content(est.lowest_confident_scale)
    size = est.volume.voxel_size
    mask = solvent_definition(est.scale, voxel_size=size, **usual)
    held = sample([mask], places[np.asarray(present)])[0] >= 0.5
    # Within 3 Å of an atom: the particle with what it excludes.
    near = tree.query(np.argwhere(mask > -1), distance_upper_bound=3.0 / size[0])[0]
    times = (mask >= 0.5).sum() / np.isfinite(near).sum()
    print(f"  mask      {100 * held.mean():.1f} % of atoms, {times:.2f} times the particle")


def simulated(path: Path, voxel_size: float, resolution: float, snr: float) -> None:
    """Print the same of a simulated complete particle, and of chains of a partial one."""
    import gemmi
    from scipy.spatial import cKDTree

    from occupy.simulation.single import simulate

    structure = gemmi.read_structure(str(path))
    structure.setup_entities()
    structure.remove_waters()
    names = [chain.name for chain in structure[0]]
    for partial in (False, True):
        shares = dict(zip(names, (PARTIAL * len(names))[: len(names)], strict=True)) if partial else {}
        made = simulate(
            structure, voxel_size=voxel_size, resolution=resolution, occupancies=shares, signal_to_noise=snr
        )
        est = estimate(Volume.from_array(made.map, voxel_size))
        atoms = [(a.pos.tolist()[::-1], i) for i, c in enumerate(made.structure[0]) for r in c for a in r]
        places = np.array([place for place, _ in atoms], dtype=np.float32) / np.float32(voxel_size)
        chain, tree = np.array([i for _, i in atoms]), cKDTree(places)
        print(f"{path.name}, {voxel_size} Å voxels, {resolution} Å, {'partial' if partial else 'complete'}")
        inside = sample([est.occupancy], places)[0]
        if not partial:
            print(f"  inside: {100 * (inside >= 0.9).mean():.1f} % of atoms read at least 0.9")
            full_shares(est, lambda points, tree=tree: tree.query(points)[0] * voxel_size < 5)
            continue
        mask_fit(est, tree, [shares.get(names[i], 1.0) > 0.2 for i in chain], places)
        given = np.array([shares.get(name, 1.0) for name in names])
        large = np.bincount(chain, minlength=len(names)) >= LARGE
        # At the usual level a chain of 0.4 is cut to its brightest pieces; at a fifth of full it shows whole.
        for name, level in (("default", contour_level(est)), ("0.2 of full", 0.2 * est.full_scale.value)):
            points, values = painted(est, level)
            of_chain = owners(tree, chain, given, points, resolution / voxel_size)[1]
            for what, value in values.items():
                words = []
                for kind in (large, ~large):
                    seen = [i for i in np.flatnonzero(kind) if (of_chain == i).sum() > 50]
                    apart = [
                        abs(np.median(value[of_chain == i]) - np.median(inside[chain == i])) for i in seen
                    ]
                    if seen:
                        words.append(
                            f"{len(seen)} off by {np.mean(apart):.3f} in the mean, {max(apart):.3f} at most"
                        )
                print(f"  {name:12} {what:13} chains {'; smaller ones: '.join(words)}")


def owners(tree: Any, chain: Any, shares: Any, points: Any, resolution: float) -> tuple[Any, Any]:
    """Return whose vertices are: of the nearest chain, and of that which gives most density there.

    At a level near a weak chain's own density what is nearest to it is mostly the flank of its neighbours.
    Lengths are in voxels; vertices far from all atoms belong to none (-1).
    """
    distance, near = tree.query(points, 64)
    # Gaussians as wide as a point looks at this resolution.
    weight = shares[chain[near]] * np.exp(-(distance**2) / (2 * (0.425 * resolution) ** 2))
    density = np.zeros((len(points), len(shares)))
    np.add.at(density, (np.arange(len(points))[:, None], chain[near]), weight)
    known = distance[:, 0] < 1.2 * resolution
    return np.where(known, chain[near[:, 0]], -1), np.where(known, density.argmax(1), -1)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("maps", nargs="*", type=Path)
    parser.add_argument("--model", nargs="*", type=Path, default=[])
    said = parser.parse_args()
    logging.disable(logging.WARNING)
    for path in said.maps:
        print(path.name)
        full_shares(estimate(read_map(path)))
    for path in said.model:
        for kind in KINDS:
            simulated(path, *kind)


if __name__ == "__main__":
    main()
