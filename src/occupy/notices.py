"""What makes an estimate doubtful: its settings, its calibration, its solvent fit."""

from __future__ import annotations

import numpy as np

from occupy.calibration import Calibration
from occupy.checks import MapFacts
from occupy.confidence import ConfidenceCurve
from occupy.errors import InputError, Notice
from occupy.resolve import ResolvedSettings
from occupy.scale import FullScale
from occupy.solvent import SolventModel

# A Gaussian solvent leaves 2–10 % between fit and histogram; beyond a third it is no Gaussian.
WORST_MISFIT = 0.35
LEAST_SOLVENT = 0.15
# Where content is told from solvent only above this scale, little of a partial map would be seen.
MOST_CONFIDENT_SCALE = 0.6
MOST_NOISE = 0.5


def calibration_notices(found: Calibration | None) -> list[Notice]:
    """Return what is doubtful about a calibration."""
    if found is None:
        text = "too little density above the noise to calibrate on: full scale is that of the fullest tile"
        return [Notice("calibration", text)]
    if found.noise > MOST_NOISE:
        text = f"noise alone reads as much as {found.noise:.2f} of a full part: low occupancies are uncertain"
        return [Notice("noise", text)]
    other = found.other_level
    if other is not None:
        text = (
            f"ambiguous level: full may be {found.full:.4g} map units (taken) or {other * found.full:.4g}, "
            f"by which parts read {1 / other:.2f} times as much; a part that is known to be full settles it"
        )
        return [Notice("ambiguous-level", text)]
    return []


def setting_notices(settings: ResolvedSettings) -> list[Notice]:
    """Return what is doubtful about the settings for this map; InputError where they can't be right."""
    extent = min(n * a for n, a in zip(settings.shape, settings.voxel_size, strict=True))
    if extent < settings.lowpass:
        raise InputError(
            f"the low-pass of {settings.lowpass:g} Å is longer than the box ({extent:.3g} Å): is the voxel "
            "size right?"
        )
    if extent >= 5 * settings.lowpass:
        return []
    return [
        Notice(
            "small-box",
            f"the box is only {extent:.0f} Å wide, {extent / settings.lowpass:.1f} low-pass resolutions: too "
            "little for a scale relative to full; give a whole map, or a finer --lowpass",
        )
    ]


def solvent_notices(
    solvent: SolventModel, curve: ConfidenceCurve, facts: MapFacts, full: FullScale
) -> list[Notice]:
    """Return what is doubtful about the solvent fit."""
    problem = None
    share = solvent.height * solvent.sigma * np.sqrt(2 * np.pi)
    crossing = curve.crossing(0.5)
    if solvent.sigma < 1.5 * solvent.region.width:
        problem = "the solvent has no width (flattened)"
    elif crossing > 0.5 * (facts.low + facts.high):
        problem = "the solvent peak reaches above the middle of the map's values"
    elif crossing > MOST_CONFIDENT_SCALE * full.value:
        problem = f"content is told from solvent only above {crossing / full.value:.2f} of full scale"
    elif not np.isfinite(solvent.misfit):
        problem = "the values end at the solvent peak"
    elif solvent.misfit > WORST_MISFIT:
        problem = f"the solvent is not Gaussian (misfit {solvent.misfit:.0%})"
    elif share < LEAST_SOLVENT:
        problem = f"only {share:.0%} of the box looks like solvent"
    notices = []
    if problem is not None:
        advice = "do not trust the confidence; give an unmasked map, or --solvent-mask"
        notices.append(Notice("solvent-fit", f"bad solvent fit: {problem}; {advice}"))
    elif abs(solvent.mean) > max(2 * solvent.sigma, 0.05 * full.value):
        notices.append(
            Notice(
                "offset",
                f"the solvent lies at {solvent.mean:.3g} and not at 0, but the scale is relative to 0",
            )
        )
    return notices
