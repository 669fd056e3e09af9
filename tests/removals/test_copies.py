"""What is public can be copied, pickled, saved, and sent to another process, and then is what it was."""

import copy
import importlib
import inspect
import io
import multiprocessing
import pickle
import re
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import joblib
import numpy as np
import pytest
import torch
from coloured import CLASSES, draw, mean_colour_model
from matplotlib.figure import Figure
from support import redraw, small_classifier
from torch.optim.swa_utils import AveragedModel
from torchvision.models import VisionTransformer

import captum_layermask
from captum_layermask import (
    MISSING,
    REMOVALS,
    LayerMaskedForward,
    UnknownNameError,
    make_forward,
)
from captum_layermask.evaluate.curves.experiment import Curves
from captum_layermask.evaluate.data.dataset import find_images
from captum_layermask.evaluate.lime.experiment import Lime
from captum_layermask.evaluate.report.bootstrap import Interval
from captum_layermask.evaluate.report.report import Report, absent
from captum_layermask.evaluate.report.results import Example
from captum_layermask.evaluate.report.titles import removal_title
from captum_layermask.evaluate.running import run
from captum_layermask.evaluate.shape.experiment import Shape
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.comparison import compare
from captum_layermask.explain.estimators.banzhaf import BanzhafEstimator
from captum_layermask.explain.estimators.games import Together
from captum_layermask.explain.estimators.leave_one_out import LeaveOneOutEstimator
from captum_layermask.explain.estimators.lime import LimeEstimator
from captum_layermask.explain.estimators.rise import RiseEstimator
from captum_layermask.explain.estimators.shapley import ShapleyEstimator
from captum_layermask.explain.explanation import explain
from captum_layermask.explain.segments import grid
from captum_layermask.integrations.image_classifier import ImageClassifier
from captum_layermask.integrations.lime import FastLimeImageExplainer
from captum_layermask.integrations.shap import SegmentMasker
from captum_layermask.masking.activation import MaskedMap
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.propagation import paper
from captum_layermask.masking.windows import Window
from captum_layermask.metrics import (
    AlignmentScore,
    ClassEntropy,
    GridPointingGame,
    TopKAblation,
    TopKJaccard,
    UnchangedPredictions,
    WordNetSimilarity,
)
from captum_layermask.metrics.wordnet import hierarchy
from captum_layermask.models.preprocessing import Checked, Normalize, Preprocess, Square
from captum_layermask.plots.explanation import plot_explanation
from captum_layermask.removals.colors import Colors
from captum_layermask.removals.leaking_fills import LeakingFillForward
from captum_layermask.removals.registry import Setting
from captum_layermask.testing import check_masking, check_model

ROOT = Path(__file__).parents[2]
COLORS = Colors([0.4, 0.5, 0.6], [0.2, 0.2, 0.2], normalized=False)
PIXELS = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)) + 0.1
SEGMENTS = grid(PIXELS, size=8)
PARTLY_MISSING = torch.where(SEGMENTS == 4, MISSING, PIXELS)


def public():
    """Path → object: the package's face, and everything that the reference pages in docs/api name."""
    found = {f"captum_layermask.{name}": getattr(captum_layermask, name) for name in captum_layermask.__all__}
    pages = sorted((ROOT / "docs" / "api").glob("*.md"))
    for path in re.findall(r"^::: (\S+)", "\n".join(page.read_text() for page in pages), re.M):
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError:
            parent, _, name = path.rpartition(".")
            found[path] = getattr(importlib.import_module(parent), name)
            continue
        found |= {
            f"{path}.{name}": value for name, value in vars(module).items() if is_its_own(module, name, value)
        }
    return found


def is_its_own(module, name, value):
    if hasattr(module, "__all__"):
        return name in module.__all__
    return not name.startswith("_") and getattr(value, "__module__", None) == module.__name__


PUBLIC = public()
KINDS = list(dict.fromkeys(value for value in PUBLIC.values() if inspect.isclass(value)))
ERRORS = [kind for kind in KINDS if issubclass(kind, Exception)]
#: What a user can hold objects of. An activation inside a forward is none: outside, it is a plain tensor.
HELD = [
    kind
    for kind in KINDS
    if not issubclass(kind, (Exception, MaskedMap, Protocol)) and not inspect.isabstract(kind)
]

COPIES = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "torch.save": lambda value: through_file(value, torch.save, lambda f: torch.load(f, weights_only=False)),
    "joblib": lambda value: through_file(value, joblib.dump, joblib.load),
}


def through_file(value, save, load):
    file = io.BytesIO()
    save(value, file)
    file.seek(0)
    return load(file)


def same(a, b):
    """Whether two objects hold the same, all the way down; what holds itself is compared by its looks."""
    if a is b or type(a) is not type(b):
        return a is b
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, partial):
        return same((a.func, a.args, a.keywords), (b.func, b.args, b.keywords))
    if isinstance(a, Figure):
        return a._repr_png_() == b._repr_png_()
    if type(a).__eq__ is object.__eq__ or is_dataclass(a):
        return same(a.__reduce_ex__(4)[:3], b.__reduce_ex__(4)[:3])
    return a == b


def small_transformer():
    torch.manual_seed(0)
    sizes = {"hidden_dim": 8, "mlp_dim": 8, "num_classes": 4}
    network = VisionTransformer(24, 8, num_layers=1, num_heads=1, **sizes)
    return redraw(network)


