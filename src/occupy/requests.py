"""What the commands besides an estimate can be asked for. Plain Python without NumPy, like `settings`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from glob import glob, has_magic
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from occupy.errors import InputError
from occupy.settings import as_written, option

if TYPE_CHECKING:
    from occupy.model import Alternatives

Mask = Literal["none", "sphere", "soft"]


@dataclass(frozen=True)
class Imaging:
    """How a model becomes a map; see `occupy.simulate`."""

    voxel_size: float = option(3.0, "Å per voxel.", "Map")
    box: int | None = option(None, "Side in voxels, even [default: 30 % solvent].", "Map")
    resolution: float = option(6.0, "Å; no signal beyond, and B-factor 4 d².", "Map")
    signal_to_noise: float = option(
        30.0, "Variance of the signal at atoms over that of the noise; inf = none.", "Map", flags=("--snr",)
    )
    noise_colour: float = option(200.0, "B-factor of the noise (Å²); 0 = white.", "Map")
    half_maps: bool = option(False, "Write half-maps too.", "Map", flags=("--half-maps/--no-half-maps",))
    seed: int = option(0, "Of the noise and of all that is drawn.", "Map")
    rim_b_factor: float = option(0.0, "Å² more at the rim, growing with squared distance.", "Truth")

    def __post_init__(self) -> None:
        for name in ("voxel_size", "resolution"):
            number = getattr(self, name)
            if not (isfinite(number) and number > 0):
                raise ValueError(f"{name} must be a positive number, not {number!r}")
        # The voxel size may come from a float32 header, where two voxels are not exactly the resolution
        # written down.
        if self.resolution < 2 * self.voxel_size * (1 - 1e-6):
            raise ValueError(
                f"resolution {self.resolution!r} Å is beyond two voxels of {self.voxel_size!r} Å"
            )
        if not self.signal_to_noise > 0:
            raise ValueError(f"signal_to_noise must be positive, not {self.signal_to_noise!r}")
        if not (isfinite(self.noise_colour) and self.noise_colour >= 0):
            raise ValueError(f"noise_colour must be a B-factor of 0 Å² or more, not {self.noise_colour!r}")
        if not (isfinite(self.rim_b_factor) and self.rim_b_factor >= 0):
            raise ValueError(f"rim_b_factor must be 0 or more, not {self.rim_b_factor!r}")


@dataclass(frozen=True)
class ImagingWithHalves(Imaging):
    """The same, with half-maps unless they are not wanted: a command writes them for what reads its maps."""

    half_maps: bool = option(True, "Write half-maps too.", "Map")


@dataclass(frozen=True)
class Truth:
    """What is there of each chain of a simulated complex: drawn, from a table, or named; the later count."""

    occupancy: tuple[str, ...] = option((), "CHAIN=OCCUPANCY, repeated or with commas.", "Truth")
    b_factor: tuple[str, ...] = option((), "CHAIN=B, extra B-factor in Å², likewise.", "Truth")
    chains: Path | None = option(None, "CSV file: chain,occupancy,b_factor,block.", "Truth")
    draw: bool = option(False, "Draw occupancies.", "Truth")
    full: float = option(0.5, "Drawn: share of full chains (with blocks or classes: the core).", "Truth")
    blocks: int | None = option(None, "Drawn: for so many blocks of neighbours.", "Truth")
    draw_b_factor: float = option(0.0, "Draw B-factors up to this for 30 % of the chains.", "Truth")


@dataclass(frozen=True)
class ClassMixture:
    """Which classes a simulated set has: from a table, or drawn."""

    composition: Path | None = option(None, "CSV file: a row per chain, a column per class.", "Class set")
    classes: int | None = option(None, "Draw so many classes.", "Class set")
    weights: str | None = option(None, "Particles per class: 0.5,0.3,0.2", "Class set")
    class_noise: str | None = option(None, "Factors on the noise of each class.", "Class set")
    mixing: float = option(0.15, "Drawn: share of a class from other states.", "Class set")
    partial_everywhere: bool = option(False, "Drawn: one block is full in no class.", "Class set")
    class3d: bool = option(False, "As Class3D writes maps: --wiener --mask sphere.", "Processing")


@dataclass(frozen=True)
class Processing:
    """What is done to map, half-maps and clean map alike.

    Attributes
    ----------
    sharpening : float
        B-factor in Å² taken off: amplitudes times exp(+B q²/4), then a soft low-pass at the simulation's
        resolution. Negative values blur. 0 leaves the map, noise beyond the resolution included, as it is.
    mask : {"none", "sphere", "soft"}
        Zero outside of a sphere around the box's middle, or of a mask around all atoms, with a raised-cosine
        edge outside of it.
    mask_radius : float, optional
        Å; of the sphere (by default 10 Å beyond the outermost atom), or around atoms (by default 6 Å).
    mask_edge : float, optional
        Å over which the mask falls to zero; five voxels by default.
    wiener : bool
        Multiply every shell by SSNR/(1 + SSNR) and cut it off where the SSNR has fallen below 1, as RELION
        regularises its maps. SSNR = `tau2_fudge` · power of the signal / power of the noise. (RELION takes
        the signal's power from its previous, already shrunken map; where the SSNR is high, that is the same.)
    tau2_fudge : float
        RELION's T.
    """

    sharpening: float = option(0.0, "Take off this B-factor (Å²).", "Processing", flags=("--sharpen",))
    mask: Mask = option("none", "Zero outside: none, sphere, or soft (around atoms).", "Processing", kind=str)
    mask_radius: float | None = option(None, "Å [default: model + 10, or 6 from atoms].", "Processing")
    mask_edge: float | None = option(None, "Å of soft edge [default: 5 voxels].", "Processing")
    wiener: bool = option(False, "Shrink shells by SSNR/(1 + SSNR).", "Processing")
    tau2_fudge: float = option(1.0, "RELION's T.", "Processing")

    def __post_init__(self) -> None:
        if not isfinite(self.sharpening):
            raise ValueError(f"sharpening must be a B-factor in Å², not {self.sharpening!r}")
        if self.mask not in (known := ("none", "sphere", "soft")):
            raise ValueError(f"mask must be one of {', '.join(known)}, not {self.mask!r}")
        for name in ("mask_radius", "mask_edge", "tau2_fudge"):
            number = getattr(self, name)
            if number is not None and not (isfinite(number) and number > 0):
                raise ValueError(f"{name} must be a positive number, not {number!r}")


@dataclass(frozen=True)
class SimulationRequest:
    """Everything `occupy simulate` is asked for."""

    models: tuple[Path, ...]
    name: str | None = None
    imaging: Imaging = ImagingWithHalves()
    truth: Truth = Truth()
    mixture: ClassMixture = ClassMixture()
    processing: Processing = Processing()

    def __post_init__(self) -> None:
        self._check_sources()
        self._check_idle()
        if self.imaging.seed < 0:
            raise InputError(f"--seed must not be negative, not {self.imaging.seed}")

    @property
    def is_set(self) -> bool:
        """Whether maps of classes are wanted, instead of one map."""
        return self.mixture.classes is not None or self.mixture.composition is not None

    @property
    def processed(self) -> Processing:
        """What is done to the maps, with what ``--class3d`` stands for."""
        if not self.mixture.class3d:
            return self.processing
        mask = "sphere" if self.processing.mask == "none" else self.processing.mask
        return replace(self.processing, mask=mask, wiener=True)

    def as_written(self) -> dict[str, Any]:
        """Return everything as plain values, for the record."""
        given = {"models": [str(path) for path in self.models], "name": self.name}
        return given | as_written(self.imaging, self.truth, self.mixture, self.processing)

    def _check_sources(self) -> None:
        """Raise InputError for two answers to what there is of each chain."""
        given = {
            "--occupancy": self.truth.occupancy,
            "--chains": self.truth.chains,
            "--draw": self.truth.draw,
            "--composition": self.mixture.composition,
            # No class at all is refused where they are drawn.
            "--classes": self.mixture.classes,
        }
        sources = [flag for flag, value in given.items() if value]
        # A table may give B-factors and blocks to drawn occupancies, and single occupancies may correct both.
        if "--composition" in sources and len(set(sources) - {"--chains"}) > 1:
            raise InputError(f"{' and '.join(sources)}: the composition of classes is given already")
        if "--classes" in sources and {"--occupancy", "--draw"} & set(sources):
            raise InputError(
                f"{' and '.join(sources)}: classes are drawn as a whole; give a --composition instead"
            )

    def _check_idle(self) -> None:
        """Raise InputError for options that would do nothing."""
        if self.is_set:
            return
        mixture = self.mixture
        given = {
            "--weights": mixture.weights is not None,
            "--class-noise": mixture.class_noise is not None,
            "--partial-everywhere": mixture.partial_everywhere,
        }
        for flag in (flag for flag, value in given.items() if value):
            raise InputError(f"{flag} is about classes: give --classes or a --composition too")
        if self.truth.blocks is not None and not self.truth.draw:
            raise InputError("--blocks is about what is drawn: give --draw or --classes too")


def _matching(model: Path) -> list[Path]:
    """Return the files a pattern stands for; a name without ``*``, ``?`` and ``[`` stands for itself."""
    if not has_magic(str(model)) or model.exists():
        return [model]
    found = sorted(map(Path, glob(str(model), recursive=True)))  # noqa: PTH207
    if not found:
        raise InputError(f"no model matches {str(model)!r}")
    return found


@dataclass(frozen=True)
class RegionRequest:
    """Which regions of a map are wanted."""

    models: tuple[Path, ...] = option(
        (),
        "Model in the map's frame (.cif, .pdb, .gz) or pattern; may be repeated.",
        flags=("--model",),
    )
    by: str | None = option(
        None, "What is a region of the model [default: chain].", metavar="chain|residue|entity|ligand"
    )
    selections: Path | None = option(
        None, "YAML file naming chains and residue ranges, instead of --by.", flags=("--regions",)
    )
    masks: tuple[str, ...] = option(
        (), "Masks as regions: file, folder, or pattern in quotes; may be repeated.", metavar="PATTERN"
    )
    by_reading: bool = option(
        False, "Read the map at the atoms, instead of a joint fit of the model's parts.", "Joint fit"
    )
    exclusive: tuple[str, ...] = option(
        (),
        "Regions in one place, at most 1 together: 'LIG_A | LIG_B', or 'LIG_A | LIG_B = 1'; may be repeated.",
        "Joint fit",
        metavar="REGIONS",
    )

    def __post_init__(self) -> None:
        found = [path for model in self.models for path in _matching(model)]
        object.__setattr__(self, "models", tuple(dict.fromkeys(found)))

    def check(self) -> None:
        """Raise InputError where this makes no regions, or two answers to one question."""
        if not self.models and not self.masks:
            raise InputError("no regions: give --model (with --by or --regions), --masks, or both")
        if self.by is not None and self.selections is not None:
            raise InputError("give either --by or --regions, not both")
        if not self.models and (self.by is not None or self.selections is not None):
            raise InputError("--by and --regions need a --model")
        if self.exclusive and (not self.models or self.by_reading):
            raise InputError("--exclusive is about the joint fit of a --model's parts")

    @property
    def alternatives(self) -> tuple[Alternatives, ...]:
        """Regions that exclude each other."""
        from occupy.model import Alternatives

        names = [re.sub(r"=\s*1\s*$", "", text) for text in self.exclusive]
        parts = (tuple(name.strip() for name in text.split("|") if name.strip()) for text in names)
        complete = (name != text for name, text in zip(names, self.exclusive, strict=True))
        return tuple(map(Alternatives, parts, complete))

    @property
    def options(self) -> dict[str, Any]:
        """What a table of regions depends on, as plain values, for the record."""
        by = self.by or ("chain" if self.models and self.selections is None else None)
        given = {"exclusive": list(self.exclusive)} if self.exclusive else {}
        return {"by": by, "masks": list(self.masks)} | given


@dataclass(frozen=True)
class SetRequest:
    """How the maps of a set are compared."""

    lowpass: float | None = option(
        None, "Å: common resolution [default: of the least resolved class, 8 at the finest].", "Comparison"
    )
    components: bool = option(True, "Find parts that come and go together.", "Comparison")
    compare: tuple[str, str] | None = option(
        None, "Script of the difference of two classes (names or numbers).", "Output", metavar="A B"
    )
    resample: bool = option(False, "Bring maps on other grids onto the first one's.", "Comparison")
    voxel_size: float | None = option(None, "Å per voxel, in place of the header's.", "Comparison")
    resume: bool = option(False, "Go on with a run that was stopped.", "Output")
    report: bool = option(False, "Write a page with everything, for any browser, offline.", "Output")
    threads: int | None = option(
        None, "Maps worked on at a time [default: one per processor, up to 8].", "Run", min=1
    )
    scheduler: str | None = option(
        None,
        "Work on the Dask cluster of this scheduler, such as tcp://node17:8786.",
        "Run",
        metavar="ADDRESS",
    )

    @property
    def options(self) -> dict[str, Any]:
        """What results depend on, as plain values, for the record."""
        return as_written(self, without=("resume", "threads", "scheduler"))


@dataclass(frozen=True)
class WatchRequest:
    """How a classification that runs is followed."""

    lowpass: float | None = option(None, "Å: common resolution, as of occupy classes.")
    interval: float = option(10.0, "Seconds between two looks at the job.", min=0.1)
    every: int = option(1, "Read every so many-th iteration, and the last.", min=1)
    once: bool = option(False, "Read what is there and end.")


@dataclass(frozen=True)
class ParticleRequest:
    """How the parts of single particles are estimated."""

    map: Path | None = option(None, "Consensus map: the model's frame, or what masks cut from.")
    passthrough: tuple[Path, ...] = option((), "cryoSPARC's passthrough file; may be repeated.")
    shortest: float | None = option(
        None, "Å: finest resolution that is used [default: 8].", "Images", min=2.0
    )
    longest: float | None = option(
        None, "Å: coarsest resolution that is used [default: all].", "Images", min=20.0
    )
    refine: bool = option(
        True, "Correct small errors of the poses.", "Images", flags=("--refine/--keep-poses",)
    )
    threads: int | None = option(None, "Threads [default: one per processor].", "Run", min=1)


@dataclass(frozen=True)
class RunsRequest:
    """By what several runs over the same particles are judged, and which particles are written."""

    homogeneous: tuple[Path, ...] = option(
        (), "Run of the same settings on particles of one state; give two or more.", metavar="RUN"
    )
    occupancies: tuple[Path, ...] = option(
        (), "Result of occupy classes for each run, in their order.", metavar="FOLDER"
    )
    particles: Path | None = option(
        None, "Result of occupy particles: judge classes by it.", metavar="FOLDER"
    )
    probability: float = option(0.9, "How sure a particle must be to be written.", min=0.0, max=1.0)
    class_field: str | None = option(None, "Field of .cs files with the class.")

    def check(self, runs: int) -> None:
        """Refuse what can't be compared; InputError says why."""
        if runs < 2:
            raise InputError("one run has nothing to be compared with: give two or more, of other seeds")
        if len(self.homogeneous) == 1:
            raise InputError("--homogeneous: give two runs or more, to see how far they agree by themselves")
        if self.occupancies and len(self.occupancies) != runs:
            raise InputError(
                f"--occupancies: {len(self.occupancies)} results of occupy classes for {runs} runs; give one "
                "for each run, in their order"
            )


@dataclass(frozen=True)
class ClassSelection:
    """What the maps of classes must show for their particles to be taken."""

    region: tuple[str, ...] = option((), "Region of the table; may be repeated.")
    present: float | None = option(None, "Take classes in which it has at least this occupancy.")
    absent: float | None = option(None, "Take classes in which it has at most this occupancy.")
    any: bool = option(False, "One of several regions is enough.")
    where: str | None = option(
        None, "Instead: 'L17 >= 0.7 and (CP <= 0.3 or ST <= 0.3)'.", metavar="CONDITION"
    )
    certain: bool = option(False, "Only classes whose 95 % interval settles it.")


@dataclass(frozen=True)
class Numbering:
    """How classes and particles are numbered, where files do not tell."""

    set: str | None = option(None, "Job or model.star of the maps, where no record tells.", "Numbering")
    map_base: int | None = option(
        None, "Maps are counted from this, where it can't be told.", "Numbering", min=0, max=1
    )
    label_base: int | None = option(None, "So are the classes of the particles.", "Numbering", min=0, max=1)
    class_field: str | None = option(None, "Field of a .cs file with the class.", "Numbering")
    parent_ind: Path | None = option(
        None, "Indices (.pkl) that cryoDRGN was trained on with --ind.", "Numbering"
    )


@dataclass(frozen=True)
class PartSelection:
    """Parts that a particle must have, and must lack, and how sure that must be."""

    part: tuple[str, ...] = option((), "Part a particle has; may be repeated.", "By occupy particles")
    not_part: tuple[str, ...] = option((), "Part a particle lacks; may be repeated.", "By occupy particles")
    probability: float = option(
        0.9, "How sure both must be, per particle.", "By occupy particles", min=0.0, max=1.0
    )


@dataclass(frozen=True)
class SubtractionRequest:
    """Which part of a map a mask for subtraction keeps."""

    attenuate: float | None = option(None, "Power: keep S^(power − 1) of each part.")
    sigmoid: float | None = option(None, "Power: keep all above the pivot, less below.")
    pivot: float = option(0.5, "Scale the sigmoid leaves as it is.")
    soft_edge: float = option(0.0, "Å over which the mask is smoothed.")


@dataclass(frozen=True)
class ContentRequest:
    """What a mask of the content holds."""

    threshold: float | None = option(
        None, "Scale above which a voxel is content [default: 0.5, or the lowest confident]."
    )
    weak: float | None = option(
        None, "Keep parts above this too, where they touch content [default: 0.115, as above]."
    )
    close: float | None = option(
        None, "Fill gaps narrower than twice this (Å) [default: 5; 0 with --threshold]."
    )
    smallest: float = option(0.0, "Drop pieces of less than this volume (Å³).")
    extend: float = option(0.0, "Grow the mask by this (Å).")
    soft_edge: float = option(0.0, "Width of the soft edge outside it (Å).")
