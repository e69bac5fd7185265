"""OccuPy's job types for CCP-EM's pipeliner, and so for Doppio.

The pipeliner finds them by the entry points ``ccpem_pipeliner.jobs`` of this distribution. Each is a form,
a command line of ``occupy`` and the nodes it makes; nothing is computed here.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from pipeliner import nodes
from pipeliner.display_tools import create_results_display_object, make_map_model_thumb_and_display
from pipeliner.job_options import (
    BooleanJobOption,
    FloatJobOption,
    InputNodeJobOption,
    JobOption,
    JobOptionCondition,
    JobOptionValidationResult,
    MultiInputNodeJobOption,
    MultipleChoiceJobOption,
    StringJobOption,
)
from pipeliner.pipeliner_job import ExternalProgram, JobInfo, PipelinerCommand, PipelinerJob, Ref
from pipeliner.results_display_objects import ResultsDisplayObject

from occupy import __version__

_ROWS = 200
"""Rows of a table shown in Doppio; the file has all."""
_PAPER = Ref(
    authors=["Forsberg, B. O.", "Shah, P. N. M.", "Burt, A."],
    title=(
        "A robust normalized local filter to estimate compositional heterogeneity directly from cryo-EM maps"
    ),
    journal="Nature Communications",
    year="2023",
    doi="10.1038/s41467-023-41478-1",
)


class _OccupyJob(PipelinerJob):  # type: ignore[misc]
    """What all of OccuPy's jobs share: program, citation, fields as arguments, results as displays."""

    OUT_DIR = "OccuPy"
    TITLE = ""
    SUMMARY = ""

    def __init__(self) -> None:
        super().__init__()
        self.jobinfo = JobInfo(
            display_name=self.TITLE,
            version=__version__,
            job_author="The OccuPy founders",
            short_desc=self.SUMMARY,
            long_desc=self.__doc__ or self.SUMMARY,
            external_programs=[ExternalProgram("occupy", vers_com=["occupy", "--version"])],
            references=[_PAPER],
        )
        self.joboptions.update(self.form())
        self.make_additional_args()
        self.get_runtab_options(addtl_args=True)

    def form(self) -> dict[str, JobOption]:
        """Return the fields of the form by name; ``exclude_solvent`` is the option ``--exclude-solvent``."""
        return {}

    def create_output_nodes(self) -> None:
        """Announce what will surely be there; jobs that can't know add what they find at the end."""

    def arguments(self, *names: str) -> list[str]:
        """Options of the command for the named fields; fields left empty give none."""
        words = []
        for name in names:
            field, flag = self.joboptions[name], "--" + name.replace("_", "-")
            if isinstance(field, BooleanJobOption):
                words += [flag] if field.get_boolean() else []
            elif isinstance(field, FloatJobOption):
                words += [] if field.is_blank else [flag, f"{field.get_number():g}"]
            elif not field.is_blank:
                words += [flag, field.get_string()]
        return words

    def command(self, name: str, inputs: Sequence[str], *words: str) -> list[PipelinerCommand]:
        """Return the one command of a job, which writes into the job's folder."""
        call = ["occupy", name, *inputs, *words, *self.parse_additional_args()]
        return [PipelinerCommand([*call, "-o", self.output_dir.rstrip("/")])]

    def stem(self) -> str:
        """Name of the results: the map's file name without its ending."""
        return Path(self.joboptions["input_map"].get_string()).stem

    def add_found(self, *wanted: tuple[str, str, str]) -> None:
        """Make a node of each of the job's files that is there: pattern, type of node, keyword."""
        for pattern, kind, keyword in wanted:
            for path in sorted(Path(self.output_dir).glob(pattern)):
                self.add_output_node(path.name, kind, ["occupy", keyword])

    def shown_table(self, title: str, name: str) -> ResultsDisplayObject:
        """Show a tab-separated table of the job's folder; its first rows, where it is long."""
        with (Path(self.output_dir) / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader((line for line in file if not line.startswith("#")), delimiter="\t"))
        more = f" (first {_ROWS} of {len(rows) - 1} rows)" if len(rows) - 1 > _ROWS else ""
        return create_results_display_object(
            "table",
            title=title + more,
            headers=rows[0],
            table_data=rows[1 : _ROWS + 1],
            associated_data=[str(Path(self.output_dir) / name)],
        )

    def shown_pictures(self, **titles: str) -> list[ResultsDisplayObject]:
        """Show the job's pictures whose names end so: ending of the name without .png, and title."""
        return [
            create_results_display_object(
                "image", title=title, image_path=str(path), image_desc=title, associated_data=[str(path)]
            )
            for ending, title in titles.items()
            for path in sorted(Path(self.output_dir).glob(f"*{ending}.png"))
        ]

    def shown_map(self, pattern: str, title: str) -> list[ResultsDisplayObject]:
        """Show the job's maps of that pattern in three dimensions."""
        return [
            make_map_model_thumb_and_display(outputdir=self.output_dir, maps=[str(path)], title=title)
            for path in sorted(Path(self.output_dir).glob(pattern))
        ]


