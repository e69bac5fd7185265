"""Routes: what each address of the page calls, and how results and errors become answers."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from occupy.errors import InputError, OccupyError
from occupy.io.atomic import atomic_file
from occupy.web.security import UPLOAD, Access, Gate, RefusedError
from occupy.web.shelf import ClosedError
from occupy.web.viewer import Download, Viewer

_logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
ASSETS = Path(__file__).parent.parent / "report" / "assets"
Answer = dict[str, Any] | bytes | Download

# What only looks, by its address; everything that changes something is asked for with POST.
LOOKS = ("state", "files", "describe", "job", "slices", "values", "mesh", "trace")
ACTS = (
    "open", "fetch", "close_scene", "stop", "preview_mesh", "resolve", "modification", "estimate", "mask",
    "parts", "save", "download",
)  # fmt: skip


def application(viewer: Viewer, access: Access, hosts: tuple[str, ...] = ()) -> ASGIApp:
    """Return the guarded application.

    Parameters
    ----------
    viewer : Viewer
        What the routes call.
    access : Access
        Who may come in.
    hosts : tuple of str
        Further names by which the server may be called (behind a proxy).
    """
    routes: list[Any] = [Route("/", _page, methods=["GET"])]
    # A browser asks for six things at once at most, and each may need arrays of a map's size.
    limiter = CapacityLimiter(8)
    for names, method in ((LOOKS, "GET"), (ACTS, "POST")):
        routes += [
            Route(f"/api/{n}", _endpoint(getattr(viewer, n), limiter), methods=[method]) for n in names
        ]
    routes.append(Route(UPLOAD, _upload(viewer), methods=["POST"]))
    for name in ("geometry.js", "surface.js"):
        routes.append(Route(f"/static/js/{name}", _shared_script, methods=["GET"]))
    routes.append(Mount("/static", StaticFiles(directory=STATIC)))
    handlers: Mapping[Any, Any] = {HTTPException: _not_found, Exception: _mistake}
    return Gate(Starlette(routes=routes, exception_handlers=handlers), access, hosts)


async def _page(_: Request) -> Response:
    return FileResponse(STATIC / "index.html", media_type="text/html")


async def _shared_script(request: Request) -> Response:
    # They live where reports, which need no server, find them too.
    return FileResponse(ASSETS / Path(request.url.path).name, media_type="text/javascript")


def _endpoint(
    call: Callable[[Mapping[str, Any]], Answer], limiter: CapacityLimiter
) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        said: dict[str, Any] = {}
        try:
            said = await _said(request)
            return _response(await to_thread.run_sync(call, said, limiter=limiter))
        except RefusedError as refused:
            return _Json({"error": str(refused)}, refused.status)
        except ClosedError as error:
            return _Json({"error": str(error), "closed": said.get("id")}, 410)
        except OccupyError as error:
            return _Json({"error": " ".join(str(error).split())}, 400)
        except MemoryError:
            return _Json({"error": "not enough memory for this"}, 507)

    return answer


def _upload(viewer: Viewer) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        try:
            path = viewer.shelf.place_of_upload(request.query_params.get("name", ""))
            with atomic_file(path) as part, part.open("wb") as file:
                async for chunk in request.stream():
                    if file.tell() + len(chunk) > viewer.largest_upload:
                        most = f"the {viewer.largest_upload / 1e9:.1f} GB that maps may take here"
                        instead = f"copy it into {path.parent} where occupy view runs, and open it there"
                        raise RefusedError(413, f"{path.name} is larger than {most}; {instead}")
                    await to_thread.run_sync(file.write, chunk)
            return _Json(viewer.uploaded(path))
        except RefusedError as refused:
            return _Json({"error": str(refused)}, refused.status)
        except OccupyError as error:
            return _Json({"error": str(error)}, 400)

    return answer


async def _said(request: Request) -> dict[str, Any]:
    if request.method == "GET":
        return dict(request.query_params)
    try:
        said = json.loads(await request.body(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is not JSON ({error})") from error
    if not isinstance(said, dict):
        raise InputError("the request must be a JSON object")
    return said


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _response(result: Answer) -> Response:
    if isinstance(result, bytes):
        return Response(result, media_type="application/octet-stream")
    if isinstance(result, Download):
        done = BackgroundTask(shutil.rmtree, result.temporary, ignore_errors=True)
        # Names that are not UTF-8 would stop the answer at its header.
        name = result.name.encode("utf-8", "replace").decode()
        return FileResponse(result.path, filename=name, background=done)
    return _Json(_plain(result))


class _Json(JSONResponse):
    """JSON in ASCII: names of files that are not UTF-8 can be sent, and come back as they were."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def _plain(value: Any) -> Any:
    """Replace what JSON cannot say (NaN, infinity) by null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


async def _not_found(_: Request, error: HTTPException) -> Response:
    return _Json({"error": error.detail}, error.status_code)


async def _mistake(request: Request, error: Exception) -> Response:
    _logger.error("%s: %s: %s", request.url.path, type(error).__name__, error)
    return _Json({"error": f"{type(error).__name__}: {error} (this is our mistake)"}, 500)
