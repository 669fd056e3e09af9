"""Every metric merges into the same number, refuses what it cannot measure, and has an example that runs."""

import math
import pickle
import re
import subprocess
import sys
import textwrap

import pytest
import torch
import torch.multiprocessing
from every_metric import a_metric_of_each_kind, batches_for, compute_in_a_process, of_all_batches
from explained import quadrants

from captum_layermask import metrics
from captum_layermask.errors import InputError
from captum_layermask.metrics import (
    AlignmentScore,
    ClassEntropy,
    GridPointingGame,
    TopKAblation,
    TopKJaccard,
    UnchangedPredictions,
    WordNetSimilarity,
)

kinds = pytest.mark.parametrize("metric", a_metric_of_each_kind(), ids=lambda metric: type(metric).__name__)


@kinds
def test_merged_replicas_are_one(metric):
    expected = of_all_batches(metric.clone())
    replicas = metric.clone(), metric.clone()
    for i, batch in enumerate(batches_for(metric)):
        replicas[i % 2].update(*batch)
    copy = pickle.loads(pickle.dumps(replicas[1]))
    replicas[0].merge_state(copy)
    assert replicas[0].compute().item() == pytest.approx(expected, rel=1e-12)
    replicas[0].reset()
    assert of_all_batches(replicas[0]) == pytest.approx(expected, rel=1e-12)


@kinds
def test_a_batch_in_one_piece_or_in_many(metric):
    expected = of_all_batches(metric.clone())
    single = metric.clone()
    for batch in batches_for(metric):
        for image in zip(*batch, strict=True):
            single.update(*(argument[None] for argument in image))
    assert single.compute().item() == pytest.approx(expected, rel=1e-12)


@kinds
def test_sums_are_kept_in_double_precision(metric):
    metric = metric.clone()
    assert all(state.dtype in (torch.double, torch.long) for state in metric.metric_state.values())
    metric.update(*next(batches_for(metric)))
    metric.reset()
    assert all(state.dtype in (torch.double, torch.long) for state in metric.metric_state.values())


def test_two_processes_compute_what_one_does(tmp_path):
    torch.multiprocessing.spawn(compute_in_a_process, (2, str(tmp_path)), nprocs=2)
    expected = [of_all_batches(metric) for metric in a_metric_of_each_kind()]
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(expected, rel=1e-12)


LABELS = torch.tensor([0, 1])


ONE = torch.zeros(1, 4), quadrants(), quadrants() == 1


@pytest.mark.parametrize(
    ("metric", "arguments", "sentence"),
    [
        (ClassEntropy(2), (torch.tensor([2]),), "predictions hold an index outside 0 … 1"),
        (ClassEntropy(2), (torch.tensor([-1]),), "predictions hold an index outside 0 … 1"),
        (ClassEntropy(2), (torch.zeros(3, 2),), "class indices, integers N, for example logits.argmax"),
        (UnchangedPredictions(), (LABELS, LABELS[:1]), "2 predictions and 1 original"),
        (UnchangedPredictions(), (LABELS > 0, LABELS > 0), "class indices, integers N"),
        (WordNetSimilarity(), (LABELS, LABELS + 999), "labels hold an index outside 0 … 999"),
        (TopKAblation(), (LABELS[:1], LABELS), "1 predictions and 2 labels"),
        (AlignmentScore(), (ONE[0], ONE[1].int(), ONE[2]), "give a LongTensor N×1×H×W"),
        (AlignmentScore(), (ONE[0][:, :3], *ONE[1:]), "ids go from 0 to 3, but there are 3 values"),
        (AlignmentScore(), (ONE[0], ONE[1] - 1, ONE[2]), "ids go from -1"),
        (AlignmentScore(), (ONE[0].repeat(2, 1), *ONE[1:]), "for 1 image"),
        (AlignmentScore(), (ONE[0].long(), *ONE[1:]), "give floats N×K"),
        (AlignmentScore(), (ONE[0] * math.nan, *ONE[1:]), "NaN or infinity"),
        (AlignmentScore(), (*ONE[:2], ONE[2][0]), "segments' shape"),
        (AlignmentScore(), (*ONE[:2], ONE[2].long()), "give bool or float"),
        (TopKJaccard(), (*ONE[:2], ONE[2] * 1.5), "values outside"),
        (TopKJaccard(), (*ONE[:2], ONE[2] * math.nan), "values outside"),
        (GridPointingGame(), (torch.zeros(1, 1, 4, 5), LABELS[:1]), "multiples of 2"),
        (GridPointingGame(), (torch.zeros(1, 4, 4), LABELS[:1]), "give floats N×C×H×W"),
        (GridPointingGame(), (torch.zeros(1, 1, 4, 4), LABELS), "a LongTensor of the 1 cells"),
        (
            GridPointingGame(),
            (torch.zeros(1, 1, 4, 4), torch.tensor([4])),
            "each from 0 to 3",
        ),
        (GridPointingGame(), (torch.full((1, 1, 4, 4), math.inf), LABELS[:1]), "NaN or infinity"),
    ],
)
def test_what_cannot_be_measured_is_refused_and_not_counted(metric, arguments, sentence):
    before = {name: state.clone() for name, state in metric.metric_state.items()}
    with pytest.raises(InputError, match=sentence):
        metric.update(*arguments)
    assert all(torch.equal(state, before[name]) for name, state in metric.metric_state.items())


@pytest.mark.parametrize(
    "make",
    [lambda: ClassEntropy(0), lambda: TopKAblation(0), lambda: TopKJaccard(k=0), lambda: GridPointingGame(0)],
)
def test_a_count_below_one_is_refused(make):
    with pytest.raises(InputError, match="give at least 1"):
        make()


def test_without_torchmetrics_the_error_says_what_to_install():
    program = (
        "import sys; sys.modules['torchmetrics'] = None; from captum_layermask.metrics import ClassEntropy"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'captum-layermask[evaluate]'" in ended.stderr


def examples():
    """The lines of code in the docstring of each metric."""
    found = []
    for name in metrics.__all__:
        block = re.search(r"```python\n(.*?)```", getattr(metrics, name).__doc__, re.S)
        found.append((name, textwrap.dedent(block[1]) if block else ""))
    return found


@pytest.mark.parametrize(("name", "code"), examples())
def test_the_example_of_a_metric_gives_the_number_behind_it(name, code):
    *before, last = code.strip().splitlines()
    known = {"torch": torch, **{name: getattr(metrics, name) for name in metrics.__all__}}
    exec("\n".join(before), known)
    expression, number = re.fullmatch(r"(.*)  # ([\d.]+)\b.*", last).groups()
    digits = len(number.partition(".")[2])
    assert round(float(eval(expression, known)), digits) == float(number)