def _map(label: str = "Map") -> InputNodeJobOption:
    return InputNodeJobOption(
        label=label,
        node_type=nodes.NODE_DENSITYMAP,
        is_required=True,
        help_text="An unmasked, unsharpened reconstruction; half-maps beside it are found by their names.",
    )


def _model(required: bool = True) -> InputNodeJobOption:
    return InputNodeJobOption(
        label="Atomic model",
        node_type=nodes.NODE_ATOMCOORDS,
        is_required=required,
        help_text="In the frame of the map; mmCIF or PDB.",
    )


def _by() -> MultipleChoiceJobOption:
    return MultipleChoiceJobOption(
        label="Parts are",
        choices=["chain", "entity", "ligand", "residue"],
        default_value="chain",
        help_text="Which atoms of the model share one occupancy.",
    )


def _number(label: str, help_text: str, **limits: float) -> FloatJobOption:
    return FloatJobOption(label=label, help_text=help_text, **limits)


def _amplify() -> FloatJobOption:
    return _number(
        "Amplify by power", "Weak parts are raised to full scale; 3 is gentle, 1000 equalises.", hard_min=1
    )


def _attenuate() -> FloatJobOption:
    return _number("Attenuate by power", "Weak parts are made weaker still.", hard_min=1)


def _exclude_solvent() -> BooleanJobOption:
    return BooleanJobOption(
        label="Exclude solvent?",
        default_value=False,
        help_text="Leave out what is not confidently content.",
    )


class LocalScale(_OccupyJob):
    """Estimate the local scale of a map: how much of each part is really there, from 0 to 1."""

    PROCESS_NAME = "occupy.local_scale"
    TITLE = "Local scale (occupancy) of a map"
    SUMMARY = "How much of each part of a map is really there, with its uncertainty"

    def form(self) -> dict[str, JobOption]:
        return {
            "input_map": _map(),
            "solvent_mask": InputNodeJobOption(
                label="Mask",
                node_type=nodes.NODE_MASK3D,
                help_text="Of solvent or of content; helps the solvent fit.",
            ),
            "lowpass": _number("Low-pass (Å)", "Empty: chosen for the map, 9 Å as a rule.", hard_min=1),
            "amplify": _amplify(),
            "attenuate": _attenuate(),
            "exclude_solvent": _exclude_solvent(),
        }

    def get_commands(self) -> list[PipelinerCommand]:
        words = self.arguments("solvent_mask", "lowpass", "amplify", "attenuate", "exclude_solvent")
        return self.command(
            "estimate", [self.joboptions["input_map"].get_string()], *words, "--plot", "--report"
        )

    def create_output_nodes(self) -> None:
        for ending in ("scale", "confidence", "occupancy", "uncertainty"):
            self.add_output_node(f"{self.stem()}_{ending}.mrc", nodes.NODE_DENSITYMAP, ["occupy", ending])

    def create_post_run_output_nodes(self) -> None:
        self.add_found(
            ("*_amplified.mrc", nodes.NODE_DENSITYMAP, "amplified"),
            ("*_attenuated.mrc", nodes.NODE_DENSITYMAP, "attenuated"),
            ("*_solvent_excluded.mrc", nodes.NODE_DENSITYMAP, "solvent_excluded"),
        )

    def create_results_display(self) -> list[ResultsDisplayObject]:
        return [
            *self.shown_pictures(slices="Map, scale and confidence", solvent="Solvent fit"),
            *self.shown_map("*_scale.mrc", "Local scale"),
        ]


