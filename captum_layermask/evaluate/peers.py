"""The processes of one run meet, hear of each other, and hand what they did to the first."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from captum_layermask.errors import InputError, LayerMaskError

__all__ = ["Peers", "ProcessLostError", "peers", "place_among_processes"]

#: Seconds without a sign of life after which a process is lost, or said to be awaited if it never gave one.
PATIENCE = 50.0
#: Seconds after which a process that never gave a sign of life is lost. Loading a model may take minutes.
PATIENCE_AT_START = 600.0
#: Seconds between two signs of life, and between two looks at the others.
BEAT, LOOK = 1.0, 0.2

_log = logging.getLogger(__name__)
_runs = itertools.count()


class ProcessLostError(LayerMaskError, RuntimeError):
    """Another process of the same run did not start, or ended before its share was done."""


class Peers:
    """The processes of one run, which share a store and nothing else.

    There is no process group: units of work do not depend on each other, so all that is needed is to know who
    lives. A process group's timeout would have to outlast the slowest share, which may take days.

    Args:
        store: the same in all processes.
        rank: number of this process.
        count: of processes.

    Example:
        ```python
        together = Peers(store, rank=0, count=4)
        together.meet()
        shares = together.gather({"units": 12})
        ```
    """

    def __init__(self, store: Store, rank: int, count: int) -> None:
        self.rank, self.count = rank, count
        self._store = store
        self._over = threading.Event()
        self._heard = {other: (0, time.monotonic()) for other in range(count) if other != rank}
        self._said = False

    def meet(self) -> None:
        """Wait for all processes to start, and give signs of life from then on.

        Raises:
            ProcessLostError: some did not, which are named.
            InputError: another process has the same rank.
        """
        with self._connection():
            if self._store.add(f"started-{self.rank}", 1) > 1:
                raise InputError(f"two processes have RANK={self.rank}; give each another, from 0.")
        threading.Thread(target=self._beat, name="layermask-beat", daemon=True).start()
        self._wait("alive", "did not start")

    def gather(self, share: Any) -> list[Any]:
        """What all processes made, by rank, in the first process; in the others nothing, and no waiting.

        Args:
            share: what this process made, JSON.

        Raises:
            ProcessLostError: some ended early, or gave no sign of life for almost a minute; they are named.
        """
        with self._connection():
            self._store.set(f"share-{self.rank}", json.dumps(share))
            if self.rank:
                return []
            self._wait("share", "ended early")
            return [json.loads(self._store.get(f"share-{rank}")) for rank in range(self.count)]

    def leave(self, failed: bool) -> None:
        """Give no more signs of life; say so, if this process failed."""
        self._over.set()
        if failed:
            with suppress(RuntimeError):  # nobody is left to tell
                self._store.set(f"failed-{self.rank}", "")

    def _wait(self, key: str, fault: str) -> None:
        """Wait until every other process has set a key, as long as all of those that have not live."""
        while waiting := [rank for rank in self._heard if not self._has(f"{key}-{rank}")]:
            silences = {rank: self._silence(rank) for rank in waiting}
            lost = [
                rank
                for rank, (beats, seconds) in silences.items()
                if self._has(f"failed-{rank}") or seconds > (PATIENCE if beats else PATIENCE_AT_START)
            ]
            if lost:
                raise _lost(lost, self.count, fault)
            awaited = [
                rank for rank, (beats, seconds) in silences.items() if not beats and seconds > PATIENCE
            ]
            if awaited and not self._said:
                self._said = True
                _say(awaited, self.count)
            time.sleep(LOOK)

    def _silence(self, rank: int) -> tuple[int, float]:
        """How many signs of life a process gave, and how many seconds ago the last was heard."""
        known, since = self._heard[rank]
        now = time.monotonic()
        beats = int(self._store.get(f"alive-{rank}")) if self._has(f"alive-{rank}") else 0
        if beats != known:
            since = now
            self._heard[rank] = beats, since
        return beats, now - since

    def _has(self, key: str) -> bool:
        """Whether somebody has set a key; to get one that nobody has set would be to wait for it."""
        return self._store.check([key])

    def _beat(self) -> None:
        try:
            while True:
                self._store.add(f"alive-{self.rank}", 1)
                if self._over.wait(BEAT):
                    return
        except RuntimeError:
            return  # the first process, which has the store, is gone; who needs it raises

    @contextmanager
    def _connection(self) -> Iterator[None]:
        try:
            yield
        except ProcessLostError:
            raise
        except RuntimeError as error:
            raise _lost([0], self.count, "ended early") from error


def place_among_processes() -> tuple[int, int]:
    """Rank and number of the processes that torchrun started, by its environment variables, or 0 and 1.

    Raises:
        InputError: a variable is missing, or is no number that makes sense.

    Example:
        ```python
        rank, count = place_among_processes()
        ```
    """
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    count = _number("WORLD_SIZE", 1, 1 << 20)
    return (0, 1) if count == 1 else (_number("RANK", 0, count - 1), count)


@contextmanager
def peers(rank: int, count: int) -> Iterator[Callable[[Any], list[Any]]]:
    """Meet the other processes of this run, and yield what gathers their shares (``Peers.gather``).

    Args:
        rank: number of this process.
        count: of processes; one needs no others.

    Raises:
        ProcessLostError: some did not start; they are named.
        InputError: the environment does not tell where the processes meet, or two of them have one rank.

    Example:
        ```python
        with peers(rank, count) as gather:
            shares = gather({"units": 12})
        ```
    """
    if count == 1:
        yield lambda share: [share]
        return
    together = Peers(_store_of_this_run(rank, count), rank, count)
    failed = True
    try:
        together.meet()
        yield together.gather
        failed = False
    finally:
        together.leave(failed)


def _store_of_this_run(rank: int, count: int) -> Store:
    host, port = os.environ.get("MASTER_ADDR"), _number("MASTER_PORT", 1, 65535)
    if not host:
        raise InputError("MASTER_ADDR is not set; start the processes with torchrun, or give a host's name.")
    # torchrun has a store of its own, which outlives an attempt to run the processes.
    torchruns = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = _store_at(host, port, count, rank == 0 and not torchruns)
    return PrefixStore(f"layermask-{attempt}-{next(_runs)}", store)


@functools.cache  # a process may run several experiments; the first one's store serves them all
def _store_at(host: str, port: int, count: int, here: bool) -> Store:
    if not here:
        _wait_for_first(host, port, count)
    try:
        return TCPStore(
            host, port, count, is_master=here, wait_for_workers=False, timeout=timedelta(seconds=PATIENCE)
        )
    except RuntimeError as error:
        if not here:
            raise _lost([0], count, f"cannot be reached at {host}:{port}") from error
        raise InputError(
            f"cannot listen at {host}:{port}, where the processes of this run meet; give another "
            "MASTER_PORT, and the name of this machine as MASTER_ADDR."
        ) from error


def _wait_for_first(host: str, port: int, count: int) -> None:
    """Wait until the first process listens. A store waits too, but in silence, then prints its own stack."""
    start, said = time.monotonic(), False
    while True:
        try:
            socket.create_connection((host, port), timeout=PATIENCE).close()
            return
        except OSError as error:
            seconds = time.monotonic() - start
            if seconds > PATIENCE_AT_START:
                raise _lost([0], count, f"did not start at {host}:{port}") from error
        if seconds > PATIENCE and not said:
            said = True
            _say([0], count)
        time.sleep(LOOK)


def _number(variable: str, least: int, most: int) -> int:
    text = os.environ.get(variable)
    if text is None:
        raise InputError(f"{variable} is not set; start the processes with torchrun, or set all it sets.")
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
        raise InputError(f"{variable} is {text!r}; give a whole number from {least} to {most}.")
    return int(text)


def _say(awaited: list[int], count: int) -> None:
    _log.warning("still waiting for %s to start", _named(awaited, count))


def _lost(ranks: list[int], count: int, fault: str) -> ProcessLostError:
    return ProcessLostError(
        f"{_named(ranks, count)} {fault}; see the messages there, then start all again to continue."
    )


def _named(ranks: list[int], count: int) -> str:
    return f"process{'es' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))} of 0 to {count - 1}"
