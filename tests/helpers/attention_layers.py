"""Layers of attention, the images and tokens that they are tried on, and how heads are cut."""

import torch
from small_models import COLUMNS, ROWS, VISIBLE, X, drawn, images, run
from support import mask_families, relative
from torch import nn
from vision_transformers import SIZE, TIMM, timm_vit, torchvision_vit

WIDTH, HEADS = 4, 2
TOKENS = X.permute(0, 2, 3, 1)
SEEN = VISIBLE[:, 0]
FAMILIES = mask_families(SIZE)
PATCHES = torch.stack([FAMILIES[name] for name in ("patches", "all", "none", "patches")])[:, None]
PATCHES[3] = ~PATCHES[0]
IMAGES = images(3, SIZE, SIZE)[: len(PATCHES)]

qkv = drawn(nn.Linear(WIDTH, 3 * WIDTH))
out = drawn(nn.Linear(WIDTH, WIDTH))
BIAS = torch.randn(HEADS, ROWS * COLUMNS, ROWS * COLUMNS, dtype=torch.double)


def vit(name, fused):
    """A small vision transformer, its attention by the fused function or by products."""
    model = torchvision_vit() if name == "torchvision" else timm_vit(**TIMM[name])
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
    return model


def listed(y):
    """A map N×C×H×W as tokens N×HW×C."""
    return y.flatten(2).transpose(1, 2)


def as_map(t):
    """Tokens N×HW×C as a map N×C×H×W."""
    return t.transpose(1, 2).unflatten(2, (ROWS, COLUMNS))


def in_heads(t, order=(0, 2, 1, 3)):
    """Tokens N×HW×C by heads: N×heads×HW×C."""
    return t.unflatten(-1, (HEADS, -1)).permute(order)


def products(q, k, v, bias):
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return (scores if bias is None else scores + bias).softmax(-1) @ v


def check(network, by_hand, rows=slice(None)):
    """The masked output of a network that returns a map equals one by hand (N×H×W×C) in visible cells."""
    ours = run(network)[rows].permute(0, 2, 3, 1)
    there = SEEN[rows][..., None]
    assert relative(torch.where(there, ours, 0), torch.where(there, by_hand, 0).detach()) <= 1e-9
