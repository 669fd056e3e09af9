"""The shapiq package estimates interactions of segments."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np

from captum_layermask.errors import InputError, MissingPackageError, require_known, require_positive
from captum_layermask.explain.estimators.driver import Game, count_segments

__all__ = ["interactions"]

#: Which of shapiq's estimators is made for an index; SVARM-IQ is for all.
_APPROXIMATORS = {
    "SII": "KernelSHAPIQ",
    "k-SII": "KernelSHAPIQ",
    "FSII": "RegressionFSII",
    "FBII": "RegressionFBII",
}


def interactions(
    game: Game,
    *,
    budget: int,
    index: str = "k-SII",
    order: int = 2,
    n_segments: int | None = None,
    seed: int = 0,
) -> Any:
    """Estimate how much segments add together beyond what they add alone (with shapiq, written for 1.4).

    Args:
        game: bool K×S → float K: a ``Coalitions`` of one target, or any function of NumPy arrays.
        budget: evaluations. Where it allows all 2^S, shapiq's ``ExactComputer`` computes exact values; else
            its KernelSHAP-IQ estimates ``"SII"`` and ``"k-SII"``, its regression ``"FSII"`` and ``"FBII"``,
            and SVARM-IQ other indices.
        index: of shapiq's, such as ``"k-SII"``, ``"FSII"`` or ``"STII"``.
        order: of the largest interactions; 2 is pairs. There are about S² / 2 pairs, so let the segments be
            few.
        n_segments: S, for a game that does not tell.
        seed: of the coalitions.

    Returns:
        shapiq's ``InteractionValues``: ``values[(3, 7)]`` is the interaction of segments 3 and 7, and its
        plots draw them.

    Raises:
        MissingPackageError: shapiq is not installed.
        UnknownNameError: shapiq has no such index.
        InputError: a count below 1, an order beyond the number of segments, or a game of several targets.
    """
    shapiq = _shapiq()
    require_known("index", [index], shapiq.SVARMIQ.valid_indices)
    segments = count_segments(game, n_segments)
    require_positive("the budget", budget)
    if not 1 <= order <= segments:
        raise InputError(f"the order is {order} with {segments} segments; give 1 to {segments}, such as 2.")

    def values(coalitions: np.ndarray) -> np.ndarray:
        rows = np.atleast_2d(coalitions).astype(bool)
        found = np.asarray(game(rows), np.float64)
        if found.shape != (len(rows),):
            raise InputError(
                f"the game returned values of shape {found.shape} for {len(rows)} coalitions; give one of a "
                "single target."
            )
        return found

    if 2**segments <= budget:
        return shapiq.ExactComputer(values, n_players=segments)(index, order)
    approximator = getattr(shapiq, _APPROXIMATORS.get(index, "SVARMIQ"))
    made = approximator(n=segments, max_order=order, index=index, random_state=seed)
    return made.approximate(budget, values)


def _shapiq() -> ModuleType:
    try:
        return importlib.import_module("shapiq")
    except ModuleNotFoundError as error:
        if error.name != "shapiq":
            raise
        raise MissingPackageError(
            "this needs the Python package shapiq, which is not installed; run: pip install shapiq",
            name="shapiq",
        ) from error
