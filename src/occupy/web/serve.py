"""Start the server, say where it is, open the browser."""

from __future__ import annotations

import getpass
import os
import select
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from occupy.errors import InputError
from occupy.web.security import Access, private_folder, write_door
from occupy.web.shelf import Shelf, kind_of_folder

HOST = "127.0.0.1"
PORT = 8642


def _shelf_for(what: Path | None) -> tuple[Shelf, str | None]:
    """Return the files that may be seen, and what to open at once, for the argument of the command.

    A map: its folder. A result folder or set: the folder above it (where others like it are), and the maps
    the results were made of. Another folder: itself.
    """
    start = Path.cwd()
    if what is None:
        return Shelf.of(start, start=start), None
    if not what.exists():
        raise InputError(f"{what}: no such file or folder")
    path = what.resolve()
    if path.is_file():
        return Shelf.of(path.parent, [path], start), str(path)
    if kind_of_folder(path) is None:
        return Shelf.of(path, start=start), None
    return Shelf.of(path.parent, _inputs_of(path), start), str(path)


def _inputs_of(folder: Path) -> list[Path]:
    from occupy.report.record import read_record

    found = []
    for record in folder.glob("*_occupy.json"):
        with suppress(InputError, KeyError, TypeError, AttributeError):
            found += [Path(str(about["path"])) for about in read_record(record)["inputs"].values()]
    return found


def listen(port: int | None) -> socket.socket:
    """Return a socket that listens on this computer only; on any port where the usual one is taken."""
    for wanted in (PORT, 0) if port is None else (port,):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, wanted))
            sock.listen(64)
        except (OSError, OverflowError) as error:
            sock.close()
            reason = getattr(error, "strerror", None) or str(error)
        else:
            return sock
    raise InputError(f"cannot listen on port {port}: {reason.lower()}; choose another with --port, or none")


def _address(port: int, access: Access) -> str:
    """Return a new address, which lets one browser in."""
    return f"http://{HOST}:{port}/?token={access.new_code()}"


def _address_lines(port: int, access: Access) -> list[str]:
    """Return what is printed: an address, and how to reach it from another computer."""
    lines = [_address(port, access)]
    if _has_terminal():
        lines.append("It lets one browser in; press Enter for another address.")
    if _over_ssh():
        lines += [
            "From your own computer, run this first (in a terminal there), then open the address:",
            f"  ssh -C -N -L {port}:{HOST}:{port} {getpass.getuser()}@{socket.getfqdn()}",
        ]
    return lines


def _over_ssh() -> bool:
    """Tell whether the user sits at another computer."""
    return bool(os.environ.get("SSH_CONNECTION"))


def _has_screen() -> bool:
    """Tell whether a browser opened here would be seen."""
    if _over_ssh():
        return False
    return not sys.platform.startswith("linux") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def _has_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and hasattr(signal, "SIGTTIN")


def _on_enter(act: Callable[[], None], ended: threading.Event) -> None:
    """Call ``act`` for every line typed in the terminal, until ``ended``."""
    while not ended.is_set():
        try:
            ready, _, _ = select.select([sys.stdin], [], [], 0.5)
            if ready:
                if not sys.stdin.readline():
                    return
                act()
        except (OSError, ValueError):
            # In the background the terminal is not ours to read; `fg` gives it back.
            ended.wait(0.5)


def _listen_to_enter(act: Callable[[], None], ended: threading.Event) -> None:
    if not _has_terminal():
        return
    # Reading in the background would otherwise stop the process (`occupy view &`).
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)
    threading.Thread(target=_on_enter, args=(act, ended), daemon=True).start()


def _show(text: str) -> None:
    """Print lines for the user at once."""
    print(text, flush=True)  # noqa: T201


def serve(
    what: Path | None,
    *,
    port: int | None = None,
    browser: bool = True,
    hosts: tuple[str, ...] = (),
    neighbours: bool = True,
) -> None:
    """Serve the viewer until Ctrl-C.

    Parameters
    ----------
    what : Path, optional
        Map, result folder, set, or a folder to choose from; the current folder by default.
    port : int, optional
        Otherwise `PORT`, or any free one.
    browser : bool
        Open a browser where there is a screen.
    hosts : tuple of str
        Further names by which the server may be called.
    neighbours : bool
        Whether half-maps that lie beside a map may be taken, unless the page says otherwise.
    """
    try:
        import uvicorn

        from occupy.web.app import application
        from occupy.web.viewer import Viewer
    except ModuleNotFoundError as error:
        raise InputError(
            f"the viewer needs {error.name}; install it with: pip install 'occupy-em[web]'"
        ) from error
    shelf, opened = _shelf_for(what)
    sock = listen(port)
    access, ended = Access(), threading.Event()
    viewer = Viewer(shelf, neighbours=neighbours)
    number = sock.getsockname()[1]
    config = uvicorn.Config(
        application(viewer, access, hosts), log_level="error", access_log=False, lifespan="off", ws="none",
        server_header=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    try:
        with suppress(KeyboardInterrupt), private_folder() as folder:
            if opened is not None:
                # Begins at once; the page finds it under way.
                viewer.open({"path": opened})
            _show("\n".join(["OccuPy viewer, stop it with Ctrl-C:", *_address_lines(number, access)]))
            if browser and _has_screen():
                # Not the address itself: other users see with what a program was started.
                webbrowser.open(write_door(Path(folder), _address(number, access)).as_uri())
            _listen_to_enter(lambda: _show(_address(number, access)), ended)
            uvicorn.Server(config).run(sockets=[sock])
    finally:
        ended.set()
        sock.close()
        viewer.close()
