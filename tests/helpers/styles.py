"""Pieces of networks as people write them, which several tests use."""

import pytest
import torch
from small_models import excite, point, squeeze
from torch.nn import functional as F


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return gradient * s * (1 + x * (1 - s))


class NewSwish(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x * torch.sigmoid(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)


def space_to_depth(x, r=2):
    n, c, h, w = x.shape
    return x.view(n, c, h // r, r, w // r, r).permute(0, 1, 3, 5, 2, 4).reshape(n, c * r * r, h // r, w // r)


def depth_to_space(x, r=2):
    n, c, h, w = x.shape
    x = x.view(n, c // r**2, r, r, h, w).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c // r**2, h * r, w * r)


def global_context(x):
    n, c, h, w = x.shape
    weights = point(x).view(n, 1, h * w).softmax(-1).unsqueeze(-1)
    return x + (x.view(n, c, h * w).unsqueeze(1) @ weights).view(n, c, 1, 1)


def response_norm(x):
    x = x.permute(0, 2, 3, 1)
    size = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
    return (x * (size / (size.mean(-1, keepdim=True) + 1e-6)) + x).permute(0, 3, 1, 2)


def attend_to_squeezed(x):
    gate = torch.sigmoid(excite(F.relu(squeeze(F.adaptive_avg_pool2d(x, 1).flatten(1)))))
    return x * gate[:, :, None, None].expand_as(x)


def channel_attention(x):
    gate = F.conv1d(x.mean((2, 3))[:, None], torch.ones(1, 1, 3, dtype=torch.double), padding=1)
    return x * gate.sigmoid().transpose(1, 2).unsqueeze(-1)


def whole(x):
    return tuple(x.shape[2:])


def einops_reduce(pattern, how, **sizes):
    def pool(x):
        return pytest.importorskip("einops").reduce(x, pattern, how, **sizes)

    return pool
