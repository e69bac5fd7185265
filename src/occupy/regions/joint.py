"""Occupancies of regions by the joint fit of their atoms' densities to the map, beside what they read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from occupy.errors import InputError, Notice
from occupy.model import Alternatives, AtomicModel
from occupy.model.density import Indices
from occupy.model.fit import MOST_PARTS, PartFit, finest_detail, fit_set
from occupy.model.judge import (
    check_placement,
    likely_shift,
    local_correlations,
    not_separable,
    poor_parts,
    with_sums,
)
from occupy.regions.region import Region, index_of, regions_of_model
from occupy.regions.table import Beside, OccupancyTable
from occupy.settings import short_repr
from occupy.statistics.posterior import STANDARD_ERRORS_95
from occupy.volume import Triple, Volume

FAR_BETTER = 1.2
"""A model that explains so many times more after a shift lies in another frame; of the demo's, off by 3 Å
1.15, by 9 Å and more 1.5."""
_NOBODY = -1


@dataclass(frozen=True, eq=False)
class JointRegions:
    """Joint fit of regions of a model, and of the rest of the model with them.

    Attributes
    ----------
    fit : PartFit
        Of the regions, in their order, followed by the rest of the model, chain by chain.
    rows : tuple of int
        Which region each of the first parts is.
    untold : mapping of str to tuple of str
        Parts that the map cannot tell from others, and from which.
    correlations : mapping of str to float
        Local correlation of map and fitted model around each part.
    poor : tuple of str
        Parts that are there but do not look like their density.
    off : str
        By how much the model seems to lie beside its density; empty where it does not.
    origin : tuple of float
        x, y, z in Å of the map's first voxel.
    """

    fit: PartFit
    rows: tuple[int, ...]
    untold: Mapping[str, tuple[str, ...]]
    correlations: Mapping[str, float]
    poor: tuple[str, ...]
    off: str = ""
    origin: Triple = (0.0, 0.0, 0.0)

    @property
    def residual(self) -> Volume:
        """What the fitted model leaves over of the map, around the model: above 0 the map has more."""
        lattice = self.fit.lattice
        volume = Volume.from_array(self.fit.residual, lattice.voxel_size, "residual")
        place = np.add(self.origin, np.multiply(lattice.start, lattice.voxel_size)[::-1])
        x, y, z = place.tolist()
        return replace(volume, frame=replace(volume.frame, origin=(x, y, z)))

    @property
    def notices(self) -> list[Notice]:
        """What is doubtful about the model."""
        return [Notice("model-off", self.off)] if self.off else []

    __repr__ = short_repr

    def record(self, table: OccupancyTable, map_name: str | None = None) -> dict[str, Any]:
        """Return a joint fit as plain values: every part with B-factor and correlation, level, covariance.

        Parameters
        ----------
        table : OccupancyTable
            From `with_joint`.
        map_name : str, optional
            The map of the fit; by default the first.
        """
        fit, column = self.fit, 0 if map_name is None else table.maps.index(map_name)
        shown = dict(enumerate(self.rows))
        parts = []
        for k, name in enumerate(fit.names):
            about: dict[str, Any] = {
                "name": name,
                "region": k in shown,
                "occupancy": float(fit.values[k]),
                "standard_error": float(fit.errors[k]),
                "low_95": float(fit.low[k]),
                "high_95": float(fit.high[k]),
                "least_squares_occupancy": float(fit.unlimited[k]),
                "chance_full": float(fit.chance_full[k]),
                "relative_b_factor": float(fit.b_factors[k]),
                "local_correlation": float(self.correlations[name]),
                "unlike_its_density": name in self.poor,
            }
            if name in self.untold:
                about["not_separable_from"] = list(self.untold[name])
            if k in shown and table.beside is not None:
                about["local_scale"] = float(table.beside.values[shown[k], column])
                about["local_scale_error"] = float(table.beside.errors[shown[k], column])
                about["note"] = table.beside.notes[shown[k]][column]
            parts.append(about)
        return {
            "finest_detail_angstrom": float(1 / fit.frequency.max()),
            "full_level": fit.level.full,
            "full_level_error": fit.level.error,
            "model_error": fit.level.model_error,
            "ice_shape": fit.ice.tolist(),
            "shells_per_angstrom": fit.frequency.tolist(),
            "scale_of_shells": fit.scale.tolist(),
            "noise_of_shells": fit.noise.tolist(),
            "parts": parts,
            "covariance_of_least_squares": fit.covariance.tolist(),
        }


def fit_model(volume: Volume, model: AtomicModel, regions: Sequence[Region] | None = None) -> JointRegions:
    """Fit the occupancies of a model's parts to a map, all together; any axis order, any place.

    Parameters
    ----------
    volume : Volume
        The map as it was given, not its scale.
    model : AtomicModel
        In the map's frame.
    regions : sequence of Region, optional
        From `regions_of_model`; by default the chains. The rest of the model is fitted with them.

    Returns
    -------
    JointRegions

    Raises
    ------
    InputError
        Where these regions can't be fitted, or the model does not fit the map; with the likely shift.
    """
    chosen = regions_of_model(model, volume) if regions is None else regions
    fit = fit_regions(volume, model, chosen)
    if isinstance(fit, str):
        raise InputError(f"no joint fit of these regions: {fit}")
    return fit


def fit_regions(volume: Volume, model: AtomicModel, regions: Sequence[Region]) -> JointRegions | str:
    """Fit the occupancies of a model's regions to one map; see `fit_regions_of_set`."""
    fits = fit_regions_of_set({volume.name: lambda: volume}, model, regions)
    return fits if isinstance(fits, str) else fits[volume.name]