def forwards():
    """One of every removal, that has been called."""
    made = {}
    for removal in REMOVALS:
        model = small_transformer() if removal == "drop-tokens" else small_classifier(4)
        made[removal] = make_forward(removal, model, colors=COLORS, reference=PIXELS, segments=SEGMENTS)
        made[removal].requires_grad_(False)(PARTLY_MISSING)
    return made


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """An object, or some, of every public class."""
    folder = tmp_path_factory.mktemp("pictures")
    draw(folder, [(i % 4, (8, 8, 8, 8)) for i in range(4)])
    data = find_images(folder / "images", CLASSES, masks=folder / "masks")
    model, forward = mean_colour_model(), LayerMaskedForward(small_classifier(4))
    experiment = Curves(
        model, data, removals=["layer"], segmentations=["grid"], orders=["random"], fractions=2, n_segments=4
    )
    comparison = compare(
        forward.model, PIXELS, SEGMENTS, class_names=CLASSES, removals=["layer"], n_samples=20
    )
    explanation = comparison.rows[0].explanation
    options = {"class_names": CLASSES, "method": "shapley", "budget": 20}
    estimated = explain(forward, PIXELS, SEGMENTS, **options)
    differing = compare(
        forward.model, PIXELS, SEGMENTS, colors=COLORS, removals=["layer", "grey"], classes=1, **options
    )
    count = int(SEGMENTS.max()) + 1
    estimators = [
        kind(count) for kind in (ShapleyEstimator, BanzhafEstimator, LimeEstimator, LeaveOneOutEstimator)
    ]
    estimators.append(RiseEstimator(tuple(PIXELS.shape[2:])))
    mask = Mask(SEGMENTS != 4)
    mask.after(Window((3, 3), before=(1, 1), after=(1, 1)), paper)
    trace = forward.trace(PARTLY_MISSING, outputs=True)
    metrics = [ClassEntropy(4), UnchangedPredictions(), WordNetSimilarity(), TopKAblation(2)]
    metrics += [AlignmentScore(), TopKJaccard(2), GridPointingGame()]
    made = [
        *forwards().values(),
        LeakingFillForward(forward.model, PIXELS),
        *REMOVALS.values(),
        *(Setting(COLORS, PIXELS, SEGMENTS), COLORS, Normalize([0.5], [0.2]), model),
        *(comparison, comparison.rows[0], comparison.rows[0].original, explanation),
        *(experiment, Shape(model, data), Lime(model, data), data),
        run(experiment, folder / "out", show_progress=False),
        *(Report("", "", (absent("", ""),), {}, {}), absent("", ""), Interval(0.5, 0.25, 0.75)),
        Example("examples", ("a.png",), removal_title),
        *(plot_explanation(explanation), next(iter(hierarchy().values()))),
        Coalitions(forward, PIXELS, SEGMENTS),
        *(*estimators, estimated.estimate, estimated.stream, *differing.differences()),
        Together([Coalitions(forward, PIXELS, SEGMENTS)]),
        *(Square(32), Preprocess(Square(32)), Checked(torch.nn.Identity(), "own")),
        check_model(small_classifier(4), 32),
        *(ImageClassifier(forward), FastLimeImageExplainer(random_state=1), SegmentMasker(SEGMENTS)),
        *(check_masking(forward, PIXELS, SEGMENTS != 4), trace, trace[0], Window((3, 3)), mask),
        *metrics,
    ]
    return {kind: [value for value in made if type(value) is kind] for kind in HELD}


@pytest.mark.parametrize("kind", HELD, ids=lambda kind: kind.__name__)
def test_every_public_object_can_be_copied_in_every_way(examples, kind):
    assert examples[kind], "there is no example of it in this file"
    for example in examples[kind]:
        for how, copied in COPIES.items():
            assert same(copied(example), example), how


@pytest.mark.parametrize("path", [path for path, value in PUBLIC.items() if not inspect.isclass(value)])
def test_functions_and_constants_too(path):
    for copied in COPIES.values():
        assert same(copied(PUBLIC[path]), PUBLIC[path])


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_errors_and_warnings_say_in_another_process_what_they_said(kind):
    error = kind("animal", "dgo", ["dog"]) if kind is UnknownNameError else kind("it went wrong")
    error.add_note("in image 7")
    for copied in COPIES.values():
        twin = copied(error)
        assert (type(twin), str(twin), twin.__notes__) == (kind, str(error), ["in image 7"])


@torch.no_grad()
@pytest.mark.parametrize("removal", REMOVALS)
def test_a_copied_forward_predicts_the_same(removal):
    forward = forwards()[removal]
    expected = forward(PARTLY_MISSING)
    for copied in COPIES.values():
        assert torch.equal(copied(forward)(PARTLY_MISSING), expected)


@torch.no_grad()
def test_an_average_of_weights_over_a_forward():
    forward = LayerMaskedForward(small_classifier(4))
    averaged = AveragedModel(forward)
    for _ in range(3):
        averaged.update_parameters(forward)
    assert torch.equal(averaged(PARTLY_MISSING), forward(PARTLY_MISSING))


@torch.no_grad()
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_forwards_and_errors_reach_another_process_and_come_back(method):
    sent = {
        removal: forward
        for removal, forward in forwards().items()
        if removal in ("layer", "grey", "drop-tokens")
    }
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        for forward in sent.values():
            assert torch.equal(pool.submit(forward, PARTLY_MISSING).result(), forward(PARTLY_MISSING))
        with pytest.raises(UnknownNameError, match="did you mean 'grey'"):
            pool.submit(make_forward, "gray", small_classifier(4)).result()