class Modify(_OccupyJob):
    """Equalise or attenuate a map by a local scale that another job estimated."""

    PROCESS_NAME = "occupy.modify"
    TITLE = "Modify a map by its local scale"
    SUMMARY = "Equalise or attenuate partial parts without raising solvent"

    def form(self) -> dict[str, JobOption]:
        return {
            "input_map": InputNodeJobOption(
                label="Scale of a local scale job",
                node_type=nodes.NODE_DENSITYMAP,
                node_kwds=["occupy", "scale"],
                is_required=True,
                help_text="The file <map>_scale.mrc; the map itself is found through the record beside it.",
            ),
            "amplify": _amplify(),
            "attenuate": _attenuate(),
            "exclude_solvent": _exclude_solvent(),
        }

    def additional_joboption_validation(self) -> list[JobOptionValidationResult]:
        fields = [self.joboptions[name] for name in ("amplify", "attenuate", "exclude_solvent")]
        if fields[0].is_blank and fields[1].is_blank and not fields[2].get_boolean():
            return [JobOptionValidationResult("error", fields, "Give a power, or exclude solvent.")]
        return []

    def get_commands(self) -> list[PipelinerCommand]:
        folder = str(Path(self.joboptions["input_map"].get_string()).parent)
        return self.command("modify", [folder], *self.arguments("amplify", "attenuate", "exclude_solvent"))

    def create_post_run_output_nodes(self) -> None:
        self.add_found(("*.mrc", nodes.NODE_DENSITYMAP, "modified"))

    def create_results_display(self) -> list[ResultsDisplayObject]:
        return self.shown_map("*.mrc", "Modified map")


class Regions(_OccupyJob):
    """Occupancy of the parts of an atomic model in one map, by a joint fit of the parts' densities."""

    PROCESS_NAME = "occupy.regions"
    TITLE = "Occupancy of a model's parts"
    SUMMARY = "How much of each chain, entity or ligand is there, with 95 % intervals"

    def form(self) -> dict[str, JobOption]:
        return {"input_map": _map("Map, or scale of a local scale job"), "model": _model(), "by": _by()}

    def stem(self) -> str:
        return super().stem().removesuffix("_scale")

    def get_commands(self) -> list[PipelinerCommand]:
        given = self.joboptions["input_map"].get_string()
        # The folder of an estimate stands for its map, with all that was found out about it.
        inputs = [given if Path(given).stem == self.stem() else str(Path(given).parent)]
        return self.command("regions", inputs, *self.arguments("model", "by"), "--report")

    def create_output_nodes(self) -> None:
        self.add_output_node(f"{self.stem()}_regions.tsv", nodes.NODE_PROCESSDATA, ["occupy", "occupancies"])

    def create_post_run_output_nodes(self) -> None:
        self.add_found(
            ("*_occupancies.cif", nodes.NODE_ATOMCOORDS, "occupancies"),
            # Not where the scale of another job was read.
            ("*_scale.mrc", nodes.NODE_DENSITYMAP, "scale"),
        )

    def create_results_display(self) -> list[ResultsDisplayObject]:
        table = self.shown_table("Occupancy of the parts", f"{self.stem()}_regions.tsv")
        return [
            table,
            *self.shown_pictures(forest="Occupancies with 95 % intervals", strip="Along the chains"),
        ]


