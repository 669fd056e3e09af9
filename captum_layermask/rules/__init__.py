"""The rules, by what an operation does to positions."""

from captum_layermask.rules import (
    indexing,
    lines,
    mixing,
    moves,
    pointwise,
    resampling,
    shapes,
    sliding,
    statistics,
)

__all__ = [
    "indexing",
    "lines",
    "mixing",
    "moves",
    "pointwise",
    "resampling",
    "shapes",
    "sliding",
    "statistics",
]
