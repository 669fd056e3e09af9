"""Metrics measure missingness bias: of predictions, and of explanations."""

from captum_layermask.metrics.explanations import (
    AlignmentScore,
    GridPointingGame,
    TopKAblation,
    TopKJaccard,
    alignment_score,
    grid_pointing_game,
    top_k_jaccard,
    top_k_region,
)
from captum_layermask.metrics.predictions import (
    ClassEntropy,
    UnchangedPredictions,
    WordNetSimilarity,
    area_under_curve,
)

__all__ = [
    "AlignmentScore",
    "ClassEntropy",
    "GridPointingGame",
    "TopKAblation",
    "TopKJaccard",
    "UnchangedPredictions",
    "WordNetSimilarity",
    "alignment_score",
    "area_under_curve",
    "grid_pointing_game",
    "top_k_jaccard",
    "top_k_region",
]
