"""Draw which room of the package imports which.

    python tools/draw_rooms.py [--check]

Writes ``docs/images/rooms.svg``; with ``--check`` nothing is written, and a drawing that differs from the
imports is an error. A room is a folder or a module directly below ``occupy``. Each stands above all that it
imports; an arrow that a longer way replaces is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.measure_code import Module, cycles, imported, modules

PICTURE = Path(__file__).resolve().parents[1] / "docs/images/rooms.svg"
WIDTH, ROW, BOX = 1000, 62, (104, 28)
LEFT_OUT = ("occupy", "occupy.__main__", "occupy._version")

Graph = dict[str, set[str]]


def room_of(name: str) -> str:
    """Room of a module, by its dotted name."""
    return name.split(".")[1]


def rooms_of(found: list[Module]) -> Graph:
    """Room → rooms it imports."""
    known = {module.name for module in found} - set(LEFT_OUT)
    graph: Graph = {room_of(name): set() for name in known}
    for module in found:
        if module.name in known:
            room = room_of(module.name)
            graph[room] |= {room_of(other) for other in imported(module, known)} - {room}
    return graph


def below(graph: Graph, room: str) -> set[str]:
    """Everything a room imports, directly or not."""
    return graph[room].union(*(below(graph, other) for other in graph[room]))


def reduced(graph: Graph) -> Graph:
    """Leave out the arrows that a longer way replaces."""
    return {
        room: {one for one in others if not any(one in below(graph, other) for other in others - {one})}
        for room, others in graph.items()
    }


def heights(graph: Graph) -> dict[str, int]:
    """Room → its row from the ground: one above the highest room it imports."""
    found: dict[str, int] = {}

    def height(room: str) -> int:
        if room not in found:
            found[room] = 1 + max((height(other) for other in graph[room]), default=-1)
        return found[room]

    for room in graph:
        height(room)
    return found


def places_of(graph: Graph, rows: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """Room → middle of its box: rows from the top, each room near the middle of those that import it."""
    top = max(rows.values())
    places: dict[str, tuple[float, float]] = {}
    for row in range(top, -1, -1):
        inside = sorted(room for room in rows if rows[room] == row)

        def wanted(room: str) -> float:
            above = [places[other][0] for other in places if room in graph[other]]
            return sum(above) / len(above) if above else WIDTH / 2

        inside.sort(key=wanted)
        for i, room in enumerate(inside):
            places[room] = (WIDTH * (i + 0.5) / len(inside), ROW * (top - row + 0.5))
    return places


def drawing(graph: Graph) -> str:
    """Return the picture, as SVG."""
    arrows, rows = reduced(graph), heights(graph)
    places = places_of(arrows, rows)
    width, height = BOX
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {ROW * (max(rows.values()) + 1)}" '
        'font-family="sans-serif" font-size="13" text-anchor="middle">',
        '<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#8a939c"/></marker>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for room, others in sorted(arrows.items()):
        x, y = places[room]
        for other in sorted(others):
            u, v = places[other]
            a, b = y + height / 2, v - height / 2
            path = f"M{x:.0f} {a:.0f}C{x:.0f} {a + 30:.0f} {u:.0f} {b - 30:.0f} {u:.0f} {b:.0f}"
            out.append(f'<path d="{path}" fill="none" stroke="#8a939c" marker-end="url(#tip)"/>')
    for room, (x, y) in sorted(places.items()):
        out.append(
            f'<rect x="{x - width / 2:.0f}" y="{y - height / 2:.0f}" width="{width}" height="{height}" '
            f'rx="5" fill="#e8f0f6" stroke="#31688e"/><text x="{x:.0f}" y="{y + 4:.0f}">{escape(room)}</text>'
        )
    return "\n".join([*out, "</svg>\n"])


def main() -> int:
    """Write the drawing, or with ``--check`` compare it; 1 where it differs or rooms import in a circle."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    graph = rooms_of(modules())
    if circles := cycles(graph):
        print(*(f"rooms import in a circle: {', '.join(circle)}" for circle in circles), sep="\n")
        return 1
    picture = drawing(graph)
    if not check:
        PICTURE.write_text(picture, encoding="utf-8")
        return 0
    if PICTURE.read_text(encoding="utf-8") == picture:
        return 0
    print(f"{PICTURE.name} is not what the imports are; run tools/draw_rooms.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
