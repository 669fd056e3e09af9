"""The rules, by what an operation does to positions."""

from captum_layermask.rules import mixing, moves, pointwise, resampling, shapes, sliding, statistics

__all__ = ["mixing", "moves", "pointwise", "resampling", "shapes", "sliding", "statistics"]