class Classes(_OccupyJob):
    """Occupancy across the classes of a classification: which class has what."""

    PROCESS_NAME = "occupy.classes"
    TITLE = "Occupancy across classes"
    SUMMARY = "Which parts come and go between the class maps of one job"

    def form(self) -> dict[str, JobOption]:
        return {
            "optimiser": InputNodeJobOption(
                label="Optimiser of a Class3D job",
                node_type=nodes.NODE_OPTIMISERDATA,
                help_text="Its class maps, weights and signal-to-noise ratios are read.",
                required_if=JobOptionCondition([("maps", "=", "")]),
            ),
            "maps": MultiInputNodeJobOption(
                label="Or class maps",
                node_type=nodes.NODE_DENSITYMAP,
                help_text="Two or more maps of one frame, of any program.",
            ),
            "model": _model(required=False),
            "by": _by(),
        }

    def get_commands(self) -> list[PipelinerCommand]:
        optimiser = self.joboptions["optimiser"]
        inputs = (
            self.joboptions["maps"].get_list()
            if optimiser.is_blank
            else [_model_star(optimiser.get_string())]
        )
        words = self.arguments("model", "by") if not self.joboptions["model"].is_blank else []
        return self.command("classes", inputs, *words, "--report")

    def create_output_nodes(self) -> None:
        self.add_output_node("occupancy.tsv", nodes.NODE_PROCESSDATA, ["occupy", "occupancies"])
        self.add_output_node("variability.mrc", nodes.NODE_DENSITYMAP, ["occupy", "variability"])

    def create_post_run_output_nodes(self) -> None:
        self.add_found(
            ("*_occupancy.mrc", nodes.NODE_DENSITYMAP, "occupancy"),
            ("*_occupancies.cif", nodes.NODE_ATOMCOORDS, "occupancies"),
        )

    def create_results_display(self) -> list[ResultsDisplayObject]:
        table = self.shown_table("Occupancies of the classes", "occupancy.tsv")
        pictures = self.shown_pictures(heat_map="Occupancies", correlation="Parts that come and go together")
        return [table, *pictures, *self.shown_map("variability.mrc", "Where the classes differ")]


class Particles(_OccupyJob):
    """In how many particles each part of a model is bound: from images at consensus poses, no classes."""

    PROCESS_NAME = "occupy.particles"
    TITLE = "Which particles have which parts"
    SUMMARY = "Occupancy of a model's parts from the images, and a presence probability per particle"

    def form(self) -> dict[str, JobOption]:
        return {
            "particles": _particles("With consensus poses and CTF; stacks are found as the file says."),
            "model": _model(),
            "by": _by(),
            "map": InputNodeJobOption(
                label="Consensus map",
                node_type=nodes.NODE_DENSITYMAP,
                help_text="The map the model was built in.",
            ),
        }

    def get_commands(self) -> list[PipelinerCommand]:
        inputs = [self.joboptions["particles"].get_string()]
        return self.command("particles", inputs, *self.arguments("model", "by", "map"))

    def create_post_run_output_nodes(self) -> None:
        self.add_found(
            ("*.tsv", nodes.NODE_PROCESSDATA, "presence"),
            ("*.star", nodes.NODE_PARTICLEGROUPMETADATA, "relion"),
        )

    def create_results_display(self) -> list[ResultsDisplayObject]:
        tables = sorted(path.name for path in Path(self.output_dir).glob("*occupanc*.tsv"))
        return [
            *(self.shown_table("Occupancies from the images", name) for name in tables),
            *self.shown_pictures(),
        ]


