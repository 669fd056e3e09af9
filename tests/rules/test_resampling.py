"""Interpolation reads what PyTorch's own call reads, and multiplies nothing that is missing (S7, S15)."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transcription
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import Net
from support import relative
from versions import compiles

from captum_layermask import LayerMaskedForward
from captum_layermask.masking.propagation import PROPAGATIONS
from captum_layermask.rules import resampling

pytestmark = pytest.mark.filterwarnings(
    "ignore::captum_layermask.VanishedWarning", "ignore::captum_layermask.NothingMissingWarning"
)

ROWS, COLUMNS = 12, 18
X = torch.randn(3, 4, ROWS, COLUMNS, dtype=torch.double, generator=torch.Generator().manual_seed(0))
VISIBLE = torch.rand(3, 1, ROWS, COLUMNS, generator=torch.Generator().manual_seed(1)) > 0.6
VISIBLE[0], VISIBLE[1, :, 3:9] = True, False


def run(function, x=X, mask=VISIBLE, propagation="anchored"):
    with torch.no_grad():
        return LayerMaskedForward(Net(function), propagation=propagation)(x.clone(), mask=mask)


AREAS = {
    "global": ({"size": (1, 1)}, (1, 1)),
    "global, one number": ({"size": 1}, (1, 1)),
    "global, factors": ({"scale_factor": (1 / ROWS, 1 / COLUMNS)}, (1, 1)),
    "global, recomputed": (
        {"scale_factor": (1.5 / ROWS, 1.5 / COLUMNS), "recompute_scale_factor": True}, (1, 1),
    ),
    "rows": ({"size": (1, COLUMNS)}, (1, None)),
    "columns": ({"size": [ROWS, 1]}, (None, 1)),
    "bins": ({"size": (5, 7)}, (5, 7)),
    "factor": ({"scale_factor": 0.5}, (6, 9)),
    "factors": ({"scale_factor": [0.4, 1.3], "recompute_scale_factor": True}, (4, 23)),
    "identity": ({"scale_factor": 1}, (ROWS, COLUMNS)),
}  # fmt: skip


@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize("name", AREAS)
def test_area_is_adaptive_average_pooling(name, propagation):
    arguments, bins = AREAS[name]
    area = run(lambda x: F.interpolate(x.tanh(), mode="area", **arguments), propagation=propagation)
    assert torch.equal(area, run(lambda x: F.adaptive_avg_pool2d(x.tanh(), bins), propagation=propagation))
    if bins == (1, 1):
        mean = run(lambda x: x.tanh().mean((2, 3), keepdim=True), propagation=propagation)
        assert relative(area, mean) <= 1e-12


def test_area_takes_no_align_corners_masked_either():
    with pytest.raises(ValueError, match="align_corners"):
        run(lambda x: F.interpolate(x, (1, 1), mode="area", align_corners=False))


SMOOTH = {
    f"{mode}, {corners}, {size}": {"mode": mode, "align_corners": corners, "size": size}
    for mode, corners, size in itertools.product(
        ("bilinear", "bicubic"), (True, False), [(12, 18), (23, 35), (4, 6), (1, 1), (7, 31)]
    )
} | {
    f"antialias {mode} {size}": {"mode": mode, "antialias": True, "size": size}
    for mode, size in itertools.product(("bilinear", "bicubic"), [(12, 18), (4, 6), (5, 1)])
}


@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize("name", SMOOTH)
def test_what_a_missing_cell_holds_is_never_multiplied(name, propagation):
    x = X.abs() + 0.1

    def resized(change):
        return run(lambda v: F.interpolate(change(v), **SMOOTH[name]), x, propagation=propagation)

    finite = resized(lambda v: v.clamp(min=0.1).log())
    assert finite.isfinite().all()
    assert torch.equal(resized(lambda v: v.log()), finite)
    assert torch.equal(resized(lambda v: v / v * v.log()), finite)


def reads(op, size, axis, dtype):
    """By PyTorch's own call on whole maps: the first and the last line that each output line reads."""
    lines = torch.eye(size[axis], dtype=dtype)
    lines = lines[:, None, :, None] if axis == 0 else lines[:, None, None, :]
    out = op(lines.expand(-1, 1, *size).contiguous())
    hit = (out != 0).any(3 - axis)[:, 0]
    return [(int(h.nonzero()[0]), int(h.nonzero()[-1]) + 1) for h in hit.T]


sizes = st.tuples(st.integers(1, 7), st.integers(1, 7))
factors = st.floats(0.3, 3)


@st.composite
def calls(draw):
    """Keyword arguments of an interpolation."""
    mode = draw(st.sampled_from(["nearest", "nearest-exact", "bilinear", "bicubic"]))
    arguments = {"mode": mode}
    if mode.startswith("bi"):
        arguments["align_corners"] = draw(st.booleans())
        arguments["antialias"] = not arguments["align_corners"] and draw(st.booleans())
    if draw(st.booleans()):
        return arguments | {"size": draw(sizes | st.integers(1, 7))}
    recompute = draw(st.sampled_from([None, False, True]))
    factor = draw(factors | st.tuples(factors, factors) | st.sampled_from([2, 0.5, (2, 1.5)]))
    return arguments | {"scale_factor": factor, "recompute_scale_factor": recompute}


