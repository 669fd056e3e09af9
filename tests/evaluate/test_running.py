"""Units of work are run once, whatever happens meanwhile, by one process or by several."""

import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_evaluation import class_folders

import captum_layermask
from captum_layermask import InputError, VanishedWarning
from captum_layermask.errors import LeftOutError
from captum_layermask.evaluate import running as engine
from captum_layermask.evaluate.experiment import Experiment
from captum_layermask.evaluate.records import recorded_units
from captum_layermask.evaluate.running import run
from captum_layermask.evaluate.seeds import stable_seed

SCRIPT = Path(__file__).parents[1] / "helpers" / "small_evaluation.py"
PACKAGE = Path(captum_layermask.__file__).parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGE)}


class Letters(Experiment):
    """An experiment on letters, without a network: a unit counts its letter in the image's name."""

    name = "letters"
    columns = pa.schema({"count": pa.int32()})

    def __init__(self, images=("banana", "cacao", "date"), letters="ab", seed=0):
        self.images, self.letters = tuple(images), letters
        self.settings = {"letters": letters, "seed": seed}
        self.forward_seconds = 0.0
        self.done = []
        self.threads = set()

    def units(self, image):
        return list(self.letters)

    def open(self, image):
        self.threads.add(threading.current_thread())
        if image.startswith("!"):
            raise LeftOutError(f"{image} is no word.")
        return image

    def work(self, opened, unit):
        self.done.append((opened, unit))
        self.forward_seconds += 1.0
        return [{"count": opened.count(unit)}]

    def results(self, records):
        raise NotImplementedError


def counts(outcome):
    return {(row["image"], row["unit"]): row["count"] for row in outcome.records.to_pylist()}


EXPECTED = {
    ("banana", "a"): 3,
    ("banana", "b"): 1,
    ("cacao", "a"): 2,
    ("cacao", "b"): 0,
    ("date", "a"): 1,
    ("date", "b"): 0,
}


def test_every_unit_is_done_once(tmp_path):
    experiment = Letters()
    outcome = run(experiment, tmp_path, show_progress=False)
    assert counts(outcome) == EXPECTED
    assert sorted(experiment.done) == sorted(EXPECTED)
    assert outcome.left_out.num_rows == 0
    assert outcome.facts["units"] == 6
    assert outcome.facts["processes"] == 1
    assert outcome.facts["forward_seconds"] == 6.0
    again = Letters()
    assert counts(run(again, tmp_path, show_progress=False)) == EXPECTED
    assert not again.done
    assert not again.threads


def test_a_run_goes_on_where_it_was_interrupted(tmp_path):
    first = Letters()
    work = first.work

    def interrupted(opened, unit):
        if len(first.done) == 3:
            raise KeyboardInterrupt
        return work(opened, unit)

    first.work = interrupted
    with pytest.raises(KeyboardInterrupt):
        run(first, tmp_path, show_progress=False)
    second = Letters()
    assert counts(run(second, tmp_path, show_progress=False)) == EXPECTED
    assert sorted(first.done + second.done) == sorted(EXPECTED)
    assert len(first.done) == 3


def test_images_that_are_left_out_are_listed_and_tried_again(tmp_path, capsys):
    images = ("!", "banana", "cacao", "date", "!!")
    outcome = run(Letters(images), tmp_path)
    assert counts(outcome) == EXPECTED
    listed = [{"image": "!", "reason": "! is no word."}, {"image": "!!", "reason": "!! is no word."}]
    assert outcome.left_out.to_pylist() == listed
    assert pq.read_table(tmp_path / "left_out.parquet").to_pylist() == listed
    assert "10/10" in capsys.readouterr().err
    mended = Letters(images)
    mended.open = lambda image: image
    outcome = run(mended, tmp_path, show_progress=False)
    assert outcome.left_out.num_rows == 0
    assert sorted(mended.done) == [("!", "a"), ("!", "b"), ("!!", "a"), ("!!", "b")]