class Select(_OccupyJob):
    """Take the particles of the classes that have, or lack, a part; for the next refinement."""

    PROCESS_NAME = "occupy.select"
    TITLE = "Select particles by occupancy"
    SUMMARY = "Particles of the classes in which a part is present or absent"

    def form(self) -> dict[str, JobOption]:
        return {
            "occupancies": InputNodeJobOption(
                label="Table of occupancies",
                node_type=nodes.NODE_PROCESSDATA,
                node_kwds=["occupy", "occupancies"],
                is_required=True,
                help_text="occupancy.tsv of an occupancy across classes job.",
            ),
            "particles": _particles("The same job's particles: run_it025_data.star."),
            "region": StringJobOption(label="Part", is_required=True, help_text="Its name in the table."),
            "present": _number("Present: at least", "Classes in which it has at least this.", hard_min=0),
            "absent": _number("Absent: at most", "Classes in which it has at most this.", hard_min=0),
        }

    def additional_joboption_validation(self) -> list[JobOptionValidationResult]:
        fields = [self.joboptions["present"], self.joboptions["absent"]]
        if fields[0].is_blank == fields[1].is_blank:
            return [JobOptionValidationResult("error", fields, "Give one of present and absent.")]
        return []

    def get_commands(self) -> list[PipelinerCommand]:
        words = self.arguments("particles", "region", "present", "absent")
        folder = str(Path(self.joboptions["occupancies"].get_string()).parent)
        call = ["occupy", "select", folder, *words, *self.parse_additional_args()]
        return [PipelinerCommand([*call, "-o", f"{self.output_dir}particles.star"])]

    def create_output_nodes(self) -> None:
        self.add_output_node("particles.star", nodes.NODE_PARTICLEGROUPMETADATA, ["relion"])

    def create_results_display(self) -> list[ResultsDisplayObject]:
        name = f"{self.output_dir}particles.star"
        return [create_results_display_object("textfile", file_path=name, title="Selected particles")]


class CompareRuns(_OccupyJob):
    """Compare classifications of the same particles with other seeds: which classes come back in each."""

    PROCESS_NAME = "occupy.compare_runs"
    TITLE = "Compare classification runs"
    SUMMARY = "Which classes are real, and how many, from several runs over the same particles"

    def form(self) -> dict[str, JobOption]:
        return {
            "runs": MultiInputNodeJobOption(
                label="Particles of two runs or more",
                node_type=nodes.NODE_PARTICLEGROUPMETADATA,
                is_required=True,
                help_text="run_it025_data.star of jobs that differ in their seed; three tell more than two.",
            ),
            "probability": _number(
                "Particles surely in a class: at least", "Those are written; 0.9 where empty.",
                hard_min=0, hard_max=1,
            ),
        }  # fmt: skip

    def additional_joboption_validation(self) -> list[JobOptionValidationResult]:
        runs = self.joboptions["runs"]
        if len(runs.get_list()) < 2:
            return [JobOptionValidationResult("error", [runs], "Give two runs or more, of other seeds.")]
        return []

    def get_commands(self) -> list[PipelinerCommand]:
        return self.command(
            "compare-runs", self.joboptions["runs"].get_list(), *self.arguments("probability")
        )

    def create_output_nodes(self) -> None:
        for name in ("classes", "agreement", "matches", "particles"):
            self.add_output_node(f"{name}.tsv", nodes.NODE_PROCESSDATA, ["occupy", name])

    def create_post_run_output_nodes(self) -> None:
        for path in sorted(Path(self.output_dir).glob("class_*.star")):
            self.add_output_node(path.name, nodes.NODE_PARTICLEGROUPMETADATA, ["relion"])

    def create_results_display(self) -> list[ResultsDisplayObject]:
        tables = {"classes.tsv": "Reproducible classes", "agreement.tsv": "Agreement of the runs"}
        return [
            *(self.shown_table(title, name) for name, title in tables.items()),
            *self.shown_pictures(runs="How particles go from run to run"),
        ]


def _particles(help_text: str) -> InputNodeJobOption:
    return InputNodeJobOption(
        label="Particles", node_type=nodes.NODE_PARTICLEGROUPMETADATA, is_required=True, help_text=help_text
    )


def _model_star(optimiser: str) -> str:
    """Name the table of classes beside an optimiser file: what ``occupy classes`` reads of one iteration."""
    return optimiser.replace("_optimiser.star", "_model.star")