@settings(max_examples=200, deadline=None)
@given(sizes, calls(), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_masks_follow_the_taps_of_the_real_call(size, arguments, dtype):
    def op(x):
        return F.interpolate(x, **arguments)

    try:
        op(torch.zeros(1, 1, *size, dtype=dtype))
    except RuntimeError:
        return  # a factor that leaves nothing
    rows, columns = (reads(op, size, axis, dtype) for axis in (0, 1))
    x = torch.ones(size[0] * size[1], 1, *size, dtype=dtype)
    visible = torch.eye(len(x), dtype=torch.bool).view(-1, 1, *size)
    visible = torch.cat([visible, torch.ones_like(visible[:1])])
    got = run(op, torch.cat([x, x[:1]]), visible, "paper")[:-1, 0]
    for cell, out in enumerate(got):
        i, j = divmod(cell, size[1])
        expected = np.outer([a <= i < b for a, b in rows], [a <= j < b for a, b in columns])
        assert ((out > 0.5).numpy() == expected).all()


@pytest.mark.parametrize("size", [(23, 35), (7, 31), (12, 18), (5, 6)])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("corners", [True, False])
def test_values_are_those_of_the_filled_map(mode, corners, size):
    kinds = np.where(VISIBLE[:, 0], transcription.VISIBLE, transcription.MISSING)

    def resized(x):
        return F.interpolate(x, size, mode=mode, align_corners=corners)

    there = run(lambda x: resized(x * 0 + 1), propagation="paper") > 0.5
    expected = resized(transcription.neighbor_pad(X, kinds, 3))
    assert relative(run(resized, propagation="paper"), expected.where(there, 0)) <= 1e-12


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("masked", [False, True])
def test_antialiasing_to_one_column_is_that_of_contiguous_maps(mode, masked):
    x = X[..., :9].float()
    visible = torch.ones_like(x[:, :1], dtype=torch.bool)
    visible[..., -1:] = not masked
    kinds = np.where(visible[:, 0], transcription.VISIBLE, transcription.MISSING)
    filled = transcription.neighbor_pad(x.double(), kinds, 9)
    expected = F.interpolate(filled.contiguous(), (4, 1), mode=mode, antialias=True)
    for given_x in (x, x.to(memory_format=torch.channels_last)):
        got = run(lambda v: F.interpolate(v, (4, 1), mode=mode, antialias=True), given_x, visible)
        assert relative(got, expected) <= 1e-5


def test_nothing_is_probed_while_nothing_is_missing_and_once_for_all_masks_of_a_size(monkeypatch):
    probed = []

    def probe(op, shape, axis, like):
        probed.append((shape, axis))
        return plain(op, shape, axis, like)

    plain = resampling.runs_read
    monkeypatch.setattr(resampling, "runs_read", probe)
    resampling.probed.cache_clear()

    def double(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear")

    everything = torch.ones_like(VISIBLE)
    assert torch.equal(run(double, X, everything), double(X)) and not probed
    for shift in range(3):
        run(double, X, VISIBLE.roll(shift, 3))
    assert probed == [((ROWS, 2), 0), ((1, COLUMNS), 1)]


def test_a_probe_of_a_large_map_stays_small(monkeypatch):
    seen = []

    def resized(values, *arguments):
        seen.append(values.numel())
        return plain(values, *arguments)

    plain = resampling.resized
    monkeypatch.setattr(resampling, "resized", resized)
    resampling.probed.cache_clear()
    x, visible = torch.ones(1, 1, 1500, 40), torch.ones(1, 1, 1500, 40, dtype=torch.bool)
    visible[..., :700, :] = False
    got = run(lambda v: F.interpolate(v, (150, 4), mode="bilinear"), x, visible)
    assert got.shape == (1, 1, 150, 4) and (got[..., 70:, :] > 0.5).all() and not got[..., :69, :].any()
    assert max(seen) <= 2 * 256 * 1500


@compiles
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic", "area"])
def test_a_compiled_interpolation_is_one_graph_and_gives_the_eager_outputs(mode):
    torch.compiler.reset()
    graphs = []

    def keep(graph, example_inputs):
        graphs.append(graph)
        return graph

    def upscaled(x):
        return F.adaptive_avg_pool2d(F.interpolate(x, scale_factor=2, mode=mode), 1).flatten(1)

    forward = LayerMaskedForward(Net(upscaled))
    compiled = torch.compile(forward, backend=keep)
    with torch.inference_mode():
        for shift in range(3):
            visible = VISIBLE.roll(shift, 3)
            assert torch.equal(compiled(X, mask=visible), forward(X, mask=visible))
    assert len(graphs) == 1