def test_only_an_image_that_cannot_be_opened_is_left_out(tmp_path):
    def fail(*_):
        raise InputError("the network is wrong.")

    experiment = Letters()
    experiment.work = fail
    with pytest.raises(InputError, match="the network is wrong"):
        run(experiment, tmp_path, show_progress=False)
    experiment = Letters()
    experiment.open = lambda image: {}[image]
    with pytest.raises(KeyError):
        run(experiment, tmp_path, show_progress=False)
    experiment.open = fail  # not the image's fault: it must not be blamed
    with pytest.raises(InputError, match="the network is wrong"):
        run(experiment, tmp_path, show_progress=False)


def test_an_image_that_is_left_out_when_it_was_half_done_leaves_no_half(tmp_path):
    first = Letters()
    first.units = lambda image: ["a"]
    run(first, tmp_path, show_progress=False)
    second = Letters()

    def open_(image):
        if image == "cacao":
            raise LeftOutError("damaged meanwhile.")
        return image

    second.open = open_
    outcome = run(second, tmp_path, show_progress=False)
    assert set(counts(outcome)) == {pair for pair in EXPECTED if pair[0] != "cacao"}


def test_the_next_image_is_opened_in_another_thread_meanwhile(tmp_path):
    experiment = Letters(("a", "b", "c"), "x")
    opened = {image: threading.Event() for image in experiment.images}

    def note_open(image):
        experiment.threads.add(threading.current_thread())
        opened[image].set()
        return image

    def wait_for_the_next(image, unit):
        following = chr(ord(image) + 1)
        assert following not in opened or opened[following].wait(timeout=60)
        assert image != "a" or not opened["c"].is_set()
        return [{"count": 0}]

    experiment.open, experiment.work = note_open, wait_for_the_next
    run(experiment, tmp_path, show_progress=False)
    assert threading.main_thread() not in experiment.threads


def test_a_second_run_in_a_folder_does_nothing(tmp_path):
    experiment, second = Letters(), Letters()
    work = experiment.work

    def meanwhile(opened, unit):
        with pytest.raises(InputError, match="another run is writing"):
            run(second, tmp_path, show_progress=False)
        return work(opened, unit)

    experiment.work = meanwhile
    assert counts(run(experiment, tmp_path, show_progress=False)) == EXPECTED
    assert not second.done
    assert run(second, tmp_path, show_progress=False).facts["units"] == 0


def test_variables_that_make_no_sense_end_the_run_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(InputError, match="WORLD_SIZE is 'two'"):
        run(Letters(), tmp_path / "out", show_progress=False)
    assert not (tmp_path / "out").exists()


def test_other_settings_in_one_folder_are_refused(tmp_path):
    run(Letters(), tmp_path, show_progress=False)
    other = Letters(seed=1)
    with pytest.raises(InputError, match="seed = 0, and this one has 1"):
        run(other, tmp_path, show_progress=False)
    assert not other.done


def test_threads_and_versions_belong_to_the_settings(tmp_path, monkeypatch):
    outcome = run(Letters(), tmp_path, show_progress=False)
    assert outcome.settings == {
        "letters": "ab",
        "seed": 0,
        "threads": torch.get_num_threads(),
        "versions": outcome.settings["versions"],
    }
    assert outcome.settings["versions"]["torch"] == torch.__version__
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    with pytest.raises(InputError, match=r"threads = \d+, and this one has 7"):
        run(Letters(), tmp_path, show_progress=False)
    monkeypatch.undo()
    version = engine.importlib.metadata.version
    for package in ("captum-layermask", "scikit-image", "pillow"):
        monkeypatch.setattr(
            engine.importlib.metadata, "version", lambda p, package=package: version(p) + "x" * (p == package)
        )
        with pytest.raises(InputError, match=rf"versions.{package} = .*, and this one has .*x"):
            run(Letters(), tmp_path, show_progress=False)


def test_vanished_samples_do_not_warn(tmp_path):
    experiment = Letters()
    work = experiment.work

    def warn(opened, unit):
        warnings.warn("gone", VanishedWarning, stacklevel=1)
        return work(opened, unit)

    experiment.work = warn
    run(experiment, tmp_path, show_progress=False)


