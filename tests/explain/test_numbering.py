"""Segment ids are 0, 1, 2 …; whoever refuses others tells how to number them anew."""

import numpy as np
import pytest
import torch
from support import small_classifier

from captum_layermask import Colors, InputError, LayerMaskedForward, make_forward
from captum_layermask.explain.comparison import compare
from captum_layermask.explain.explanation import explain
from captum_layermask.explain.segments import grid, renumbered
from captum_layermask.integrations.image_classifier import ImageClassifier
from captum_layermask.integrations.lime import FastLimeImageExplainer

PIXELS = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(5))
ARRAY = PIXELS[0].permute(1, 2, 0).numpy()
SEGMENTS = grid(PIXELS, 8)
COLORS = Colors([0.5] * 3, [0.5] * 3, normalized=False)
GAPS = {
    "from one": SEGMENTS + 1,
    "even": SEGMENTS * 2,
    "negative": SEGMENTS - 4,
    "enormous": SEGMENTS * (2**60 // 9),
}


def of_explain(segments):
    forward = LayerMaskedForward(small_classifier(4))
    return explain(forward, PIXELS, segments, class_names="abcd", method="feature-ablation")


def of_compare(segments):
    return compare(small_classifier(4), PIXELS, segments, class_names="abcd", removals=["layer"])


def of_lime(segments):
    classifier = ImageClassifier(LayerMaskedForward(small_classifier(4)))
    return FastLimeImageExplainer(random_state=0).explain_instance(
        ARRAY, classifier, num_samples=20, segmentation_fn=lambda _: segments[0, 0].numpy()
    )


def of_shap(segments):
    pytest.importorskip("shap")
    from captum_layermask.integrations.shap import SegmentMasker

    return SegmentMasker(segments)


CALLS = [of_explain, of_compare, of_lime, of_shap]


@pytest.mark.parametrize("ids", GAPS)
@pytest.mark.parametrize("call", CALLS)
def test_ids_with_gaps_are_refused_and_can_be_numbered_anew(call, ids):
    with pytest.raises(InputError, match=r"9 segments have ids from .* renumbered\("):
        call(GAPS[ids])
    call(renumbered(GAPS[ids]))


@pytest.mark.parametrize("ids", GAPS)
def test_the_mean_of_a_segment_needs_no_numbers_in_order(ids):
    def mean(segments):
        return make_forward("segment-mean", small_classifier(4), reference=PIXELS, segments=segments).picture

    assert torch.equal(mean(GAPS[ids]), mean(SEGMENTS))


@pytest.mark.parametrize("ids", GAPS)
@pytest.mark.parametrize("kind", [lambda s: s, lambda s: s[0, 0].numpy(), lambda s: s.numpy()])
def test_numbered_anew_segments_are_what_they_were(kind, ids):
    got, expected = renumbered(kind(GAPS[ids])), kind(SEGMENTS)
    assert type(got) is type(expected) and got.dtype == expected.dtype
    assert got.shape == expected.shape and (got == expected).all()


def test_small_integers_are_numbered_too():
    assert renumbered(np.array([[200, 7]], dtype=np.uint8)).tolist() == [[1, 0]]
    assert renumbered(torch.tensor([[True, False]])).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    "segments", [SEGMENTS.float(), ARRAY, [[0, 1]], None, torch.zeros(0, dtype=torch.long)]
)
def test_what_is_no_segments_cannot_be_numbered(segments):
    with pytest.raises(InputError, match="give integers, an id for each pixel"):
        renumbered(segments)


@pytest.mark.parametrize("segments", [SEGMENTS[0, 0].numpy(), [[0]], SEGMENTS.int(), SEGMENTS[0], None])
@pytest.mark.parametrize("call", [of_explain, of_compare])
def test_segments_of_another_kind_are_refused(call, segments):
    with pytest.raises(InputError, match=r"give a LongTensor of shape \(1, 1, 24, 24\)"):
        call(segments)


def test_kernel_shap_refuses_a_single_segment():
    forward = LayerMaskedForward(small_classifier(4))
    with pytest.raises(InputError, match="at least 2 segments"):
        explain(forward, PIXELS, SEGMENTS * 0, class_names="abcd", method="kernel-shap")


@pytest.mark.parametrize("pixels", [ARRAY, ARRAY[None], None, PIXELS[0]])
def test_pixels_of_another_kind_are_refused(pixels):
    with pytest.raises(InputError, match="give one image, a tensor 1×3×H×W"):
        explain(LayerMaskedForward(small_classifier(4)), pixels, SEGMENTS, class_names="abcd")
    with pytest.raises(InputError, match="give one image, a tensor 1×3×H×W"):
        compare(small_classifier(4), pixels, SEGMENTS, class_names="abcd", removals=["layer"])
