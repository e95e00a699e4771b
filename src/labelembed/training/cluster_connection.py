"""The way to a dask scheduler: connecting, and what is said when there is none or it is lost."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from labelembed.errors import ClusterError, TrainingError

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 10.0

T = TypeVar("T")


def count_workers(address: str) -> int:
    """Returns how many workers a scheduler has now.

    Raises:
        ClusterError: When the scheduler cannot be reached.
    """
    with connected(address) as client:
        return len(asked(address, client.nthreads))


@contextlib.contextmanager
def connected(address: str) -> Iterator[Client]:
    """Gives a client that is connected, for the time of the block.

    Raises:
        ClusterError: When the address is none, dask is not installed, or the scheduler cannot be reached.
    """
    if not re.fullmatch(r"(tcp|tls)://(\[[0-9a-fA-F:]+\]|[^\s/:\[\]]+):\d{1,5}", address):
        raise ClusterError(
            f"--cluster: must be tcp://HOST:PORT (or tls://HOST:PORT) of a dask scheduler, got {address!r}"
        )
    try:
        import distributed
        from distributed.versions import VersionMismatchWarning
    except ImportError as error:
        wanted = "--cluster needs the package distributed: pip install 'labelembed[cluster]'"
        raise ClusterError(f"{wanted} ({error})") from error
    with _silent_log():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", VersionMismatchWarning)  # the versions that matter are compared later
                client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False, name="labelembed")
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            message = f"--cluster {address}: no dask scheduler can be reached there within {CONNECT_SECONDS:.0f} s"
            raise ClusterError(f"{message} ({reason}); `dask scheduler` starts one and prints its address") from error
        try:
            yield client
        finally:
            with contextlib.suppress(Exception):  # what is gone needs no goodbye
                client.close(timeout=2)


@contextlib.contextmanager
def _silent_log() -> Iterator[None]:
    """Keeps dask from logging in this process: what goes wrong is said once, by us."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]
    loggers = [log for name in names if not (log := logging.getLogger(name)).disabled]  # each has a handler of its own
    for log in loggers:
        log.disabled = True
    try:
        yield
    finally:
        for log in loggers:
            log.disabled = False


def asked(address: str, question: Callable[[], T]) -> T:
    """Returns what the scheduler answers to a call of its client.

    Raises:
        TrainingError: When it answers no more.
    """
    try:
        return question()
    except (OSError, TimeoutError, RuntimeError, ValueError) as error:  # closed in the middle, or closed before
        raise lost(address) from error


def lost(address: str) -> TrainingError:
    """Returns what is raised when a scheduler is gone in the middle."""
    what = "finished runs are kept, those under way save where they stand"
    return TrainingError(f"the connection to the scheduler {address} is lost; {what}: give the same command again")
