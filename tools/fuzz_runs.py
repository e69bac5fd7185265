"""Runs of the program that signals end, beside a whole one; see fuzz.py."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from occupy.io.mrc import write_map
from occupy.volume import Volume
from tools.fuzz_files import Rng, blob


class Runs:
    """Runs of the program that signals end, beside a whole one."""

    def __init__(self, folder: Path) -> None:
        self.map = folder / "r.mrc"
        write_map(self.map, Volume.from_array(blob(72), 3.0, "r"))
        began = time.monotonic()
        self.start(folder / "whole").wait()
        self.seconds = time.monotonic() - began
        self.whole = {p.name: p.read_bytes() for p in (folder / "whole").glob("*.mrc")}

    def start(self, out: Path, *words: str) -> subprocess.Popen[str]:
        """Start the program."""
        command = [sys.executable, "-m", "occupy", str(self.map), "-o", str(out), "--amplify", "3", *words]
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, restore_signals=True
        )

    def __call__(self, rng: Rng, folder: Path) -> None:
        """End a run at a random moment; look at what is left; finish it."""
        out = folder / "out"
        number = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)[rng.integers(3)]
        process = self.start(out)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(float(rng.uniform(0.1, 1.05)) * self.seconds)
        process.send_signal(number)
        said = process.communicate()[1]
        # Before the program has begun (no folder yet), Python itself ends on Ctrl-C.
        if ("Traceback" in said or "mistake" in said) and not (number == signal.SIGINT and not out.exists()):
            raise AssertionError(f"{number.name}: {said[-400:]}")
        self.check(out, number.name, parts=number == signal.SIGKILL)
        again = self.start(out, "--resume")
        said = again.communicate()[1]
        if again.returncode:
            raise AssertionError(f"after {number.name} --resume ends with {again.returncode}: {said[-400:]}")
        self.check(out, f"--resume after {number.name}", parts=True)
        if {p.name for p in out.glob("[!.]*.mrc")} != set(self.whole):
            raise AssertionError(f"after {number.name} --resume left {sorted(p.name for p in out.iterdir())}")

    def check(self, out: Path, what: str, *, parts: bool) -> None:
        """Make sure that maps are whole, that records name what is there, and that no pieces lie about."""
        for path in out.glob("[!.]*.mrc"):
            if path.read_bytes() != self.whole[path.name]:
                raise AssertionError(f"{what}: {path.name} is not what a whole run writes")
        for path in out.glob("*_occupy.json"):
            outputs = json.loads(path.read_text(encoding="utf-8"))["outputs"]
            named = [v["file"] if isinstance(v, dict) else v for v in outputs.values()]
            missing = [name for name in named if not (out / name).exists()]
            if missing:
                raise AssertionError(f"{what}: the record names {missing}, which are not there")
        pieces = (
            [] if parts or not out.exists() else [p.name for p in out.iterdir() if p.name.endswith(".part")]
        )
        if pieces:
            raise AssertionError(f"{what}: {pieces} left")

    def close(self) -> None:
        """Nothing is left under way."""
