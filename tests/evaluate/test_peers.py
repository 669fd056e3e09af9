"""The processes of a run say who is missing, soon, and wait for none that is dead."""

import functools
import logging
import socket
import threading
import types

import pytest
from torch.distributed import HashStore

from captum_layermask import InputError
from captum_layermask.evaluate import peers as module
from captum_layermask.evaluate.peers import Peers, ProcessLostError, peers, place_among_processes


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves when somebody sleeps on it, and then calls ``meanwhile``."""
    clock = types.SimpleNamespace(now=0.0, step=1.0, meanwhile=lambda: None)

    def sleep(_):
        clock.now += clock.step
        assert clock.now < 20_000, "nothing ends this wait"
        clock.meanwhile()

    monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep))
    return clock


@pytest.fixture
def started(clock):
    """A function that starts the first of ``count`` processes, of which some others are already there."""
    together = []

    def start(count, others, store=None):
        store = store or HashStore()
        for rank in others:
            store.add(f"alive-{rank}", 1)
        together.append(Peers(store, 0, count))
        return store, together[-1]

    yield start
    for each in together:
        each.leave(failed=False)


def test_who_is_missing_is_said_within_a_minute_and_waited_for_no_more_than_ten(clock, started, caplog):
    said = []
    clock.meanwhile = lambda: said.extend([clock.now] * len(caplog.records))
    with caplog.at_level(logging.WARNING):
        _, together = started(4, others=[2])
        with pytest.raises(ProcessLostError, match="processes 1, 3 of 0 to 3 did not start"):
            together.meet()
    assert caplog.messages == ["still waiting for processes 1, 3 of 0 to 3 to start"]
    assert said[0] <= 60
    assert clock.now <= 660


def test_a_process_that_is_late_is_waited_for(clock, started):
    store, together = started(2, others=[])
    clock.step = 100.0
    clock.meanwhile = lambda: clock.now >= 500 and store.add("alive-1", 1)
    together.meet()
    assert clock.now == 500


def test_a_process_that_falls_silent_is_named_within_a_minute(clock, started):
    store, together = started(3, others=[1, 2])
    together.meet()
    clock.meanwhile = lambda: store.add("alive-2", 1)
    with pytest.raises(ProcessLostError, match="process 1 of 0 to 2 ended early"):
        together.gather("mine")
    assert clock.now <= 60


def test_a_process_that_failed_is_named_at_once(clock, started):
    store, together = started(2, others=[1])
    together.meet()
    other = Peers(store, 1, 2)
    other.leave(failed=True)
    with pytest.raises(ProcessLostError, match="process 1 of 0 to 1 ended early"):
        together.gather("mine")
    assert clock.now == 0


def test_a_slow_process_is_waited_for_as_long_as_it_lives(clock, started):
    store, together = started(2, others=[1])
    together.meet()
    clock.step = 40.0
    beat = functools.partial(store.add, "alive-1", 1)
    clock.meanwhile = lambda: Peers(store, 1, 2).gather(["theirs"]) if clock.now > 10_000 else beat()
    assert together.gather({"a": 1}) == [{"a": 1}, ["theirs"]]
    assert clock.now > 10_000


def test_a_process_gives_signs_of_life_until_it_leaves(monkeypatch):
    monkeypatch.setattr(module, "BEAT", 1e-3)
    store, beats = HashStore(), threading.Semaphore(0)
    add = store.add
    counting = types.SimpleNamespace(
        add=lambda key, n: (add(key, n), beats.release())[0], check=store.check, set=store.set
    )
    add("alive-1", 1)
    together = Peers(counting, 0, 2)
    together.meet()
    assert all(beats.acquire(timeout=60) for _ in range(5))
    together.leave(failed=False)
    (thread,) = [t for t in threading.enumerate() if t.name == "layermask-beat"] or [None]
    if thread is not None:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert not store.check(["failed-0"])


def test_a_store_that_is_gone_is_the_end_of_the_first_process(clock):
    def gone(*_):
        raise RuntimeError("Connection reset by peer")

    together = Peers(types.SimpleNamespace(add=gone, set=gone, check=gone), 1, 3)
    for step in (together.meet, lambda: together.gather("mine")):
        with pytest.raises(ProcessLostError, match="process 0 of 0 to 2 ended early"):
            step()
    together.leave(failed=True)


def test_two_processes_of_one_rank_are_an_error(clock, started):
    store, together = started(2, others=[1])
    together.meet()
    with pytest.raises(InputError, match="two processes have RANK=0"):
        Peers(store, 0, 2).meet()


VARIABLES = {"WORLD_SIZE": "4", "RANK": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def environment(monkeypatch):
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_the_place_is_what_torchrun_says(environment):
    assert place_among_processes() == (3, 4)
    environment.setenv("WORLD_SIZE", "1")
    assert place_among_processes() == (0, 1)
    environment.delenv("WORLD_SIZE")
    assert place_among_processes() == (0, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("WORLD_SIZE", value) for value in ("", "two", "0", "-1", "1.5", "²", "9" * 5000)),
        *(("RANK", value) for value in (None, "", "4", "-1", "first")),
        *(("MASTER_PORT", value) for value in (None, "", "0", "65536", "http")),
        ("MASTER_ADDR", None),
        ("MASTER_ADDR", ""),
    ],
)
def test_variables_that_make_no_sense_are_named(environment, name, value):
    if value is None:
        environment.delenv(name)
    else:
        environment.setenv(name, value)
    with pytest.raises(InputError, match=f"^{name} is "), peers(*place_among_processes()):
        pass


def test_one_process_needs_no_others():
    with peers(0, 1) as gather:
        assert gather("mine") == ["mine"]


def test_a_port_that_is_taken_is_one_sentence(environment):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(InputError, match=r"cannot listen at 127\.0\.0\.1:"), peers(0, 2):
            pass


def test_a_first_process_that_is_nowhere_is_missing(environment, clock, caplog):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        environment.setenv("MASTER_PORT", str(nobody.getsockname()[1]))
        with pytest.raises(ProcessLostError, match=r"process 0 of 0 to 3 did not start at 127"), peers(3, 4):
            pass
    assert caplog.messages == ["still waiting for process 0 of 0 to 3 to start"]
    assert clock.now <= 660


def test_two_processes_meet_at_a_port(environment, capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment.setattr(module, "_runs", iter([0, 0]))
    environment.setenv("MASTER_PORT", str(port))
    gathered = {}

    def take_part(rank):
        with peers(rank, 2) as gather:
            gathered[rank] = gather({"rank": rank})

    other = threading.Thread(target=take_part, args=(1,))
    other.start()
    take_part(0)
    other.join(timeout=60)
    assert gathered == {0: [{"rank": 0}, {"rank": 1}], 1: []}
    module._store_at.cache_clear()
    assert capfd.readouterr() == ("", "")


def test_runs_one_after_the_other_and_attempts_do_not_see_each_other(environment):
    store = HashStore()
    environment.setattr(module, "_store_at", lambda *_: store)
    first = module._store_of_this_run(0, 2)
    first.set("share-1", "old")
    assert not module._store_of_this_run(0, 2).check(["share-1"])
    environment.setattr(module, "_runs", iter([0, 0]))
    module._store_of_this_run(0, 2).set("share-1", "old")
    environment.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert not module._store_of_this_run(0, 2).check(["share-1"])


def test_of_processes_that_fail_the_others_hear(environment):
    store = HashStore()
    environment.setattr(module, "_store_of_this_run", lambda *_: store)
    store.add("alive-1", 1)
    with pytest.raises(KeyboardInterrupt), peers(0, 2):
        raise KeyboardInterrupt
    assert store.check(["failed-0"])
