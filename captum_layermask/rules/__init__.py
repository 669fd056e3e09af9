"""What each operation does to values and mask: a file for each family of operations."""

from captum_layermask.rules import (
    channels,
    indexing,
    lines,
    moves,
    normalization,
    pointwise,
    reductions,
    resampling,
    sliding,
    views,
)

__all__ = [
    "channels",
    "indexing",
    "lines",
    "moves",
    "normalization",
    "pointwise",
    "reductions",
    "resampling",
    "sliding",
    "views",
]
