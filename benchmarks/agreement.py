"""How far ``--estimator nlf`` agrees with stored outputs of OccuPy 0.1.13.

    python -m benchmarks.agreement [--data FOLDER]

Needs the folders ``maps``, ``relion_50s`` and ``reference`` of the shared data, unpacked or packed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy import Settings, read_map
from occupy.pipeline import Estimate, estimate
from occupy.volume import compute_planes

CASES = {
    "betaGal": ("maps/beta_galactosidase.mrc", 5),
    "emd_32143": ("maps/emd_32143.map", 5),
    "relion50s_consensus": ("relion_50s/consensus.mrc", 6),
}
# folder and file of the reference, our product, our settings, tolerance
ROWS: tuple[tuple[str, str, dict[str, Any], float], ...] = (
    ("occ_mod/scale_occ.mrc", "scale", {}, 0.01),
    ("res/scale_res.mrc", "scale", {"mode": "resolution"}, 0.01),
    ("occ_nlrc/scale_occ.mrc", "scale", {"recalibrate": True}, 0.01),
    ("s0/scale_naive_occ.mrc", "scale", {"naive": True}, 0.01),
    ("occ_mod/conf.mrc", "confidence", {}, 0.05),
    ("occ_mod/ampl_3.0_solExcl.mrc", "amplified", {"amplify": 3.0, "exclude_solvent": True}, 0.05),
    ("occ_mod/attn_3.0_solExcl.mrc", "attenuated", {"attenuate": 3.0, "exclude_solvent": True}, 0.05),
    (
        "occ_mod/sigm_5.0-0.20_solExcl.mrc",
        "sigmoid",
        {"sigmoid": 5.0, "pivot": 0.2, "exclude_solvent": True},
        0.05,
    ),
    ("occ_keep/ampl_3.0.mrc", "amplified", {"amplify": 3.0}, 0.05),
)


def product(est: Estimate, name: str) -> npt.NDArray[np.float32]:
    """Return one map of an estimate."""
    out = np.empty(est.volume.shape, dtype=np.float32)

    def keep(_: str, start: int, stop: int, slab: npt.NDArray[np.float32]) -> None:
        out[start:stop] = slab

    compute_planes({name: est.maps[name]}, keep)
    return out


def differences(data: Path, case: str) -> list[str]:
    """Return a line of the table per stored output of one map."""
    path, tile = CASES[case]
    volume = read_map(data / path)
    lines = []
    for file, name, options, tolerance in ROWS:
        stored = data / "reference" / case / file
        if not stored.exists():
            continue
        settings = Settings(estimator="nlf", tile_size=tile, **options)
        ours = product(estimate(volume, settings), name)
        theirs = read_map(stored).data
        scaled = theirs.min() >= 0 and theirs.max() <= 1.001
        unit = 1.0 if scaled else float(np.quantile(np.abs(theirs), 0.9999))
        d = np.abs(ours - theirs) / unit
        share = float(np.mean(d > tolerance))
        verdict = "" if share <= 0.001 else "  DISAGREES"
        lines.append(
            f"| {case} | {file} | {d.max():.4f} | {d.mean():.1e} | {tolerance} | {share:.4%}{verdict} |"
        )
    return lines


def unpacked(data: Path, folder: Path) -> Path:
    """Unpack the sets needed, where they are packed."""
    if (data / "unpack").exists():
        sets = ["maps", "relion_50s", "reference"]
        subprocess.run([str(data / "unpack"), str(folder), *sets], check=True)
        return folder
    return data


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; exit 1 where something disagrees."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OCCUPY_SHARED_DATA", beside)))
    parser.add_argument("--smoke", action="store_true", help="one map only")
    a = parser.parse_args(arguments)
    if not a.data.exists():
        print(f"no data in {a.data}: nothing compared")
        sys.exit(os.environ.get("OCCUPY_REQUIRE_DATA") == "1")
    print("| map | reference output | largest difference | mean | tolerance | voxels beyond |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        data = unpacked(a.data, Path(temporary))
        lines = [line for case in list(CASES)[: 1 if a.smoke else None] for line in differences(data, case)]
    print("\n".join(lines))
    sys.exit(any("DISAGREES" in line for line in lines))


if __name__ == "__main__":
    main()