def fit_regions_of_set(
    maps: Mapping[str, Callable[[], Volume]],
    model: AtomicModel,
    regions: Sequence[Region],
    exclusive: Sequence[Alternatives] = (),
) -> dict[str, JointRegions] | str:
    """Fit the occupancies of a model's regions to maps of one grid, together with the rest of the model.

    What is in no region is fitted chain by chain, so that it can say what full is. Ligands in no region go
    with their chain.

    Parameters
    ----------
    maps : mapping of str to callable
        Name → what returns the map as it was given, not its scale; read one at a time.
    model : AtomicModel
        In the maps' frame.
    regions : sequence of Region
        Those without residues (masks) are passed over.
    exclusive : sequence of Alternatives
        Regions that exclude each other, so that their occupancies sum up to 1, or to 1 at most.

    Returns
    -------
    dict of str to JointRegions, or str
        Name → fit; or why these regions can't be fitted.

    Raises
    ------
    InputError
        Where the model does not fit the map that it fits best, with the likely shift.
    """
    rows = tuple(row for row, region in enumerate(regions) if len(region.residues))
    chosen = [regions[row] for row in rows]
    if any(region.kind == "residue" for region in chosen):
        return "single residues are too small for the joint fit"
    volume = next(iter(maps.values()))()
    parts = _parts_of(volume, model, chosen)
    if isinstance(parts, str):
        return parts
    if len(parts) > MOST_PARTS:
        return f"{len(parts)} parts are more than the joint fit takes ({MOST_PARTS})"
    if len(parts) < 2:
        return "a single part has nothing to be compared with in a joint fit"
    smallest = min(len(parts[region.name]) for region in chosen)
    resolution = finest_detail(smallest, volume.spacing)
    fits = _fit(maps, model, parts, resolution)
    # A class may hold next to nothing; the frame is right if it is right for one of them.
    best = max(fits, key=lambda name: likely_shift(fits[name])[1])
    off = _check_frame(fits[best], maps[best], model, parts, resolution)
    found = {}
    for name, fit in fits.items():
        correlations = local_correlations(fit, model.xyz, parts, _origin(volume))
        fit = with_sums(fit, exclusive)
        found[name] = JointRegions(
            fit, rows, not_separable(fit), correlations, poor_parts(fit, correlations), off, _origin(volume)
        )
    return found


def not_fitted(reason: str) -> Notice:
    """Return the notice that occupancies are read, and why."""
    return Notice("no-joint-fit", f"occupancies are read at the atoms, not a joint fit: {reason}")


def _origin(volume: Volume) -> Triple:
    """Return x, y, z of the map's first voxel, as ChimeraX places it."""
    x, y, z = volume.position((0, 0, 0)).tolist()
    return x, y, z


def _fit(
    maps: Mapping[str, Callable[[], Volume]],
    model: AtomicModel,
    parts: Mapping[str, Indices],
    resolution: float,
) -> dict[str, PartFit]:
    volume = next(iter(maps.values()))()
    z, y, x = volume.spacing[::-1]
    read = {name: (lambda one=one: one().standard()) for name, one in maps.items()}
    return fit_set(read, (z, y, x), model, parts, origin=_origin(volume), resolution=resolution)


def _check_frame(
    fit: PartFit,
    read: Callable[[], Volume],
    model: AtomicModel,
    parts: Mapping[str, Indices],
    resolution: float,
) -> str:
    """Return by how much the model seems to be off; InputError where it explains far more of the map there.

    The free scale per shell lets a molecule's outline explain much in a wrong frame too, so the shift found
    there is tried.
    """
    shift, now, then = likely_shift(fit)
    off = ""
    if any(shift) and then > now:
        moved = replace(model, xyz=model.xyz + np.array(shift))
        then = likely_shift(_fit({"map": read}, moved, parts, resolution)["map"])[1]
        told = ", ".join(f"{step:+.{0 if then > FAR_BETTER * now else 1}f}" for step in shift)
        if then > FAR_BETTER * now:
            raise InputError(
                f"the model does not fit the map (correlation {now:.2f}): "
                f"moved by ({told}) Å it would fit with {then:.2f}"
            )
        # A model one voxel off loses 6 to 20 %, which changes occupancies by .01; half a voxel off 2 to 7 %.
        if then > 1.03 * now:
            off = f"the model fits the map better ({then:.2f}, not {now:.2f}) if it is moved by ({told}) Å"
    check_placement(fit)
    return off


