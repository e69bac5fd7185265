"""What belongs to a result folder: which record vouches for a file, and what an earlier run left."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from occupy.errors import InputError, OccupyError
from occupy.io.atomic import explain, write_text
from occupy.io.checksum import is_as_written
from occupy.io.mrc import read_header
from occupy.report.record import read_record, to_json

WHAT = {
    "scale": "local scale",
    "confidence": "confidence",
    "mask_featureless": "content without detail: lipid, detergent",
    "mask_fdr": "content at a false-discovery rate",
    "occupancy": "occupancy",
    "uncertainty": "standard error of the occupancy",
    "relative_bfactor": "relative B-factor",
    "relative_bfactor_error": "standard error of the relative B-factor",
    "lowpass": "low-passed input",
    "amplified": "amplified by local scale",
    "attenuated": "attenuated by local scale",
    "sigmoid": "modified by a sigmoid of local scale",
    "solvent_excluded": "solvent excluded",
}
"""Product of an estimate → what the map's last label says."""

ESTIMATE, MODIFIED, NAME = "_occupy.json", "_modified.json", "occupy_set.json"
"""Ends of the names of records of an estimate and of its modification; name of that of a set."""

_OF_A_RUN = ("created", "settings", "outputs", "files")


def why_not_vouched(folder: Path, record: Mapping[str, Any]) -> str | None:
    """Return why a record can't vouch for the files of its run; None where all are as they were written."""
    if record.get("withdrawn"):
        return f"{', '.join(record['withdrawn'])} was replaced since"
    if "files" not in record:
        return "its record is of a version that kept no checksums"
    without = next((name for name in record["outputs"].values() if name not in record["files"]), None)
    return changed_file(folder, record["files"]) if without is None else f"{without} has no checksum"


def changed_file(folder: Path, files: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the first file of a record that is not as it was written; None if all are."""
    for name, about in files.items():
        path = folder / name
        try:
            same = is_as_written(path, about)
        except (OSError, TypeError, KeyError):
            return f"{name} is missing"
        if not same:
            return f"{name} is not as it was written"
    return None


def make_way(folder: Path, stem: str, coming: Collection[str], inputs: Collection[Path]) -> list[str]:
    """Withdraw the records of earlier runs over a map, and remove what they wrote and this one does not.

    What is removed is what such a record names and nobody changed since, and maps with this program's name
    and label. Everything derived from the maps goes too: a run that is killed leaves none of it.

    Parameters
    ----------
    folder : Path
        Of the results.
    stem : str
        Name of the map.
    coming : collection of str
        Maps about to be moved into the folder; those there stay until then.
    inputs : collection of Path
        Files that were read, which are never removed.

    Returns
    -------
    list of str
        Names that were removed.
    """
    kept = {path.resolve() for path in inputs}
    records = [folder / (stem + ending) for ending in (ESTIMATE, MODIFIED)]
    old = [name for path in records for name in _unchanged(path)]
    maps = [
        f"{stem}_{product}.mrc" for product, what in WHAT.items() if _is_ours(folder, stem, product, what)
    ]
    removed = []
    for name in dict.fromkeys(old + maps):
        if name not in coming and (folder / name).resolve() not in kept:
            (folder / name).unlink(missing_ok=True)
            removed.append(name)
    for path in records:
        path.unlink(missing_ok=True)
    return removed


def _unchanged(path: Path) -> Iterator[str]:
    """Yield files, other than maps, that a record names and that are as its run wrote them."""
    try:
        record = read_record(path)
        when = path.stat().st_mtime_ns
    except (OccupyError, OSError):
        return
    files = record.get("files", {})
    # Maps are told by their labels: to read them all again would take as long as to write them.
    for name in (name for name in record["outputs"].values() if not name.endswith(".mrc")):
        with suppress(OSError):
            file = path.parent / name
            # The record was written last, so without checksums a file that is younger was changed.
            same = is_as_written(file, files[name]) if name in files else file.stat().st_mtime_ns <= when
            if same:
                yield name


def _is_ours(folder: Path, stem: str, product: str, what: str) -> bool:
    """Tell whether a map was written by this program as a product of an estimate."""
    path = folder / f"{stem}_{product}.mrc"
    if not path.is_file():
        return False
    try:
        labels = read_header(path).frame.labels
    except InputError:
        return False
    return bool(labels) and labels[-1].startswith("occupy ") and labels[-1].endswith(f": {what}")


def withdraw(folder: Path, stem: str, names: Collection[str]) -> None:
    """Let no record vouch for files that are about to be replaced: the estimate's, and the latest modify's.

    The record of the estimate stays, without them: everything else in the folder is as it says.
    """
    (folder / (stem + MODIFIED)).unlink(missing_ok=True)
    path = folder / (stem + ESTIMATE)
    if not path.exists():
        return
    record = read_record(path)
    gone = [product for product, name in record["outputs"].items() if name in names]
    if not gone:
        return
    outputs = {product: name for product, name in record["outputs"].items() if product not in gone}
    files = {name: about for name, about in record.get("files", {}).items() if name not in names}
    changed = {**record, "outputs": outputs, "withdrawn": sorted({*record.get("withdrawn", ()), *gone})}
    if "files" in record:
        changed["files"] = files
    try:
        write_text(path, to_json(changed))
    except OSError as error:
        raise explain(error, path) from error


def earlier_modifications(
    folder: Path, stem: str, estimate: Mapping[str, Any], coming: Collection[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what earlier calls of ``occupy modify`` wrote into a folder and this one leaves there.

    Parameters
    ----------
    folder : Path
        Where to.
    stem : str
        Name of the map.
    estimate : mapping
        Record of the estimate that is modified now.
    coming : collection of str
        Files that are about to be written.

    Returns
    -------
    runs : list of dict
        ``created``, ``settings``, ``outputs``, ``files`` of those that modified the same estimate.
    stale : list of str
        Maps of this program that were made of another estimate.
    """
    try:
        old = read_record(folder / (stem + MODIFIED))
        told = [*old.get("earlier", ()), {key: old.get(key) for key in _OF_A_RUN}]
        runs = [
            {**run, "outputs": {p: name for p, name in run["outputs"].items() if name not in coming}}
            for run in told
        ]
    except (OccupyError, TypeError, KeyError, AttributeError):  # none, or one that was tampered with
        return [], []
    runs = [run for run in runs if run["outputs"]]
    if old.get("modified_from") == estimate["created"]:
        return runs, []
    names = {product: name for run in runs for product, name in run["outputs"].items()}
    vouched = set(estimate["outputs"].values())
    return [], [
        name
        for product, name in names.items()
        if name not in vouched and product in WHAT and _is_ours(folder, stem, product, WHAT[product])
    ]


def refuse_results(folder: Path) -> None:
    """Raise InputError where a folder holds the results of an estimate or a set, which are no input."""
    kinds = {ESTIMATE: "an estimate", MODIFIED: "occupy modify", NAME: "occupy classes"}
    for ending, what in kinds.items():
        found = sorted(folder.glob(f"*{ending}"))
        if found:
            more = "" if ending == NAME else "occupy modify and occupy regions go on from it; "
            raise InputError(
                f"{folder} holds the results of {what} ({found[0].name}), not maps to estimate: occupy view "
                f"shows them; {more}name a map to estimate it"
            )
