"""Write modified maps from the scale and confidence of an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from occupy.errors import InputError
from occupy.io.atomic import make_folder, remove_leftovers, write_text
from occupy.io.checksum import written as checksum_of
from occupy.modify import modified_maps
from occupy.report.chimerax_files import modified_script, opens_as_read, seen_from
from occupy.report.contents import MODIFIED, WHAT, earlier_modifications, withdraw
from occupy.report.record import number_in, to_json
from occupy.report.results import write_lazy_maps
from occupy.report.surfaces import level_of_record
from occupy.resolve import ResolvedSettings
from occupy.volume import LazyMap, Progress, Volume

_SCRIPT = "_modified.cxc"


def write_modified(
    volume: Volume,
    scale: LazyMap,
    confidence: LazyMap,
    record: Mapping[str, Any],
    settings: ResolvedSettings,
    folder: Path,
    progress: Progress,
    sources: tuple[Path, Path] | None = None,
) -> tuple[list[str], list[str]]:
    """Write the maps the settings ask for, and a record of them.

    Parameters
    ----------
    volume : Volume
        Input map of the earlier run.
    scale, confidence : LazyMap
        The two maps it wrote.
    record : mapping
        Record of the earlier run.
    settings : ResolvedSettings
        Settings of that run with the modifications wanted now.
    folder : Path
        Where to.
    progress : callable
        ``progress(stage, done, total)``.
    sources : tuple of Path, optional
        Files of the input map and of its scale, where a ChimeraX script is wanted.

    Returns
    -------
    written, removed : list of str
        Names of the files that were written, and of modified maps of another estimate that lay there.
    """
    for other in (scale, confidence):
        if other.shape != volume.shape:
            raise InputError(f"{other.name} is {other.shape[::-1]} voxels, the map {volume.shape[::-1]}")
    span = float(volume.data.min()), float(volume.data.max())
    mean = 0.0 if settings.attenuate is None else number_in(record, "solvent", "mean")
    made = modified_maps(volume, scale, confidence, settings, span=span, solvent_mean=mean)
    if not made:
        raise InputError("nothing to do: give --amplify, --attenuate, --sigmoid or --exclude-solvent")
    remove_leftovers(make_folder(folder))
    script_name = f"{volume.name}{_SCRIPT}"
    names = {product: f"{volume.name}_{product}.mrc" for product in made}
    # Those made of the same estimate that stay are vouched for by the new record too.
    earlier, stale = earlier_modifications(folder, volume.name, record, [*names.values(), script_name])
    shown = {product: name for run in earlier for product, name in run["outputs"].items()}
    script = None if sources is None else _script(volume, {**shown, **names}, record, folder, sources)
    withdraw(folder, volume.name, names.values())
    (folder / script_name).unlink(missing_ok=True)
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    written = {name: (WHAT[product], made[product]) for product, name in names.items()}
    files = write_lazy_maps(folder, written, progress=progress)
    sums = {name: found.about() for name, found in files.items()}
    if script is not None:
        write_text(folder / script_name, script)
        names["chimerax"] = script_name
        sums[script_name] = checksum_of(folder / script_name)
    about = {
        **record,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "modified_from": record["created"],
        "settings": settings.as_dict(),
        "outputs": names,
        "files": sums,
        "earlier": earlier,
    }
    about.pop("withdrawn", None)  # of the estimate, not of this
    last = f"{volume.name}{MODIFIED}"
    write_text(folder / last, to_json(about))
    return [*names.values(), last], stale


def _script(
    volume: Volume,
    shown: Mapping[str, str],
    record: Mapping[str, Any],
    folder: Path,
    sources: tuple[Path, Path],
) -> str | None:
    """Return a ChimeraX script of the modified maps; None where ChimeraX could not open a file."""
    if not all(opens_as_read(folder, path, volume.voxel_size) for path in sources):
        return None
    dust = float(record["settings"]["lowpass"])
    try:
        files = (seen_from(folder, sources[0]), seen_from(folder, sources[1]))
        return modified_script(
            volume.name, files, shown, level=level_of_record(record, volume.data), dust=dust
        )
    except InputError:
        return None