def test_processes_share_the_images(tmp_path, monkeypatch):
    shares = []
    monkeypatch.setattr(engine, "peers", lambda *_: nullcontext(lambda share: shares.append(share) or shares))
    experiments = [Letters(), Letters()]
    for rank in (1, 0):
        monkeypatch.setattr(engine, "place_among_processes", lambda rank=rank: (rank, 2))
        outcome = run(experiments[rank], tmp_path, show_progress=False)
        assert (outcome is None) == (rank == 1)
    assert {image for image, _ in experiments[0].done} == {"banana", "date"}
    assert {image for image, _ in experiments[1].done} == {"cacao"}
    assert counts(outcome) == EXPECTED
    assert outcome.facts["units"] == 6
    assert outcome.facts["forward_seconds"] == 6.0


def test_seeds_depend_on_the_parts_alone():
    assert stable_seed(0, "a.png", "grid", "random") == 2011789582104025784
    seeds = [stable_seed(*parts) for parts in [(0,), (1,), ("0",), (0, "a"), (0, "a", "b"), (0, "ab")]]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


OPTIONS = ["--removals", "layer,grey", "--segmentations", "grid", "--n-segments", "16", "--fractions", "3"]
OPTIONS += ["--orders", "random,most-salient", "--threads", "1"]


def evaluate(data, out, *launcher, expect=0, **environment):
    done = subprocess.run(
        [sys.executable, *launcher, SCRIPT, "evaluate", "curves", "--data", data, "--out", out, *OPTIONS],
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done


@pytest.fixture(scope="module")
def in_one_go(tmp_path_factory):
    """A folder of images, one of them broken, and a run by one process that nothing disturbed."""
    folder = tmp_path_factory.mktemp("run")
    (class_folders(folder / "data", 7) / "bee" / "01.png").write_bytes(b"broken")
    evaluate(folder / "data", folder / "out")
    return folder


def assert_equal_runs(out, other):
    assert (out / "tables.md").read_bytes() == (other / "tables.md").read_bytes()
    assert (out / "left_out.parquet").read_bytes() == (other / "left_out.parquet").read_bytes()
    parts = [pq.read_table(path) for path in (out / "records").glob("[0-9]*.parquet")]
    assert sum(part.num_rows for part in parts) == 6 * 4 * 3  # no unit was done twice
    assert recorded_units(out) == recorded_units(other)


def test_a_run_that_is_killed_twice_ends_with_the_same_tables(in_one_go, tmp_path):
    for rename, units in [("5", 3), ("8", 10)]:  # the settings are the first file of a run
        evaluate(in_one_go / "data", tmp_path, expect=-signal.SIGKILL, KILL_AT=rename)
        assert len(recorded_units(tmp_path)) == units
        assert not (tmp_path / "tables.md").exists()
    assert len(list((tmp_path / "records").glob(".*.part"))) == 2
    evaluate(in_one_go / "data", tmp_path)
    assert_equal_runs(tmp_path, in_one_go / "out")


def test_two_processes_end_with_the_same_tables_as_one(in_one_go, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = evaluate(in_one_go / "data", tmp_path, *launcher)
    assert {path.name[0] for path in (tmp_path / "records").iterdir()} == {"0", "1"}
    assert_equal_runs(tmp_path, in_one_go / "out")
    assert done.stdout.count("## Accuracy: area under the curve") == 1
    assert done.stderr.count("left out 1 of 7, which left_out.parquet lists, first bee/01.png: cannot") == 1


def test_a_process_that_dies_does_not_leave_the_others_waiting(in_one_go, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = ENVIRONMENT | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, SCRIPT, "evaluate", "curves", *OPTIONS]
    command += ["--data", in_one_go / "data", "--out", tmp_path]
    killed = subprocess.Popen(
        command, env=environment | {"RANK": "1", "KILL_AT": "4"}, stderr=subprocess.DEVNULL
    )
    waiting = subprocess.Popen(
        command, env=environment | {"RANK": "0", "PATIENCE": "3"}, stderr=subprocess.PIPE, text=True
    )
    try:
        _, error = waiting.communicate(timeout=240)
        assert killed.wait(timeout=60) == -signal.SIGKILL
    finally:
        killed.kill()
        waiting.kill()
    assert waiting.returncode == 2, error
    assert "error: process 1 of 0 to 1 ended early" in error
    assert not (tmp_path / "tables.md").exists()
