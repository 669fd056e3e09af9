"""Explanations by estimators: they tell their errors, stop when they should, are saved, and go on."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from support import small_classifier

from captum_layermask import MISSING, Colors, InputError, LayerMaskedForward, make_forward
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.estimators.banzhaf import banzhaf_values
from captum_layermask.explain.estimators.rise import rise
from captum_layermask.explain.estimators.shapley import shapley_values
from captum_layermask.explain.explanation import METHODS, Explanation, explain
from captum_layermask.explain.segments import grid, region_means
from captum_layermask.names import ESTIMATORS

CLASS_NAMES = ("ant", "bee", "cat", "dog")
PIXELS = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(5))
SEGMENTS = grid(PIXELS, size=6)  # 16 of them
OF_CAPTUM = [method for method in METHODS if method not in ESTIMATORS]


@pytest.fixture
def forward():
    return LayerMaskedForward(small_classifier(len(CLASS_NAMES)))


def run(forward, method="shapley", **options):
    defaults = {"class_names": CLASS_NAMES, "target": 2, "seed": 3}
    return explain(forward, PIXELS, SEGMENTS, method=method, **defaults | options)


def same(one, other):
    """To the bit, in all that is estimated."""
    return (
        torch.equal(one.attributions, other.attributions)
        and np.array_equal(one.estimate.values, other.estimate.values)
        and np.array_equal(one.estimate.standard_errors, other.estimate.standard_errors)
        and (one.evaluations, one.ended) == (other.evaluations, other.ended)
    )


@pytest.mark.parametrize(("method", "function"), [("shapley", shapley_values), ("banzhaf", banzhaf_values)])
def test_a_map_is_that_of_the_function_of_this_name(forward, method, function):
    result = run(forward, method, budget=100)
    coalitions = Coalitions(forward, PIXELS, SEGMENTS, target=2, activation="softmax")
    expected = function(coalitions, budget=100, seed=3)
    assert np.array_equal(result.estimate.values, expected.values)
    torch.testing.assert_close(result.segment_attributions().double(), torch.from_numpy(expected.values))
    assert np.array_equal(result.standard_errors, expected.standard_errors)
    assert (result.evaluations, result.ended) == (100, "budget")


def test_rise_is_of_pixels_and_told_of_segments(forward):
    result = run(forward, "rise", budget=100)
    pixels = Coalitions(forward, PIXELS, grid(PIXELS, size=1), target=2, activation="softmax")
    seen = []

    def game(masks):
        seen.append(pixels(masks))
        return seen[-1]

    expected = rise(game, (24, 24), budget=100, seed=3)
    shown = torch.from_numpy(expected.values - np.concatenate(seen).mean()).reshape(1, 1, 24, 24)
    torch.testing.assert_close(result.attributions, shown.float())
    assert np.allclose(result.estimate.values, region_means(shown, SEGMENTS))
    errors = torch.from_numpy(expected.standard_errors).reshape(1, 1, 24, 24)
    torch.testing.assert_close(result.standard_errors, region_means(errors, SEGMENTS))


def test_the_error_of_rise_in_a_segment_is_an_upper_bound(forward):
    runs = [run(forward, "rise", budget=64, seed=seed) for seed in range(40)]
    scatter = np.std([one.estimate.values for one in runs], axis=0, ddof=1)
    told = np.mean([one.estimate.standard_errors for one in runs], axis=0)
    assert (scatter < 1.2 * told).all()


@pytest.mark.parametrize("method", OF_CAPTUM)
def test_methods_of_captum_tell_no_error_and_cannot_go_on(forward, method):
    result = run(forward, method)
    assert (result.standard_errors, result.evaluations, result.ended) == (None, None, None)
    assert not result.undecided().any()
    with pytest.raises(InputError, match=f"by {method} cannot be refined; explain by shapley"):
        result.refine(forward)


@pytest.mark.parametrize("goal", [{"budget": 64}, {"tolerance": 0.1}, {"top_k": 1}])
def test_a_run_ends_by_its_goal(goal):
    def evidence(x):
        """Of a class that segment 5 supports most."""
        seen = (x != MISSING).all(1).float()
        score = 4 * seen[:, 6:12, 6:12].mean((1, 2)) + seen.mean((1, 2)) + 2 * seen[:, 0].mean(1)
        return torch.stack([score, torch.zeros_like(score)], dim=1)

    (name,) = goal
    assert run(evidence, class_names="ab", target=0, **goal).ended == name


def test_undecided_are_the_segments_whose_interval_holds_zero(forward):
    result = run(forward, budget=96)
    low, high = result.estimate.interval()
    assert result.undecided().tolist() == [bool(a < 0 < b) for a, b in zip(low, high, strict=True)]
    assert 0 < int(result.undecided().sum()) < 16


def test_what_is_exact_is_decided():
    """Even a segment that adds nothing: its interval holds 0 and nothing more."""

    def evidence(x):
        seen = (x != MISSING).all(1).float()
        score = 2 * seen[:, :12, :12].mean((1, 2))
        return torch.stack([score, torch.zeros_like(score)], dim=1)

    segments = grid(PIXELS, size=12)
    result = explain(evidence, PIXELS, segments, class_names="ab", method="shapley", target=0)
    assert result.ended == "exact"
    assert result.estimate.values[1:] == pytest.approx([0, 0, 0], abs=1e-7)
    assert not result.undecided().any()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"method": "lime", "budget": 100}, "lime does not know its errors, and takes no budget"),
        ({"method": "lime", "tolerance": 0.1}, "takes no tolerance; give a number of samples, or a method"),
        ({"method": "occlusion", "top_k": 3}, "takes no top_k; give a method that does: shapley"),
        ({"n_samples": 100}, "shapley takes no number of samples; give a budget"),
        ({"method": "rise", "top_k": 3}, "leave out top_k"),
        ({"budget": 0}, "the budget is 0"),
        ({"budget": 17}, "the budget is 17 evaluations, and 16 segments take at least 18"),
        ({"tolerance": 1.5}, "the tolerance is 1.5; give a share"),
        ({"top_k": 16}, "top_k is 16 of 16 segments; give 1 to 15"),
        ({"seed": -1}, "the seed is -1"),
    ],
)
def test_options_that_make_no_sense_are_errors(forward, options, what):
    with pytest.raises(InputError, match=re.escape(what)):
        run(forward, **options)


@pytest.mark.parametrize("method", ESTIMATORS)
def test_a_refined_explanation_is_that_of_a_run_at_a_stretch(forward, method, tmp_path):
    rough = run(forward, method, budget=64)
    before = rough.estimate.values.copy()
    rough.save(tmp_path / "rough.npz")
    straight = run(forward, method, budget=200)
    assert same(rough.refine(forward, budget=200), straight)
    assert same(Explanation.load(tmp_path / "rough.npz").refine(forward, budget=200), straight)
    assert rough.evaluations == 64
    assert np.array_equal(rough.estimate.values, before)


def test_the_layout_of_an_image_in_memory_does_not_matter(tmp_path):
    """A file does not keep it, and a network's rounding depends on it."""
    seen = []

    def forward(x):
        seen.append(x.stride())
        return x.mean((2, 3))

    pixels = PIXELS.contiguous(memory_format=torch.channels_last)
    result = explain(forward, pixels, SEGMENTS, class_names="abc", method="shapley", budget=32)
    result.save(tmp_path / "one.npz")
    del seen[0]  # the prediction for the image itself
    Explanation.load(tmp_path / "one.npz").refine(forward, budget=64)
    assert len(seen) > 3
    assert len(set(seen)) == 1


