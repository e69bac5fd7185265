"""`occupy select`: the particles of the classes that have, or lack, a region."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from occupy.cli.arguments import Debug, Quiet
from occupy.cli.console import say, warn
from occupy.errors import InputError

if TYPE_CHECKING:
    from occupy.io.class_numbers import NumberedSet
    from occupy.io.particles import Particles
    from occupy.regions.choose import Condition
    from occupy.regions.table import OccupancyTable
    from occupy.report.selection import Selection


@dataclass(frozen=True)
class Wanted:
    """What the user asked of the classes."""

    regions: tuple[str, ...] = ()
    present: float | None = None
    absent: float | None = None
    any: bool = False
    where: str | None = None
    certain: bool = False

    def condition(self) -> Condition:
        """Return it as one condition; InputError where it is none, or two at a time."""
        from occupy.regions.choose import Limit, joined, parse_condition, threshold_of

        simple = bool(self.regions) or self.any or self.present is not None or self.absent is not None
        if self.where is not None:
            if simple:
                raise InputError("give either --where, or --region with --present or --absent")
            return parse_condition(self.where)
        if not self.regions:
            raise InputError("which region? give --region NAME with --present or --absent, or --where")
        if (self.present is None) == (self.absent is None):
            raise InputError(
                "give either --present or --absent with --region; for mixtures "
                "--where 'L17 >= 0.7 and CP <= 0.3'"
            )
        present = self.present is not None
        threshold = threshold_of(self.present if self.present is not None else self.absent or 0.0)
        return joined([Limit(region, threshold, present) for region in self.regions], every=not self.any)


@dataclass(frozen=True)
class Numbering:
    """What the user says of how classes are numbered."""

    set: str | None = None
    map_base: int | None = None
    label_base: int | None = None
    class_field: str | None = None


def _table_and_maps(source: Path, named: str | None) -> tuple[Path, OccupancyTable, NumberedSet]:
    """Read the table, and which map is which class: from the record beside it, or the set named."""
    from occupy.io.class_numbers import RECORD, numbered, read_numbered
    from occupy.report.tables import read_table

    path = source / "occupancy.csv" if source.is_dir() else source
    if named is None:
        maps = read_numbered(path.parent / RECORD)
    else:
        from occupy.io.sets import find_set

        found = find_set([named])
        for notice in found.notices:
            warn(notice.text)
        maps = numbered(found)
    table = read_table(path)
    strange = [name for name in table.maps if name not in {each.name for each in maps.maps}]
    if strange:
        raise InputError(f"{path}: its map {strange[0]} is none of the maps of {maps.source}")
    return path, table, maps


def choose(
    table: OccupancyTable, maps: NumberedSet, particles: Particles, wanted: Wanted, numbering: Numbering
) -> Selection:
    """Choose classes by what their maps hold; InputError where none fulfils the condition."""
    from occupy.io.class_numbers import match_classes
    from occupy.report.selection import Selection, doubts

    condition = wanted.condition()
    verdict = condition.verdict(table)
    labels, notices = match_classes(
        maps, particles, map_base=numbering.map_base, label_base=numbering.label_base
    )
    flags = verdict.surely if wanted.certain else verdict.chosen
    chosen = tuple(name for name, flag in zip(table.maps, flags, strict=True) if flag)
    found = Selection(condition, table, maps, labels, particles, verdict, chosen)
    if wanted.certain and not found.errors_known:
        raise InputError("--certain needs standard errors, and the table has none for these regions")
    if not chosen:
        surely = "surely " if wanted.certain else ""
        raise InputError(f"no class {surely}fulfils {condition}: {_values(found)}; nothing was written")
    if not found.selected:
        raise InputError(f"the classes that fulfil {condition} have no particles; nothing was written")
    return replace(found, notices=(*notices, *doubts(found)))


def _values(found: Selection) -> str:
    from occupy.report.tables import cell_text

    parts = []
    for region in found.regions[:4]:
        cells = (cell_text(*found.table.reading(region, name)) for name in found.table.maps[:8])
        parts.append(f"{region} is {', '.join(cells)}" + (" …" * (len(found.table.maps) > 8)))
    return "; ".join(parts)


def select_particles(
    source: Path,
    particles_file: Path,
    wanted: Wanted,
    numbering: Numbering,
    output: Path,
    *,
    parent_ind: Path | None = None,
    quiet: bool = False,
) -> None:
    """Select, write the particles and a record beside them, print what was found."""
    import numpy as np

    from occupy.io.atomic import write_text
    from occupy.io.checksum import reading
    from occupy.io.particles import check_target, read_particles, write_particles
    from occupy.report.record import file_of, to_json
    from occupy.report.selection import selection_lines, selection_record

    wanted.condition()
    path, table, maps = _table_and_maps(source, numbering.set)
    inputs: dict[str, Any] = {"table": file_of(path)}
    record = output.with_name(f"{output.stem}_selection.json")
    with ExitStack() as stack:
        # Particles are read twice, to count and to copy: both times the file must be the same.
        inputs["particles"] = stack.enter_context(reading(particles_file))
        particles = read_particles(particles_file, numbering.class_field)
        check_target(particles, output)
        if parent_ind is not None and particles.kind == "cryodrgn":
            inputs["parent_ind"] = stack.enter_context(reading(parent_ind))
        parents = _parents(parent_ind, particles)
        found = choose(table, maps, particles, wanted, numbering)
        keep = np.isin(particles.labels, [found.labels[name] for name in found.chosen])
        record.unlink(missing_ok=True)
        write_particles(particles, keep, output, parents)
    outputs = {"particles": output.name, "record": record.name}
    about = selection_record(found, inputs=inputs | {"set": maps.source}, outputs=outputs, command=sys.argv)
    write_text(record, to_json(about))
    for notice in found.notices:
        warn(notice.text, quiet)
    for line in selection_lines(found):
        say(line, quiet)
    say(f"written: {output} (and {record.name})", quiet)


def _parents(path: Path | None, particles: Particles) -> Any:
    """Read the indices that a cryoDRGN analysis was made of."""
    from occupy.io.plain_pickle import read_integers

    if path is None:
        return None
    if particles.kind != "cryodrgn":
        raise InputError("--parent-ind is for cryoDRGN's labels only")
    parents = read_integers(path)
    if len(parents) != len(particles.labels):
        raise InputError(
            f"{path}: {len(parents)} indices, but {particles.path.name} has {len(particles.labels)} particles"
        )
    return parents


TableArgument = Annotated[
    Path,
    typer.Argument(metavar="TABLE", help="Folder of `occupy classes` (its occupancy.csv) or `particles`."),
]
ParticleFile = Annotated[
    Path,
    typer.Option(
        "--particles", help="RELION's *_data.star, cryoSPARC's .cs, cryoDRGN's labels.pkl or labels.txt."
    ),
]
TargetFile = Annotated[
    Path, typer.Option("-o", "--output", help="File to write: .star, .cs, or .pkl for cryoDRGN's --ind.")
]
RegionNames = Annotated[
    list[str] | None,
    typer.Option("--region", help="Region of the table; may be repeated.", show_default=False),
]
Present = Annotated[
    float | None,
    typer.Option(
        "--present", help="Take classes in which it has at least this occupancy.", show_default=False
    ),
]
Absent = Annotated[
    float | None,
    typer.Option("--absent", help="Take classes in which it has at most this occupancy.", show_default=False),
]
AnyRegion = Annotated[
    bool, typer.Option("--any", help="One of several regions is enough.", show_default=False)
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Instead: 'L17 >= 0.7 and (CP <= 0.3 or ST <= 0.3)'.",
        show_default=False,
    ),
]
Certain = Annotated[
    bool,
    typer.Option("--certain", help="Only classes whose 95 % interval settles it.", show_default=False),
]
SetOfMaps = Annotated[
    str | None,
    typer.Option("--set", help="Job or model.star of the maps, where no record tells.", show_default=False),
]
MapBase = Annotated[
    int | None,
    typer.Option(
        "--map-base",
        min=0,
        max=1,
        help="Maps are counted from this, where it can't be told.",
        show_default=False,
    ),
]
LabelBase = Annotated[
    int | None,
    typer.Option(
        "--label-base", min=0, max=1, help="So are the classes of the particles.", show_default=False
    ),
]
ClassField = Annotated[
    str | None,
    typer.Option("--class-field", help="Field of a .cs file with the class.", show_default=False),
]
ParentInd = Annotated[
    Path | None,
    typer.Option(
        "--parent-ind",
        help="Indices (.pkl) that cryoDRGN was trained on with --ind.",
        show_default=False,
    ),
]


Parts = Annotated[
    list[str] | None,
    typer.Option(
        "--part", help="Of occupy particles: part a particle has; may be repeated.", show_default=False
    ),
]
NotParts = Annotated[
    list[str] | None,
    typer.Option("--not-part", help="Part a particle lacks; may be repeated.", show_default=False),
]
Probability = Annotated[
    float,
    typer.Option("--probability", min=0.0, max=1.0, help="How sure both must be, per particle."),
]


def select(
    table: TableArgument,
    particles: ParticleFile,
    output: TargetFile,
    region: RegionNames = None,
    present: Present = None,
    absent: Absent = None,
    any_: AnyRegion = False,
    where: Where = None,
    certain: Certain = False,
    set_: SetOfMaps = None,
    map_base: MapBase = None,
    label_base: LabelBase = None,
    class_field: ClassField = None,
    parent_ind: ParentInd = None,
    part: Parts = None,
    not_part: NotParts = None,
    probability: Probability = 0.9,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write the particles of the classes that have, or lack, a region; or that have a part by themselves."""
    if part or not_part:
        from occupy.cli.select_parts import WantedParts, select_by_presence

        if region or where is not None:
            raise InputError("give either --part and --not-part, or --region or --where")
        asked = WantedParts(tuple(part or ()), tuple(not_part or ()), probability)
        select_by_presence(table, particles, asked, output, quiet=quiet)
        return
    wanted = Wanted(tuple(region or ()), present, absent, any_, where, certain)
    numbering = Numbering(set_, map_base, label_base, class_field)
    select_particles(table, particles, wanted, numbering, output, parent_ind=parent_ind, quiet=quiet)
