"""Which segments are visible: each coalition evaluated once, in batches of one shape, against a slow loop."""

import copy
import itertools

import numpy as np
import pytest
import torch
from games import Total, exact_shapley
from support import SmallVGG, redraw, small_classifier
from torch import nn

from captum_layermask import MISSING, Colors, InputError, LayerMaskedForward, UnknownNameError, make_forward
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.segments import grid

IMAGE = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(1))
SEGMENTS = grid(IMAGE, size=8)  # 9 squares
DRAWN = torch.rand(21, 9, generator=torch.Generator().manual_seed(2)) < 0.5
ALL = torch.tensor(list(itertools.product([False, True], repeat=9)))


class Counting:
    """A forward that takes no ``mask=``, understands MISSING, and keeps what it is given."""

    def __init__(self, forward):
        self.forward, self.given = forward, []

    def __call__(self, x):
        self.given.append(x.clone())
        return self.forward(x)


class Masks(LayerMaskedForward):
    """Layer masking that keeps the images and the masks that it is given."""

    def __init__(self, model):
        super().__init__(model)
        self.given = []

    def forward(self, x, mask=None):
        self.given.append((x, mask))
        return super().forward(x, mask=mask)


@pytest.fixture(scope="module")
def network():
    return redraw(SmallVGG())


@torch.no_grad()
def slowly(forward, rows, image=IMAGE, segments=SEGMENTS):
    """One forward for each coalition, pixel by pixel."""
    outputs = []
    for row in rows:
        visible = torch.zeros(image.shape[2:], dtype=torch.bool)
        for segment, shown in enumerate(row):
            if shown:
                visible[segments[0, 0] == segment] = True
        outputs.append(forward(torch.where(visible, image, MISSING))[0])
    return torch.stack(outputs)


@pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")
@pytest.mark.parametrize("batch_size", [1, 4, 16, 64])
@pytest.mark.parametrize("removal", ["layer", "grey", "neighbor", "gaussian-noise", "segment-mean"])
def test_the_values_are_those_of_one_forward_for_each_coalition(network, removal, batch_size):
    colors = Colors((0.4, 0.5, 0.6), (0.2, 0.2, 0.2), normalized=False)
    forward = make_forward(removal, network, colors=colors, reference=IMAGE, segments=SEGMENTS)
    values = Coalitions(forward, IMAGE, SEGMENTS, batch_size=batch_size)(DRAWN)
    assert values.shape == (21, 10) and not values.requires_grad
    assert torch.allclose(values, slowly(forward, DRAWN), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")
def test_with_and_without_mask_the_values_are_the_same(network):
    forward = LayerMaskedForward(network)
    values = Coalitions(forward, IMAGE, SEGMENTS)(DRAWN)
    assert torch.equal(Coalitions(lambda x: forward(x), IMAGE, SEGMENTS)(DRAWN), values)
    assert torch.equal(Coalitions(lambda x, mask: forward(x, mask=mask), IMAGE, SEGMENTS)(DRAWN), values)


@pytest.mark.parametrize("wrapped", [lambda f: f, lambda f: f.forward, torch.no_grad(), torch.compile])
def test_a_forward_with_mask_is_given_one_image_and_no_perturbed_copy(wrapped):
    forward = Masks(small_classifier(4))
    with torch.compiler.set_stance("force_eager"):
        Coalitions(wrapped(forward), IMAGE, SEGMENTS, batch_size=8)(DRAWN)
    assert len(forward.given) == 3
    for x, mask in forward.given:
        assert x.data_ptr() == IMAGE.data_ptr() and x.stride(0) == 0
        assert mask.shape == (8, 1, 24, 24) and mask.dtype == torch.bool


def test_every_batch_has_one_shape_and_what_fills_it_up_counts_as_no_evaluation():
    forward = Counting(LayerMaskedForward(small_classifier(4)))
    coalitions = Coalitions(forward, IMAGE, SEGMENTS, batch_size=8)
    coalitions(DRAWN)
    assert [len(x) for x in forward.given] == [8, 8, 8]
    assert (coalitions.evaluations, coalitions.forwards) == (21, 3)
    coalitions(~DRAWN[:1])
    assert [len(x) for x in forward.given] == [8, 8, 8, 8]
    assert (coalitions.evaluations, coalitions.forwards) == (22, 4)


def test_a_coalition_is_evaluated_once():
    forward = LayerMaskedForward(small_classifier(4))
    coalitions = Coalitions(forward, IMAGE, SEGMENTS, batch_size=4)
    rows = torch.cat([DRAWN, DRAWN.flip(0), DRAWN[:3]])
    values = coalitions(rows)
    assert (coalitions.evaluations, coalitions.forwards) == (21, 6)
    assert torch.equal(values[21:42], values[:21].flip(0)) and torch.equal(values[42:], values[:3])
    assert torch.equal(coalitions(DRAWN[[5, 0]]), values[[5, 0]])
    assert (coalitions.evaluations, coalitions.forwards) == (21, 6)
    assert torch.allclose(values, slowly(forward, rows), rtol=1e-4, atol=1e-5)


def test_a_forward_may_write_every_batch_into_the_same_memory():
    buffer = torch.empty(8, 3)
    coalitions = Coalitions(lambda x: buffer.copy_(x.mean((2, 3))), IMAGE, SEGMENTS, batch_size=8)
    assert torch.allclose(coalitions(DRAWN), slowly(lambda x: x.mean((2, 3)), DRAWN))


def test_what_is_cached_cannot_be_written_to():
    coalitions = Coalitions(LayerMaskedForward(small_classifier(4)), IMAGE, SEGMENTS)
    before = coalitions(DRAWN).clone()
    coalitions(DRAWN[:1]).zero_()
    coalitions(DRAWN).zero_()
    assert torch.equal(coalitions(DRAWN), before)


def test_coalitions_that_differ_in_the_last_segment_alone_are_two():
    """Seventeen segments fill two bytes and a bit."""
    image = torch.ones(1, 3, 1, 17, dtype=torch.double)
    coalitions = Coalitions(LayerMaskedForward(Total(1).double()), image, grid(image, size=1))
    rows = torch.ones(2, 17, dtype=torch.bool)
    rows[1, 16] = False
    whole, part = coalitions(rows).tolist()
    assert part == pytest.approx(whole * 16 / 17)


def test_batches_before_a_failure_stay_in_the_cache():
    calls = []

    def forward(x):
        calls.append(len(x))
        if len(calls) == 3:
            raise RuntimeError("interrupted")
        return x.mean((2, 3))

    coalitions = Coalitions(forward, IMAGE, SEGMENTS, batch_size=8)
    with pytest.raises(RuntimeError, match="interrupted"):
        coalitions(DRAWN)
    assert (coalitions.evaluations, coalitions.forwards) == (16, 2)
    coalitions(DRAWN)
    assert (coalitions.evaluations, coalitions.forwards, len(calls)) == (21, 3, 4)


def test_the_callback_counts_the_coalitions_that_have_their_value():
    counts = []
    forward = LayerMaskedForward(small_classifier(4))
    coalitions = Coalitions(forward, IMAGE, SEGMENTS, batch_size=8, progress=counts.append)
    coalitions(torch.cat([DRAWN, DRAWN[20:], DRAWN[:1]]))
    assert counts == [9, 8, 6]  # the first comes twice, and so does the last
    counts.clear()
    coalitions(torch.cat([DRAWN[:3], ~DRAWN[:1]]))
    assert counts == [3, 1]


@pytest.mark.parametrize("masked", [True, False])
def test_the_shapley_values_of_a_linear_model_are_what_its_segments_add(masked):
    """They are known: a segment adds its weighted pixels, whatever else is visible."""
    model, image = Total(3), IMAGE.double()
    forward = LayerMaskedForward(model)
    coalitions = Coalitions(forward if masked else lambda x: forward(x), image, SEGMENTS, target=1)
    added = (image * model.weights[1, :, 0, 0].view(3, 1, 1)).sum(1, keepdim=True)
    parts = torch.zeros(9, dtype=torch.double).index_add(0, SEGMENTS.flatten(), added.flatten())
    assert exact_shapley(coalitions, 9) == pytest.approx(parts.tolist(), rel=1e-9)
    assert (coalitions.evaluations, coalitions.forwards) == (512, 32)


def test_one_target_gives_a_number_several_give_a_row(network):
    forward = LayerMaskedForward(network)
    everything = Coalitions(forward, IMAGE, SEGMENTS)(ALL)
    assert everything.shape == (512, 10)
    assert torch.equal(Coalitions(forward, IMAGE, SEGMENTS, target=7)(ALL), everything[:, 7])
    assert torch.equal(Coalitions(forward, IMAGE, SEGMENTS, target=np.int64(7))(ALL), everything[:, 7])
    for several in ([7], [4, 0, 4], (9, 1), range(3), np.array([2, 5]), torch.tensor([2, 5])):
        values = Coalitions(forward, IMAGE, SEGMENTS, target=several)(ALL)
        assert torch.equal(values, everything[:, list(several)])


@pytest.mark.parametrize("shape", ["N", "N×1"])
def test_one_output_is_one_number_and_needs_no_target(shape):
    forward = (lambda x: x.mean((1, 2, 3))) if shape == "N" else (lambda x: x.mean((1, 2, 3))[:, None])
    values = Coalitions(forward, IMAGE, SEGMENTS)(DRAWN)
    assert values.shape == (21,)
    assert torch.allclose(values, slowly(forward, DRAWN).flatten())
    if shape == "N×1":
        assert torch.equal(Coalitions(forward, IMAGE, SEGMENTS, target=0)(DRAWN), values)
        return
    with pytest.raises(InputError, match="one number for an image; leave out target"):
        Coalitions(forward, IMAGE, SEGMENTS, target=0)(DRAWN)


@pytest.mark.parametrize("target", [4, [0, 4], range(9)])
def test_a_target_that_the_forward_does_not_have_is_refused(target):
    coalitions = Coalitions(LayerMaskedForward(small_classifier(4)), IMAGE, SEGMENTS, target=target)
    with pytest.raises(InputError, match=r"there is no class [48]; give an index from 0 to 3"):
        coalitions(DRAWN)


@pytest.mark.parametrize("target", [-1, [0, -1], [], "cat", ["cat"], 1.5, torch.ones(1, 2).long(), {}])
def test_what_is_no_target_is_refused_before_anything_runs(target):
    with pytest.raises(InputError, match="give the index of a class, or several in a list"):
        Coalitions(LayerMaskedForward(small_classifier(4)), IMAGE, SEGMENTS, target=target)


@pytest.mark.parametrize(
    "output",
    [torch.zeros(3, 4), torch.zeros(16, 2, 2), torch.zeros(()), torch.zeros(16, 4).long(), (1, 2), None],
)
@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_what_is_no_value_for_each_coalition_is_refused(output, activation):
    with pytest.raises(InputError, match="returned"):
        Coalitions(lambda x: output, IMAGE, SEGMENTS, activation=activation)(DRAWN)


@pytest.mark.parametrize(
    "rows",
    [
        DRAWN.long(),
        DRAWN.float(),
        DRAWN[0],
        DRAWN[:, :8],
        DRAWN[None],
        DRAWN[:0],
        DRAWN.numpy().astype(int),
        DRAWN.tolist(),
        None,
    ],
)
def test_what_are_no_coalitions_is_refused(rows):
    coalitions = Coalitions(LayerMaskedForward(small_classifier(4)), IMAGE, SEGMENTS)
    with pytest.raises(InputError, match=r"the coalitions are .*; give bool, K×9, True where a segment is"):
        coalitions(rows)
    assert coalitions.forwards == 0


def test_what_makes_no_sense_is_refused_before_anything_runs():
    forward = LayerMaskedForward(small_classifier(4))
    with pytest.raises(InputError, match="batch size is 0"):
        Coalitions(forward, IMAGE, SEGMENTS, batch_size=0)
    with pytest.raises(InputError, match="give one image"):
        Coalitions(forward, IMAGE.expand(2, -1, -1, -1), SEGMENTS)
    with pytest.raises(InputError, match="floating point"):
        Coalitions(forward, (IMAGE * 255).byte(), SEGMENTS)
    with pytest.raises(InputError, match="give renumbered"):
        Coalitions(forward, IMAGE, SEGMENTS * 2)
    with pytest.raises(UnknownNameError, match="activation"):
        Coalitions(forward, IMAGE, SEGMENTS, activation="softmx")
    with pytest.raises(InputError, match="the baselines have shape"):
        Coalitions(forward, IMAGE, SEGMENTS, baselines=torch.zeros(1, 3, 5, 5))


def test_probabilities_are_those_of_the_activation(network):
    forward = LayerMaskedForward(network)
    logits = Coalitions(forward, IMAGE, SEGMENTS)(DRAWN)
    softmax = Coalitions(forward, IMAGE, SEGMENTS, activation="softmax")(DRAWN)
    sigmoid = Coalitions(forward, IMAGE, SEGMENTS, activation="sigmoid", target=2)(DRAWN)
    assert torch.allclose(softmax, logits.softmax(1)) and torch.allclose(sigmoid, logits[:, 2].sigmoid())
    with pytest.raises(InputError, match="returned probabilities where logits are needed"):
        Coalitions(lambda x: forward(x).softmax(1), IMAGE, SEGMENTS, activation="softmax")(DRAWN)


@pytest.mark.filterwarnings("ignore::captum_layermask.NothingMissingWarning")
def test_a_colour_fills_what_is_not_removed():
    forward = LayerMaskedForward(small_classifier(4))
    other = torch.rand(1, 3, 24, 24)
    for baselines in (0.3, other):
        values = Coalitions(forward, IMAGE, SEGMENTS, baselines=baselines, batch_size=21)(DRAWN)
        with torch.no_grad():
            filled = forward(torch.where(DRAWN[:, SEGMENTS[0]], IMAGE, torch.as_tensor(baselines)))
        assert torch.equal(values, filled)
    removed = Coalitions(forward, IMAGE, SEGMENTS, baselines=torch.full_like(IMAGE, MISSING))(DRAWN)
    assert torch.equal(removed, Coalitions(forward, IMAGE, SEGMENTS)(DRAWN))


@pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")
def test_vanished_is_told_for_each_coalition_of_the_last_call_also_from_the_cache():
    """The corner of the first square is all that the network looks at."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1, stride=24), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    forward = LayerMaskedForward(model, propagation="paper")
    coalitions = Coalitions(forward, IMAGE, SEGMENTS, batch_size=8)
    assert coalitions.vanished is None
    expected = DRAWN.any(1) & ~DRAWN[:, 0]
    assert expected.any() and not expected.all()
    coalitions(DRAWN)
    assert torch.equal(coalitions.vanished, expected)
    coalitions(DRAWN[[3, 3, 0]])
    assert torch.equal(coalitions.vanished, expected[[3, 3, 0]]) and coalitions.forwards == 3
    with pytest.raises(InputError):
        coalitions(DRAWN[0])
    assert coalitions.vanished is None


def test_a_forward_whose_parameters_cannot_be_known_is_given_images():
    pixel, segment = torch.full((1, 1, 1, 1), 0.5), torch.zeros(1, 1, 1, 1, dtype=torch.long)
    values = Coalitions(torch.flatten, pixel, segment)(torch.tensor([[False], [True]]))
    assert values.tolist() == [MISSING, 0.5]


def test_a_forward_that_loses_none_tells_of_none():
    coalitions = Coalitions(lambda x: x.mean((2, 3)), IMAGE, SEGMENTS)
    coalitions(DRAWN)
    assert coalitions.vanished is None


def test_numpy_in_numpy_out():
    coalitions = Coalitions(LayerMaskedForward(small_classifier(4)), IMAGE, SEGMENTS, target=1)
    values = coalitions(DRAWN.numpy())
    assert isinstance(values, np.ndarray) and values.dtype == np.float64
    assert np.array_equal(values, coalitions(DRAWN).double().numpy())
    half = Coalitions(lambda x: x.mean((2, 3)), IMAGE.bfloat16(), SEGMENTS)
    assert half(DRAWN.numpy()).shape == (21, 3) and half(DRAWN).dtype == torch.bfloat16


def test_the_image_and_its_segments_are_left_alone_and_the_mode_of_gradients_is_too():
    image, segments = IMAGE.clone().requires_grad_(), SEGMENTS.clone()
    values = Coalitions(LayerMaskedForward(small_classifier(4)), image, segments)(DRAWN)
    assert not values.requires_grad and torch.is_grad_enabled() and image.grad is None
    assert torch.equal(image, IMAGE) and torch.equal(segments, SEGMENTS)


def test_a_copy_has_a_cache_of_its_own():
    image = IMAGE.clone().requires_grad_() * 1  # with a history, which cannot be copied
    coalitions = Coalitions(LayerMaskedForward(small_classifier(4)), image, SEGMENTS)
    values = coalitions(DRAWN)
    copied = copy.deepcopy(coalitions)
    assert torch.equal(copied(DRAWN), values) and copied.forwards == 2
    copied(~DRAWN)
    assert (copied.forwards, coalitions.forwards) == (4, 2)