def test_a_run_that_is_killed_goes_on_from_its_file(forward, tmp_path):
    path, straight = tmp_path / "run.npz", run(forward, budget=256)

    def save(explanation):
        explanation.save(path)
        if explanation.evaluations == 96:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(forward, budget=256, on_update=save)
    resumed = Explanation.load(path)
    assert (resumed.evaluations, resumed.ended) == (96, "interrupted")
    assert same(resumed.refine(forward, budget=256), straight)


def test_ctrl_c_returns_what_is_there_marked_unfinished(forward):
    calls = []

    def interrupted(x):
        calls.append(len(x))
        if len(calls) == 8:
            raise KeyboardInterrupt
        return forward(x)

    result = run(interrupted, budget=256)
    assert result.ended == "interrupted"
    assert 0 < result.evaluations < 256
    assert same(result.refine(forward, budget=256), run(forward, budget=256))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_saved_is_loaded(forward, method, tmp_path):
    saved = run(forward, method)
    saved.save(tmp_path / "one")
    loaded = Explanation.load(tmp_path / "one")
    for field in dataclasses.fields(saved):
        old, new = getattr(saved, field.name), getattr(loaded, field.name)
        if field.name in ("estimate", "stream"):
            assert (old is None) == (new is None) == (method in OF_CAPTUM)
        elif isinstance(old, torch.Tensor):
            assert torch.equal(old, new)
            assert old.dtype == new.dtype
        else:
            assert old == new
    if saved.estimate is not None:
        assert same(saved, loaded)
        assert loaded.estimate.interval()[0].tolist() == saved.estimate.interval()[0].tolist()


