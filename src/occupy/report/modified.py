"""Write modified maps from the scale and confidence of an earlier run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from occupy.errors import InputError
from occupy.io.atomic import make_folder, remove_leftovers, write_text
from occupy.io.mrc import write_map
from occupy.modify import solvent_noise
from occupy.render import finish, modified_slab, needs_noise, products_of
from occupy.report.contents import MODIFIED, WHAT, earlier_modifications, withdraw
from occupy.report.record import number_in, to_json
from occupy.resolve import ResolvedSettings
from occupy.volume import Volume


def write_modified(
    volume: Volume,
    scale: Volume,
    confidence: Volume,
    record: Mapping[str, Any],
    settings: ResolvedSettings,
    folder: Path,
    progress: Callable[[str, int, int], None],
) -> tuple[list[str], list[str]]:
    """Write the maps the settings ask for, and a record of them.

    Parameters
    ----------
    volume, scale, confidence : Volume
        Input map of the earlier run and the two maps it wrote.
    record : mapping
        Record of the earlier run.
    settings : ResolvedSettings
        Settings of that run with the modifications wanted now.
    folder : Path
        Where to.
    progress : callable
        ``progress(stage, done, total)``.

    Returns
    -------
    written, removed : list of str
        Names of the files that were written, and of modified maps of another estimate that lay there.
    """
    for other in (scale, confidence):
        if other.shape != volume.shape:
            raise InputError(f"{other.name} is {other.shape[::-1]} voxels, the map {volume.shape[::-1]}")
    products = products_of(settings)[2:]
    if not products:
        raise InputError("nothing to do: give --amplify, --attenuate, --sigmoid or --exclude-solvent")
    noise = None
    if needs_noise(settings, products):
        mean = number_in(record, "solvent", "mean")
        noise = solvent_noise(
            volume.data, confidence.data, mean, seed=settings.seed, threads=settings.threads
        )
    remove_leftovers(make_folder(folder))
    names = {product: f"{volume.name}_{product}.mrc" for product in products}
    # Those made of the same estimate that stay are vouched for by the new record too.
    earlier, stale = earlier_modifications(folder, volume.name, record, names.values())
    withdraw(folder, volume.name, names.values())
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    span = float(volume.data.min()), float(volume.data.max())
    files = {}
    for number, (product, name) in enumerate(names.items()):
        progress(product, number, len(products))
        data = modified_slab(product, settings, span, volume.data, scale.data, confidence.data, noise)
        whole = volume.with_data(finish(settings, volume, np.asarray(data)))
        files[name] = write_map(folder / name, whole, WHAT[product], checksum=True)
    made = {
        **record,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "modified_from": record["created"],
        "settings": settings.as_dict(),
        "outputs": names,
        "files": {name: found.about() for name, found in files.items() if found is not None},
        "earlier": earlier,
    }
    made.pop("withdrawn", None)  # of the estimate, not of this
    last = f"{volume.name}{MODIFIED}"
    write_text(folder / last, to_json(made))
    return [*names.values(), last], stale
