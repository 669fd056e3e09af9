"""Which options go with which method, known without importing what does it."""

from __future__ import annotations

from captum_layermask.errors import InputError, require_known, require_positive
from captum_layermask.names import ESTIMATORS, METHODS

__all__ = ["check_method_options", "require_tolerance"]


def check_method_options(
    method: str,
    *,
    n_samples: int | None = None,
    budget: int | None = None,
    tolerance: float | None = None,
    top_k: int | None = None,
) -> None:
    """Refuse what a method has no such thing as; None is what was not given.

    Raises:
        UnknownNameError: there is no such method.
        InputError: an option that the method does not take, or a number that cannot be meant.
    """
    require_known("method", method, METHODS)
    require_positive("the number of samples", n_samples)
    require_positive("the budget", budget)
    require_positive("top_k", top_k)
    require_tolerance(tolerance)
    if method in ESTIMATORS:
        if n_samples is not None:
            raise InputError(
                f"{method} takes no number of samples; give a budget (evaluations in all) or a tolerance."
            )
        if method == "rise" and top_k is not None:
            raise InputError("rise has values of pixels, not of segments; leave out top_k.")
        return
    goals = {"budget": budget, "tolerance": tolerance, "top_k": top_k}
    given = [name for name, value in goals.items() if value is not None]
    if given:
        instead = "" if METHODS[method][1] is None else "a number of samples, or "
        raise InputError(
            f"{method} does not know its errors, and takes no {given[0]}; give {instead}a method that does: "
            f"{', '.join(ESTIMATORS)}."
        )
    if n_samples is not None and METHODS[method][1] is None:
        raise InputError(f"{method} draws no samples; leave out the number of samples.")


def require_tolerance(tolerance: float | None) -> None:
    """Raise ``InputError`` for what is no share between 0 and 1; None is none."""
    if tolerance is not None and not 0 < tolerance < 1:
        raise InputError(
            f"the tolerance is {tolerance}; give a share of the range of the values between 0 and 1, such as "
            "0.05."
        )
