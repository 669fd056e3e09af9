"""The rules, by what an operation does to positions."""

from captum_layermask.rules import moves, pointwise, shapes, sliding, statistics

__all__ = ["moves", "pointwise", "shapes", "sliding", "statistics"]
