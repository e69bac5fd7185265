"""A stand-in for ChimeraX that runs the commands our scripts use, as its user guide describes them.

It knows each command, its keywords, and models with their positions. It refuses what ChimeraX would refuse
(an unknown command, keyword, model or colour) and what would come out wrong: a surface coloured by a map that
does not stand where the surface stands.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

COLOUR = re.compile(r"#[0-9a-fA-F]{6}|black|white")
# Command → keywords with the number of words each takes; models or flags come first.
KEYWORDS: dict[str, set[str]] = {
    "volume": {"step", "style", "level", "modelId"},
    "color sample": {"map", "palette", "range", "offset", "transparency", "update"},
    "color byattribute": {"target", "palette", "range", "novalue"},
    "surface dust": {"size"},
    "key": {"pos", "size", "fontSize"},
    "2dlabels": {"text", "xpos", "ypos", "color", "size", "bold"},
    "tile": {"columns", "spacingFactor"},
    "view position": {"sameAsModels"},
    "shape sphere": {"center", "radius", "color", "modelId"},
    "transparency": {"target"},
    "mseries slider": {"name"},
}


class WrongCommandError(AssertionError):
    """What ChimeraX would refuse, or show wrongly."""


@dataclass
class Model:
    """A model: what it is, its name, where it stands, its level, and what colours it."""

    kind: str
    name: str
    place: tuple[float, float] = (0.0, 0.0)
    level: float | None = None
    levels: tuple[tuple[float, str], ...] = ()
    shown: bool = True
    painted: tuple[int, dict[str, str]] | None = None


@dataclass
class ChimeraX:
    """A session, with the files that lie where the script lies (None: any)."""

    files: set[str] | None = None
    models: dict[int, Model] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    attributes: list[str] = field(default_factory=list)
    keys: list[list[tuple[str, str]]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def run(self, script: str) -> ChimeraX:
        """Run every line."""
        for line in script.splitlines():
            if line.strip() and not line.startswith("#"):
                self.do(line)
        return self

    def do(self, line: str) -> None:
        """Run one line: a command, an alias, or several joined by semicolons."""
        if line.startswith("alias "):
            _, name, text = line.split(" ", 2)
            self.aliases[name] = text
            return
        for command in _commands(line):
            word, *rest = shlex.split(command)
            if word in self.aliases:
                text = self.aliases[word]
                wanted = len(set(re.findall(r"\$(\d)", text)))
                if len(rest) != wanted:
                    raise WrongCommandError(f"{word} takes {wanted} words: {command}")
                for i, value in enumerate(rest, 1):
                    text = text.replace(f"${i}", value)
                self.do(text)
                continue
            method = getattr(self, "_" + {"2dlabels": "labels2d"}.get(word, word.lower()), None)
            if method is None:
                raise WrongCommandError(f"unknown command: {command}")
            method(rest)

    def _numbers(self, spec: str) -> list[int]:
        """Return the models of a specification such as #1,4 or #1-3; all must be there."""
        if not re.fullmatch(r"#\d+(-\d+)?(,\d+(-\d+)?)*", spec):
            raise WrongCommandError(f"not a model specification: {spec}")
        out: list[int] = []
        for part in spec[1:].split(","):
            first, _, last = part.partition("-")
            out += range(int(first), int(last or first) + 1)
        missing = [n for n in out if n not in self.models]
        if missing:
            raise WrongCommandError(f"no models {missing}: {spec}")
        return out

    def _one(self, spec: str) -> int:
        (number,) = self._numbers(spec)
        return number

    def _add(self, model: Model, number: int | None = None) -> None:
        if number in self.models:
            raise WrongCommandError(f"#{number} exists")
        self.models[number or max((n for n in self.models if n < 100), default=0) + 1] = model

    def _open(self, words: list[str]) -> None:
        (path,) = words
        if self.files is not None and path not in self.files:
            raise WrongCommandError(f"no such file: {path}")
        kinds = {"mrc": "map", "map": "map", "pdb": "atoms", "cif": "atoms", "defattr": "attribute"}
        kind = kinds.get(path.rsplit(".", 1)[-1])
        if kind is None:
            raise WrongCommandError(f"unknown kind of file: {path}")
        if kind == "attribute":
            self.attributes.append(path)
        else:
            self._add(Model(kind, path))

    def _volume(self, words: list[str]) -> None:
        if words[0] == "subtract":
            first, second = self._one(words[1]), self._one(words[2])
            given = _options("volume", words[3:])
            if self.models[first].place != self.models[second].place:
                raise WrongCommandError("maps that are subtracted stand apart")
            place = self.models[first].place
            self._add(Model("map", "difference", place), int(given["modelId"].lstrip("#")))
            return
        flags = [w for w in words[1:] if w in ("show", "hide")]
        levels: tuple[tuple[float, str], ...] = ()
        rest = [w for w in words[1:] if w not in ("show", "hide")]
        # A level may be followed by its colour, and there may be several such pairs.
        while "color" in rest:
            at = rest.index("color")
            if rest[at - 2] != "level" or not COLOUR.fullmatch(rest[at + 1]):
                raise WrongCommandError(f"volume {words}")
            levels = (*levels, (float(rest[at - 1]), rest[at + 1]))
            del rest[at - 2 : at + 2]
        given = _options("volume", rest)
        if given.get("style", "surface") not in ("surface", "mesh", "image"):
            raise WrongCommandError(f"no style {given['style']}")
        for number in self._numbers(words[0]):
            model = self.models[number]
            if model.kind != "map":
                raise WrongCommandError(f"#{number} is no map")
            model.levels = levels or model.levels
            if "level" in given:
                model.level = float(given["level"])
                self._repaint(number)
            model.shown = flags[-1] == "show" if flags else model.shown

    def _repaint(self, number: int) -> None:
        """Colour a surface by its map, as ``color sample`` and each later change of the surface do."""
        model = self.models[number]
        if model.painted is not None and self.models[model.painted[0]].place != model.place:
            raise WrongCommandError(f"#{number} is coloured by #{model.painted[0]}, which stands elsewhere")

    def _color(self, words: list[str]) -> None:
        kind, *rest = words
        if kind == "byattribute":
            if not re.fullmatch(r"r:[A-Za-z_]\w*|a:(occupancy|bfactor)", rest[0]):
                raise WrongCommandError(f"not an attribute: {rest[0]}")
            self._numbers(rest[1])
            _palette_and_range(_options("color byattribute", rest[2:]))
            return
        if kind != "sample":
            raise WrongCommandError(f"color {kind}")
        given = _options("color sample", rest[1:])
        _palette_and_range(given)
        float(given.get("offset", 0))
        source = self._one(given["map"])
        for number in self._numbers(rest[0]):
            self.models[number].painted = source, given
            self._repaint(number)

    def _surface(self, words: list[str]) -> None:
        if words[0] != "dust" or float(_options("surface dust", words[2:])["size"]) <= 0:
            raise WrongCommandError(f"surface {words}")
        self._numbers(words[1])

    def _key(self, words: list[str]) -> None:
        end = next((i for i, w in enumerate(words) if w in KEYWORDS["key"]), len(words))
        pairs = [tuple(word.partition(":")[::2]) for word in words[:end]]
        for colour, label in pairs:
            if not COLOUR.fullmatch(colour) or (label and not np.isfinite(float(label))):
                raise WrongCommandError(f"key: {colour}:{label}")
        _options("key", words[end:])
        self.keys.append([(colour, label) for colour, label in pairs])

    def _labels2d(self, words: list[str]) -> None:
        given = _options("2dlabels", words)
        if not COLOUR.fullmatch(given["color"]):
            raise WrongCommandError(f"no colour {given['color']}")
        if not (0 <= float(given["xpos"]) <= 1 and 0 <= float(given["ypos"]) <= 1):
            raise WrongCommandError(f"outside the window: {given}")
        self.labels.append(given["text"])

    def _tile(self, words: list[str]) -> None:
        columns = int(_options("tile", words[1:])["columns"])
        for i, number in enumerate(self._numbers(words[0])):
            self.models[number].place = float(i % columns) + 1, float(i // columns) + 1

    def _view(self, words: list[str]) -> None:
        if words and words[0] == "position":
            other = _options("view position", words[2:])["sameAsModels"]
            for one, model in zip(self._numbers(words[1]), self._numbers(other), strict=True):
                self.models[one].place = self.models[model].place
        elif words:
            raise WrongCommandError(f"view {words}")

    def _rename(self, words: list[str]) -> None:
        number, name = words
        self.models[self._one(number)].name = name

    def _shape(self, words: list[str]) -> None:
        given = _options("shape sphere", words[1:])
        if words[0] != "sphere" or not COLOUR.fullmatch(given["color"]):
            raise WrongCommandError(f"shape {words}")
        x, y = (float(v) for v in given["center"].split(",")[:2])
        self._add(Model("shape", "sphere", (x, y)), int(given["modelId"].lstrip("#")))

    def _transparency(self, words: list[str]) -> None:
        self._numbers(words[0])
        if not 0 <= float(words[1]) <= 100:
            raise WrongCommandError(f"transparency {words}")
        _options("transparency", words[2:])

    def _mseries(self, words: list[str]) -> None:
        if words[0] != "slider":
            raise WrongCommandError(f"mseries {words}")
        self._numbers(words[1])
        _options("mseries slider", words[2:])

    def _hide(self, words: list[str]) -> None:
        self._display("hide", words)

    def _show(self, words: list[str]) -> None:
        self._display("show", words)

    def _display(self, command: str, words: list[str]) -> None:
        """Show or hide atoms, or whole models."""
        if words[-1] not in ("models", "atoms"):
            raise WrongCommandError(f"{command} {words}")
        for number in self._numbers(words[0]):
            if words[-1] == "models":
                self.models[number].shown = command == "show"

    def _cartoon(self, words: list[str]) -> None:
        self._numbers(words[0])

    def _set(self, words: list[str]) -> None:
        if words[0] != "bgColor" or not COLOUR.fullmatch(words[1]):
            raise WrongCommandError(f"set {words}")

    def _lighting(self, words: list[str]) -> None:
        if words not in (["soft"], ["simple"], ["full"]):
            raise WrongCommandError(f"lighting {words}")


def _commands(line: str) -> Iterator[str]:
    """Yield the commands of a line: semicolons outside of quotes part them."""
    for part in re.findall(r"""(?:[^;"']|"[^"]*"|'[^']*')+""", line):
        if part.strip():
            yield part.strip()


def _options(command: str, words: list[str]) -> dict[str, str]:
    """Return keyword → value; refuses keywords that the command does not know."""
    if len(words) % 2:
        raise WrongCommandError(f"{command}: a keyword without value in {words}")
    given = dict(zip(words[::2], words[1::2], strict=True))
    unknown = set(given) - KEYWORDS[command]
    if unknown or len(given) * 2 != len(words):
        raise WrongCommandError(f"{command} does not know {sorted(unknown)} in {words}")
    return given


def _palette_and_range(given: dict[str, str]) -> None:
    stops = [stop.split(",") for stop in given["palette"].split(":")]
    if any(not COLOUR.fullmatch(stop[-1]) for stop in stops):
        raise WrongCommandError(f"palette {given['palette']}")
    fractions = [float(stop[0]) for stop in stops if len(stop) == 2]
    low, high = (float(v) for v in given["range"].split(","))
    if fractions != sorted(fractions) or not low < high:
        raise WrongCommandError(f"palette or range: {given}")
