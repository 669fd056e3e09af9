"""Ablation tells a right explanation from a wrong one."""

import torch
from explained import quadrants
from torch import nn

from captum_layermask import Colors, make_forward
from captum_layermask.metrics import TopKAblation


class RedOrBlue(nn.Module):
    """Class 0 where there is more red, class 1 where there is more blue."""

    def forward(self, x):
        return x.mean((2, 3))[:, ::2]


def test_ablation_tells_an_explanation_that_is_right_from_one_that_is_not():
    segments = quadrants()
    pixels = torch.tensor([0.4, 0.4, 0.5]).view(1, 3, 1, 1).repeat(1, 1, 4, 4)
    pixels[:, 0][segments[:, 0] == 1] = 1.0  # one red quarter, which decides
    colors = Colors((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), normalized=False)
    forward = make_forward("grey", RedOrBlue(), colors=colors)
    ablation = TopKAblation(k=1)
    for importance, right in ((torch.tensor([0, 1.0, 0, 0]), True), (torch.tensor([0, 0, 0, 1.0]), False)):
        visible = ablation.visible(importance, segments)
        assert torch.equal(visible, segments != (1 if right else 3))
        ablation.update(forward(pixels, mask=visible).argmax(1), torch.tensor([0]))
        assert ablation.compute() == (0 if right else 0.5)
