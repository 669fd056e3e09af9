"""Which class is explained: an index or a name, and one sentence for everything else."""

import numpy as np
import pytest
import torch
from support import small_classifier

from captum_layermask import InputError, LayerMaskedForward, UnknownNameError
from captum_layermask.explain.comparison import compare
from captum_layermask.explain.explanation import explain
from captum_layermask.explain.segments import grid

CLASS_NAMES = ("ant", "bee", "cat", "dog")
PIXELS = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(5))
SEGMENTS = grid(PIXELS, 8)


def explained(target):
    forward = LayerMaskedForward(small_classifier(4))
    options = {"class_names": CLASS_NAMES, "method": "feature-ablation", "target": target}
    return explain(forward, PIXELS, SEGMENTS, **options)


def compared(targets):
    options = {"class_names": CLASS_NAMES, "method": "feature-ablation", "targets": targets}
    return compare(small_classifier(4), PIXELS, SEGMENTS, removals=["layer"], **options)


@pytest.mark.parametrize("target", [2, "cat", "CAT", "2", np.int64(2), torch.tensor(2)], ids=repr)
def test_a_class_is_given_by_its_index_or_its_name(target):
    result = explained(target)
    assert (result.target, result.label) == (2, "cat")
    assert type(result.target) is int
    assert torch.equal(result.attributions, explained(2).attributions)


@pytest.mark.parametrize(
    "target",
    [[0, 1], (1,), {1}, 1.0, np.array([0, 1]), torch.tensor([0, 1]), torch.tensor(1.0), b"cat"],
    ids=repr,
)
def test_what_is_not_one_class_is_refused(target):
    with pytest.raises(InputError, match=r"give the index or the name of one class.*compare\(targets="):
        explained(target)
    with pytest.raises(InputError, match="give the index or the name of one class"):
        compared([0, target])


@pytest.mark.parametrize("call", [explained, lambda target: compared([target])], ids=["explain", "compare"])
def test_a_class_that_there_is_not_is_named(call):
    for target in (-1, 4, "4"):
        with pytest.raises(InputError, match=f"there is no class {target}; give an index from 0 to 3"):
            call(target)
    with pytest.raises(UnknownNameError, match="unknown class 'dgo'; did you mean 'dog'"):
        call("dgo")


@pytest.mark.parametrize(
    "targets", [[2, 0], ["cat", "ant"], ("cat", 0, "CAT"), torch.tensor([2, 0])], ids=repr
)
def test_compare_takes_some_of_either(targets):
    assert [row.explanation.label for row in compared(targets).rows] == ["cat", "ant"]


@pytest.mark.parametrize("targets", [2, "cat", torch.tensor(2), np.int64(2)], ids=repr)
def test_compare_takes_no_class_alone(targets):
    with pytest.raises(InputError, match=r"give some classes, such as targets=\["):
        compared(targets)


@pytest.mark.parametrize("targets", [[], (), torch.tensor([])], ids=repr)
def test_compare_takes_no_empty_list(targets):
    with pytest.raises(InputError, match="no class to explain was given"):
        compared(targets)