def test_images_of_bfloat16_are_saved_too(tmp_path):
    pixels = PIXELS.bfloat16()
    result = explain(lambda x: x.mean((2, 3)), pixels, SEGMENTS, class_names="abc", method="feature-ablation")
    result.save(tmp_path / "one.npz")
    loaded = Explanation.load(tmp_path / "one.npz")
    assert loaded.pixels.dtype == torch.bfloat16
    assert torch.equal(loaded.attributions, result.attributions)


def test_a_saved_explanation_holds_no_pickle_and_says_what_wrote_it(forward, tmp_path):
    run(forward, budget=40).save(tmp_path / "one.npz")
    with np.load(tmp_path / "one.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
        assert file["values"].shape == file["standard_errors"].shape == (16,)
        about = file["about"].item()
    assert '"numpy": "' in about and '"captum-layermask": "' in about


def test_nothing_but_a_saved_explanation_is_replaced(forward, tmp_path):
    result, path = run(forward, "feature-ablation"), tmp_path / "one.npz"
    result.save(path)
    result.save(path)
    np.savez(tmp_path / "mine.npz", data=np.zeros(3))
    (tmp_path / "notes.txt").write_text("mine")
    for other in ("mine.npz", "notes.txt"):
        before = (tmp_path / other).read_bytes()
        with pytest.raises(InputError, match="is there and is no saved explanation"):
            result.save(tmp_path / other)
        assert (tmp_path / other).read_bytes() == before
    with pytest.raises(InputError, match="is a folder"):
        result.save(tmp_path)


def test_files_that_hold_no_explanation_are_errors(forward, tmp_path):
    path = tmp_path / "one.npz"
    with pytest.raises(InputError, match="there is no file"):
        Explanation.load(path)
    run(forward, budget=40).save(path)
    whole = path.read_bytes()
    np.savez(tmp_path / "mine.npz", data=np.zeros(3))
    damaged = {
        "empty": b"",
        "text": b"notes",
        "cut": whole[:2000],
        "mine": (tmp_path / "mine.npz").read_bytes(),
    }
    middle = len(whole) // 2
    damaged["flipped"] = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    for content in damaged.values():
        path.write_bytes(content)
        with pytest.raises(InputError, match="is no saved explanation, or damaged"):
            Explanation.load(path)


@pytest.mark.parametrize("other", ["another network", "another removal"])
def test_another_forward_cannot_go_on(forward, other):
    model = small_classifier(len(CLASS_NAMES))
    with torch.no_grad():
        model[0].weight.add_(0.2)
    colors = Colors([0.5] * 3, [0.5] * 3, normalized=False)
    others = {
        "another network": LayerMaskedForward(model),
        "another removal": make_forward("black", forward.model, colors=colors),
    }
    with pytest.raises(InputError, match="give the network, the removal and the image"):
        run(forward, budget=40).refine(others[other], budget=80)


def test_a_value_that_is_no_number_is_named(forward):
    def broken(x):
        outputs = forward(x)
        return torch.where((x[:, 0, 0, 0] == MISSING)[:, None], torch.nan, outputs)

    with pytest.raises(InputError, match=r"the game returned \[nan\] for the coalition of no segment"):
        run(broken, budget=40)


@pytest.mark.parametrize("size", [24, 12])
@pytest.mark.parametrize("method", ESTIMATORS)
def test_one_segment_or_few_are_explained(forward, method, size):
    result = explain(
        forward, PIXELS, grid(PIXELS, size=size), class_names=CLASS_NAMES, method=method, budget=64
    )
    assert np.isfinite(result.estimate.values).all()
    assert len(result.undecided()) == (24 // size) ** 2
