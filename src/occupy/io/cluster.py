"""Per-map work on a Dask cluster, whose workers see the same files as we do."""

from __future__ import annotations

import logging
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from occupy._version import __version__
from occupy.errors import InputError, OccupyError
from occupy.io.atomic import make_folder, write_text
from occupy.numerics.parallel import available_cores

T = TypeVar("T")

PATIENCE = 10
"""Seconds to wait for the scheduler's first answer."""

POLL = 2
"""Seconds between two looks at whether the scheduler is still there."""

LOST = "the connection to the scheduler was lost: is it still running? --resume goes on with what is complete"


@dataclass(frozen=True, eq=False)
class _Parcel:
    """What all calls of a pass have in common; Dask doesn't look into it."""

    work: Callable[[Any, int], Any]
    shared: Any


def _unpacked(parcel: _Parcel) -> _Parcel:
    return parcel


def _call(k: int, parcel: _Parcel) -> Any:
    return parcel.work(parcel.shared, k)


class DaskPool:
    """Runs per-map work on the workers of a Dask scheduler; see `occupy.ensemble.execution.Executor`.

    Work that was lost with a worker is done again by another.
    """

    threads = available_cores()

    def __init__(self, client: Any) -> None:
        self._client = client

    def each(self, work: Callable[[Any, int], T], shared: Any, count: int) -> Iterator[T]:
        """Yield the results in order."""
        name = f"occupy-{uuid.uuid4().hex}"
        with warnings.catch_warnings():
            # Dask would rather have data scattered; but those are lost with the worker that has them.
            warnings.simplefilter("ignore", UserWarning)
            parcel = self._client.submit(_unpacked, _Parcel(work, shared), key=name, pure=False)
            futures = self._client.map(
                _call, range(count), parcel=parcel, key=[f"{name}-{k}" for k in range(count)], pure=False
            )
        futures.reverse()
        try:
            while futures:
                result = self._result(futures[-1])
                futures.pop()
                yield result
        finally:
            if futures:
                self._client.cancel([*futures, parcel], force=True)

    def _result(self, future: Any) -> Any:
        """Wait for a result, and look now and then whether it can still come."""
        import asyncio
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        while True:
            try:
                return future.result(timeout=POLL)
            except KilledWorker as error:
                raise OccupyError(
                    "workers of the cluster die again and again on the same map: have they enough memory?"
                ) from error
            except (CancelledError, asyncio.CancelledError, OSError) as error:
                # OSError includes TimeoutError; the work's own errors are handed on as they are.
                if future.status == "error":
                    raise
                if not isinstance(error, TimeoutError) or self._client.status != "running":
                    raise OccupyError(LOST) from error


@contextmanager
def cluster(
    address: str, inputs: Sequence[Path], folder: Path, tell: Callable[[str], None]
) -> Iterator[DaskPool]:
    """Connect to a Dask scheduler, and make sure that its workers can do the work.

    Parameters
    ----------
    address : str
        Such as ``tcp://node17:8786``.
    inputs : sequence of Path
        Files that every worker must see.
    folder : Path
        Scratch folder that every worker must see.
    tell : callable
        Is told what is waited for.

    Raises
    ------
    InputError
        Where Dask is not installed, nobody answers, or a worker lacks the program or the files.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError("--scheduler needs Dask: pip install 'occupy-em[dask]'") from error
    # It logs, at length, what is said in one line here.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except Exception as error:  # what a wrong address raises depends on what is wrong with it
        raise InputError(
            f"--scheduler {address}: no Dask scheduler answers there; `dask scheduler` prints its address "
            "when it starts, such as tcp://node17:8786"
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            tell(f"no workers at {address} yet; waiting for the first")
            client.wait_for_workers(1)
        _check_workers(client, inputs, folder)
        yield DaskPool(client)


def _check_workers(client: Any, inputs: Sequence[Path], folder: Path) -> None:
    make_folder(folder)
    token = uuid.uuid4().hex
    write_text(folder / "token", token)
    names = [str(path.absolute()) for path in inputs]
    try:
        found = client.run(_missing, names, str(folder.absolute() / "token"), token)
    except Exception as error:  # what a worker without the program raises depends on Dask's version
        raise InputError(
            f"workers can't run occupy ({type(error).__name__}: {error}): install occupy-em {__version__} "
            "in their environment"
        ) from error
    for worker, (version, missing) in found.items():
        if version != __version__:
            raise InputError(
                f"worker {worker} has occupy {version}, here it is {__version__}: install the same"
            )
        if missing:
            raise InputError(f"worker {worker} can't see {missing}: all workers must share these folders")


def _missing(names: Sequence[str], place: str, token: str) -> tuple[str, str]:
    """Return this worker's version, and what of the files it can't see (or empty text)."""
    for name in names:
        if not Path(name).is_file():
            return __version__, name
    try:
        seen = Path(place).read_text(encoding="utf-8")
    except OSError:
        seen = ""
    return __version__, "" if seen == token else str(Path(place).parent)
