"""Protocols: a form, a command line of `occupy`, and Scipion's objects of what it wrote."""

from pathlib import Path

from pwem.objects import AtomStruct, SetOfVolumes, Volume
from pwem.protocols import EMProtocol
from pyworkflow.protocol import params

from scipion_occupy import Plugin


class _OccupyProtocol(EMProtocol):
    """What all share: one step that runs the program, one that makes the outputs."""

    _devStatus = "beta"

    def _insertAllSteps(self):
        self._insertFunctionStep(self.runStep)
        self._insertFunctionStep(self.createOutputStep)

    def runStep(self):
        """Run the program; its results are in the protocol's extra folder."""
        words = [*self._words(), "-o", self._getExtraPath(), "--report", "--quiet"]
        quoted = " ".join(f'"{word}"' for word in words)
        self.runJob(Plugin.program(), quoted, env=Plugin.environment())

    def _volume(self, path, like):
        volume = Volume()
        volume.setFileName(str(path))
        volume.setSamplingRate(like.getSamplingRate())
        volume.setOrigin(like.getOrigin(force=True))
        return volume

    def _written(self, pattern):
        found = sorted(Path(self._getExtraPath()).glob(pattern))
        if not found:
            raise FileNotFoundError(f"occupy wrote no {pattern}")
        return found

    def _validate(self):
        return Plugin.validateInstallation()

    def _citations(self):
        return ["forsberg2023"]

    def report(self):
        """Return the page that OccuPy wrote, or None before it has.

        Returns
        -------
        pathlib.Path or None
            A self-contained HTML file.
        """
        pages = sorted(Path(self._getExtraPath()).glob("*report.html"))
        return pages[0] if pages else None


class OccupyProtScale(_OccupyProtocol):
    """Estimate how much of each part of a map is really there, from 0 to 1."""

    _label = "local scale"

    def _defineParams(self, form):
        form.addSection(label="Input")
        form.addParam(
            "inputVolume", params.PointerParam, pointerClass="Volume", label="Map",
            help="An unmasked, unsharpened reconstruction.",
        )  # fmt: skip
        form.addParam(
            "amplify", params.FloatParam, allowsNull=True, label="Amplify by power",
            help="Weak parts are raised to full scale; 3 is gentle, 1000 equalises. Empty: no modified map.",
        )  # fmt: skip
        form.addParam(
            "excludeSolvent", params.BooleanParam, default=False, label="Exclude solvent?",
            help="Leave out of the modified map what is not confidently content.",
        )  # fmt: skip

    def _words(self):
        words = ["estimate", self.inputVolume.get().getFileName().removesuffix(":mrc")]
        if self.amplify.get() is not None:
            words += ["--amplify", f"{self.amplify.get():g}"]
        return words + ["--exclude-solvent"] * self.excludeSolvent.get()

    def createOutputStep(self):
        """Make the scale, its uncertainty and the modified map volumes of Scipion."""
        source = self.inputVolume.get()
        outputs = {
            "outputScale": self._written("*_scale.mrc")[0],
            "outputUncertainty": self._written("*_uncertainty.mrc")[0],
        }
        if self.amplify.get() is not None:
            outputs["outputAmplified"] = self._written("*_amplified.mrc")[0]
        elif self.excludeSolvent.get():
            outputs["outputWithoutSolvent"] = self._written("*_solvent_excluded.mrc")[0]
        for name, path in outputs.items():
            volume = self._volume(path, source)
            self._defineOutputs(**{name: volume})
            self._defineSourceRelation(self.inputVolume, volume)


class OccupyProtRegions(_OccupyProtocol):
    """Estimate the occupancy of the parts of an atomic structure in a map, all parts together."""

    _label = "parts of a model"

    def _defineParams(self, form):
        form.addSection(label="Input")
        form.addParam("inputVolume", params.PointerParam, pointerClass="Volume", label="Map")
        form.addParam(
            "inputStructure", params.PointerParam, pointerClass="AtomStruct", label="Atomic structure",
            help="In the frame of the map.",
        )  # fmt: skip
        form.addParam(
            "by",
            params.EnumParam,
            choices=["chain", "entity", "ligand", "residue"],
            default=0,
            label="Parts are",
        )

    def _words(self):
        volume = self.inputVolume.get().getFileName().removesuffix(":mrc")
        return [
            "regions",
            volume,
            "--model",
            self.inputStructure.get().getFileName(),
            "--by",
            self.getEnumText("by"),
        ]

    def createOutputStep(self):
        """Make the model with occupancies an atomic structure of Scipion."""
        structure = AtomStruct(filename=str(self._written("*_occupancies.cif")[0]))
        structure.setVolume(self.inputVolume.get())
        self._defineOutputs(outputStructure=structure)
        self._defineSourceRelation(self.inputVolume, structure)
        self._defineSourceRelation(self.inputStructure, structure)


class OccupyProtClasses(_OccupyProtocol):
    """Estimate what is there in each of several class volumes of one experiment."""

    _label = "occupancy across classes"

    def _defineParams(self, form):
        form.addSection(label="Input")
        form.addParam(
            "inputVolumes", params.PointerParam, pointerClass="SetOfVolumes", label="Class volumes",
            help="Two or more, in one frame.",
        )  # fmt: skip

    def _words(self):
        return ["classes", *(volume.getFileName().removesuffix(":mrc") for volume in self.inputVolumes.get())]

    def createOutputStep(self):
        """Make the classes' occupancy maps a set of volumes of Scipion."""
        source = self.inputVolumes.get()
        occupancies = SetOfVolumes.create(self._getPath())
        occupancies.setSamplingRate(source.getSamplingRate())
        for path in self._written("*_occupancy.mrc"):
            if path.name != "mean_occupancy.mrc":
                occupancies.append(self._volume(path, source.getFirstItem()))
        self._defineOutputs(outputOccupancies=occupancies)
        self._defineSourceRelation(self.inputVolumes, occupancies)
