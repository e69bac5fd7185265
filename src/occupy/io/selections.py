"""Read a file of selections: names of regions and the parts of a model they consist of, in YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from occupy.errors import InputError

_EXAMPLE = "write for example  stalk: [A, B:1-80, L7]"
_DEEPEST = 8


def read_selections(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Read selections.

    Everything is taken as text, as written: a chain called ``NO`` or ``1`` is one.

    Parameters
    ----------
    path : path-like
        YAML: one mapping of names to a part (``A``, ``B:1-80``, ``B:1-80,95``) or a list of parts.

    Returns
    -------
    dict
        Name → parts, in the order of the file.

    Raises
    ------
    InputError
        Where the file is not YAML, not of this form, or names a region twice; with the line.
    """
    import yaml

    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise InputError(f"{source}: cannot be read: {reason}") from error
    try:
        _check_plain(text, source)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark is not None else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InputError(f"{source}: {line}not valid YAML ({problem}); {_EXAMPLE}") from error
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{source}: no names of regions in it; {_EXAMPLE}")
    found: dict[str, tuple[str, ...]] = {}
    for key, value in root.value:
        name = _scalar(key, source)
        if name in found:
            raise InputError(f"{source}: line {key.start_mark.line + 1}: {name} comes twice")
        found[name] = tuple(_parts(value, source))
    return found


def _check_plain(text: str, source: Path) -> None:
    """Refuse references and deep nesting, by which few lines can stand for any number of parts."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{source}: line {line}: references (*{event.anchor}) are not read; {_EXAMPLE}")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise InputError(f"{source}: line {line}: lists within lists within lists …; {_EXAMPLE}")


def _parts(node: Any, source: Path) -> list[str]:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return [part for item in node.value for part in _parts(item, source)]
    if isinstance(node, yaml.MappingNode):  # "B: 1-80", with a space
        return [f"{_scalar(key, source)}:{_scalar(value, source)}" for key, value in node.value]
    text = _scalar(node, source)
    # "A, B:1-80" without brackets; within one part a comma stands between numbers.
    parts: list[str] = []
    for piece in text.split(","):
        if parts and piece.strip().lstrip("-")[:1].isdigit() and ":" in parts[-1] and ":" not in piece:
            parts[-1] += "," + piece.strip()
        else:
            parts.append(piece.strip())
    return parts


def _scalar(node: Any, source: Path) -> str:
    import yaml

    text = str(node.value).strip() if isinstance(node, yaml.ScalarNode) else ""
    if not text:
        raise InputError(f"{source}: line {node.start_mark.line + 1}: not a name or part; {_EXAMPLE}")
    return text