def _parts_of(volume: Volume, model: AtomicModel, regions: Sequence[Region]) -> dict[str, Indices] | str:
    """Return the atoms of every region, then those of the rest of the model, chain by chain.

    Atoms of the rest that lie outside the map are in no part.

    Parameters
    ----------
    volume : Volume
        The map.
    model : AtomicModel
        In the map's frame.
    regions : sequence of Region
        Of the model.

    Returns
    -------
    dict of str to ndarray of int, or str
        Name → atoms; or which two regions share residues.
    """
    owner = np.full(len(model.residues), _NOBODY)
    for row, region in enumerate(regions):
        before = owner[region.residues]
        if (before != _NOBODY).any():
            other = regions[int(before[before != _NOBODY][0])].name
            return f"{other!r} and {region.name!r} share residues"
        owner[region.residues] = row
    names = [region.name for region in regions]
    for label, residues in model.residues_by_chain.items():
        _give_rest(owner, names, label, residues, model)
    at = np.rint(index_of(volume, model.xyz))
    inside = ((at >= 0) & (at < np.array(volume.shape))).all(1)
    owners = owner[model.residue]
    owners[~inside & (owners >= len(regions))] = _NOBODY
    groups = {name: np.flatnonzero(owners == row) for row, name in enumerate(names)}
    return {name: atoms for name, atoms in groups.items() if len(atoms)}


def _give_rest(
    owner: Indices, names: list[str], label: str, residues: Sequence[int], model: AtomicModel
) -> None:
    """Give a chain's free residues to a part of their own, or its free ligands to the chain's region."""
    free = [i for i in residues if owner[i] == _NOBODY]
    owners = Counter(int(owner[i]) for i in residues if model.residues[i].kind == "polymer")
    if free and owners and not owners[_NOBODY]:
        owner[free] = owners.most_common(1)[0][0]
    elif free:
        owner[free] = len(names)
        name = f"rest of {label}" if len(free) < len(residues) else label
        while name in names:
            name += "_"
        names.append(name)


def with_joint(table: OccupancyTable, joints: JointRegions | Mapping[str, JointRegions]) -> OccupancyTable:
    """Return a table with the joint fits' occupancies, what was read beside them.

    Parts that the fit cannot tell apart, masks and components keep what was read, with a note.

    Parameters
    ----------
    table : OccupancyTable
        Local scales of the regions, which begin with those that were fitted.
    joints : JointRegions, or mapping of str to JointRegions
        Fit of these regions to the one map, or map → fit.
    """
    if isinstance(joints, JointRegions):
        joints = dict.fromkeys(table.maps, joints)
    values, errors = table.values.copy(), table.errors.copy()
    low, high = table.low.copy(), table.high.copy()
    read = "read in the map: not a part of the model"
    notes = [[read] * len(table.maps) for _ in table.regions]
    for column, map_name in enumerate(table.maps):
        joint = joints[map_name]
        fit = joint.fit
        for part, row in enumerate(joint.rows):
            name = fit.names[part]
            if name in joint.untold:
                others = ", ".join(joint.untold[name]) or "what is around it"
                notes[row][column] = f"read in the map: the joint fit cannot tell it from {others}"
                continue
            values[row, column], errors[row, column] = fit.values[part], fit.errors[part]
            low[row, column], high[row, column] = fit.low[part], fit.high[part]
            notes[row][column] = "; ".join(_notes(joint, part, table, (row, column)))
    beside = Beside(table.values, table.errors, low, high, tuple(map(tuple, notes)))
    reach = STANDARD_ERRORS_95
    return replace(table, values=values, errors=errors, kind="occupancy", reach_95=reach, beside=beside)


def _notes(joint: JointRegions, part: int, table: OccupancyTable, at: tuple[int, int]) -> list[str]:
    """Say where joint fit and reading differ beyond their errors, and where the density is another."""
    fit, notes = joint.fit, []
    read, error = float(table.values[at]), float(np.nan_to_num(table.errors[at]))
    reach = np.hypot(table.reach_95 * error, STANDARD_ERRORS_95 * fit.errors[part])
    more = read - float(fit.values[part])
    # Less than 0.05 is not marked, however small its error.
    if abs(more) > max(reach, 0.05):
        b = float(fit.b_factors[part] - np.median(fit.b_factors))
        if more > 0:
            notes.append("the map reads higher: fuller or denser neighbours?")
        elif b > 20:  # Å² above the median part: flexibility is the likely reason
            notes.append(f"the map reads lower: flexible (relative B {b:+.0f} Å²)?")
        else:
            notes.append("the map reads lower: weak neighbours, thin part or lighter material?")
    name = fit.names[part]
    if name in joint.poor:
        notes.append(f"unlike its density (local correlation {joint.correlations[name]:.2f}): misplaced?")
    return notes
