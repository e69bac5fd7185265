"""Find the half-maps that belong to a map by how RELION, cryoSPARC and the EMDB name them."""

from __future__ import annotations

import re
from pathlib import Path

from occupy.io.names import is_file

_ENDINGS = (".mrc", ".map", ".mrc.gz", ".map.gz")


def _pairs(stem: str) -> list[tuple[str, str]]:
    """Return the names (without ending) that the halves of a map called ``stem`` may have."""
    pairs = [(f"{stem}_half1", f"{stem}_half2"), (f"{stem}_half_map_1", f"{stem}_half_map_2")]
    # RELION: run_class001 → run_half1_class001_unfil.
    relion = re.fullmatch(r"(.*run(?:_ct\d+)?(?:_it\d+)?)_(class\d+)", stem)
    if relion:
        pairs.append((f"{relion[1]}_half1_{relion[2]}_unfil", f"{relion[1]}_half2_{relion[2]}_unfil"))
    # cryoSPARC: J12_005_volume_map → J12_005_volume_map_half_A.
    pairs.append((f"{stem}_half_A", f"{stem}_half_B"))
    # EMDB: emd_1234 → emd_1234_half_map_1, the second pair above.
    return pairs


def find_half_maps(path: Path) -> tuple[Path, Path] | None:
    """Return the two half-maps beside a map, or None.

    Parameters
    ----------
    path : Path
        The map. Names tried: ``X_half1``, ``X_half_map_1`` (EMDB), ``X_half_A`` (cryoSPARC) and
        ``run_half1_class001_unfil`` for ``run_class001`` (RELION), each with its partner.
    """
    ending = next((e for e in _ENDINGS if path.name.lower().endswith(e)), path.suffix)
    stem = path.name[: len(path.name) - len(ending)]
    for first, second in _pairs(stem):
        for end in dict.fromkeys((ending, *_ENDINGS)):
            found = path.with_name(first + end), path.with_name(second + end)
            if is_file(found[0]) and is_file(found[1]):
                return found
    return None
