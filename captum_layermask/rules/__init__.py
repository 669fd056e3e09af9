"""What each operation does to values and mask: a file for each family of operations."""

from captum_layermask.rules import (
    attention,
    channels,
    indexing,
    lines,
    moves,
    normalization,
    pointwise,
    products,
    reductions,
    resampling,
    sliding,
    views,
)

__all__ = [
    "attention",
    "channels",
    "indexing",
    "lines",
    "moves",
    "normalization",
    "pointwise",
    "products",
    "reductions",
    "resampling",
    "sliding",
    "views",
]
