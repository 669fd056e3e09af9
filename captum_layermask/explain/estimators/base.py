"""What estimators share: a stream of coalitions, the values that came back, a state to save."""

from __future__ import annotations

import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor

from captum_layermask.errors import InputError, require_positive
from captum_layermask.explain.estimators.estimate import Estimate

__all__ = ["Estimator"]


@dataclass(frozen=True)
class _Taken:
    """What came back of one call: float64 K or K×T, and how many coalitions vanished."""

    values: np.ndarray
    vanished: int | None


class Estimator(ABC):
    """Draws coalitions, takes their values, and estimates attributions from all of them.

    The stream of coalitions depends on the settings and the seed alone, and the estimate on the values
    alone. So a run may stop anywhere, be saved, and go on elsewhere: it ends with the estimate, to the bit,
    of one that did not stop. ``run`` in ``driver.py`` is the loop; by hand it is

    ```python
    coalitions = estimator.draw(32)
    estimator.update(coalitions, game(coalitions))
    ```

    Several targets, or several games, share one stream: their values are the columns of K×T.

    Args:
        n_segments: S, how many segments there are.
        seed: of the stream.

    Raises:
        InputError: a count below 1, or a seed below 0.
    """

    #: Names of the settings that make the stream what it is, apart from the seed; numbers, strings, or lists
    #: of numbers.
    settings: ClassVar[tuple[str, ...]] = ("n_segments",)

    #: Whether the stream ends before long, so that a run needs no other goal.
    ends: ClassVar[bool] = False

    def __init__(self, n_segments: int, *, seed: int = 0) -> None:
        require_positive("the number of segments", n_segments)
        _require_seed(seed)
        self.n_segments, self.seed = n_segments, seed
        self._stream = self._coalitions()
        self._drawn: list[np.ndarray] = []  # one after the other, packed; those without a value come last
        self._taken: list[_Taken] = []

    @abstractmethod
    def _coalitions(self) -> Iterator[np.ndarray]:
        """The stream, from its beginning: bool S each."""

    @abstractmethod
    def _estimated(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Values and standard errors, S×T, and the degrees of freedom of the latter."""

    @property
    @abstractmethod
    def least_budget(self) -> int:
        """The fewest evaluations that an estimate makes sense with."""

    @property
    def trusted_from(self) -> int:
        """How many evaluations it takes until the standard errors are steady enough to end a run."""
        return 4 * self.n_segments

    @property
    def evaluations(self) -> int:
        """How many coalitions have their value."""
        return sum(len(taken.values) for taken in self._taken)

    @property
    def coalitions(self) -> np.ndarray:
        """All coalitions that have their value, bool K×S."""
        return self._unpacked(0, self.evaluations)

    @property
    def values(self) -> np.ndarray:
        """Their values, float64 K, or K×T for several targets."""
        return np.concatenate([taken.values for taken in self._taken]) if self._taken else np.empty(0)

    @property
    def vanished(self) -> int | None:
        """How many of them lost their evidence; None where no game told."""
        told = [taken.vanished for taken in self._taken if taken.vanished is not None]
        return sum(told) if told else None

    @property
    def finished(self) -> bool:
        """Whether the stream has ended: every coalition that counts has its value."""
        return len(self.draw(1)) == 0

    def draw(self, count: int) -> np.ndarray:
        """Look at the coalitions whose values are wanted next.

        Args:
            count: how many, at most.

        Returns:
            Bool K×S; fewer than ``count``, or none, where the stream ends. The same again until ``update``.
        """
        start = self.evaluations
        wanted = start + count - len(self._drawn)
        try:
            self._drawn.extend(map(np.packbits, itertools.islice(self._stream, max(0, wanted))))
        except BaseException:  # Ctrl-C ends a generator, which must not look like the end of the stream
            self._stream = itertools.islice(self._coalitions(), len(self._drawn), None)
            raise
        return self._unpacked(start, start + count)

    def update(self, coalitions: np.ndarray, values: Any, vanished: Any = None) -> None:
        """Take the values of coalitions.

        Args:
            coalitions: bool K×S, the next ones, as ``draw`` gave them.
            values: float K, or K×T for several targets; an array, a tensor or a list.
            vanished: bool K, which of them lost their evidence; None where the game does not tell.

        Raises:
            InputError: other coalitions than the next ones, values of another shape, or one that is not
                finite.
        """
        rows = np.asarray(coalitions)
        if rows.ndim != 2 or len(rows) == 0 or not np.array_equal(rows, self.draw(len(rows))):
            raise InputError("these are not the coalitions that come next; update with those that draw gave.")
        lost = None if vanished is None else int(np.asarray(vanished).sum())
        # one step, which Ctrl-C cannot divide
        self._taken.append(_Taken(self._checked(rows, values), lost))

    def estimate(self) -> Estimate:
        """Estimate from all values so far.

        Raises:
            InputError: there are none.
        """
        if self.evaluations == 0:
            raise InputError("nothing is evaluated yet; draw coalitions and update with their values first.")
        values, errors, freedom = self._estimated()
        if self.values.ndim == 1:
            values, errors = values[:, 0], errors[:, 0]
        return Estimate(
            values=values,
            standard_errors=errors,
            freedom=freedom,
            evaluations=self.evaluations,
            forecast=self.evaluations if self.finished else self.forecast(0.5),
            vanished=self.vanished,
            ended="exact" if self.finished else "interrupted",
        )

    def forecast(self, factor: float) -> int:
        """About how many evaluations, those so far included, would multiply the errors by ``factor``."""
        return max(self.evaluations, round(self.evaluations / factor**2))

    def combined(self, weights: np.ndarray) -> Self:
        """The estimator of a combination of the targets, on the same coalitions.

        The error of a difference between two removals is much smaller than that of either, since both saw the
        same coalitions: with their values side by side, ``combined(np.array([1.0, -1.0]))`` estimates it.

        Args:
            weights: float T, or T×U for several combinations.
        """
        return self.from_state(self.state() | {"values": self.values @ weights})

    def state(self) -> dict[str, np.ndarray]:
        """All that is needed to go on elsewhere: plain arrays for ``numpy.savez``, nothing pickled."""
        named = {name: np.array(getattr(self, name)) for name in (*self.settings, "seed")}
        return named | {
            "values": self.values,
            "vanished": np.array(-1 if self.vanished is None else self.vanished),
            "digest": np.array(self._digest()),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """The estimator that ``state`` was taken of, about to draw what it would have drawn.

        Raises:
            InputError: the stream from this seed is another one here, as after a change of NumPy's.
        """
        estimator = cls(**{name: state[name].tolist() for name in (*cls.settings, "seed")})
        values = np.asarray(state["values"])
        if len(values):
            rows = estimator.draw(len(values))
            vanished = int(state["vanished"])
            estimator.update(rows, values, None if vanished < 0 else vanished)
        if estimator._digest() != state["digest"].item():
            raise InputError(
                "the saved coalitions are not those that are drawn from the seed here; go on with the "
                "versions of captum-layermask and NumPy that saved them, or start anew."
            )
        return estimator

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is made of the state; what was drawn and not updated is drawn again."""
        return type(self).from_state, (self.state(),)

    def _digest(self) -> str:
        return hashlib.sha256(b"".join(row.tobytes() for row in self._drawn[: self.evaluations])).hexdigest()

    def _unpacked(self, start: int, stop: int) -> np.ndarray:
        packed = np.array(self._drawn[start:stop], np.uint8).reshape(-1, -(-self.n_segments // 8))
        return np.unpackbits(packed, axis=1, count=self.n_segments).astype(bool)

    def _checked(self, rows: np.ndarray, values: Any) -> np.ndarray:
        """The values as float64, in the shape of those before."""
        array = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else values
        numbers = np.array(array, dtype=np.float64)
        expected = (len(rows), *(self.values.shape[1:] if self._taken else numbers.shape[1:2]))
        if numbers.shape != expected or 0 in expected:
            wanted = "×".join(map(str, expected)) if self._taken else f"{len(rows)}, or {len(rows)}×T"
            raise InputError(
                f"the values of {len(rows)} coalitions have shape {numbers.shape}; give {wanted}, a number "
                "for each coalition and target."
            )
        wrong = ~np.isfinite(numbers.reshape(len(rows), -1)).all(1)
        if wrong.any():
            which = int(wrong.argmax())
            found = numbers.reshape(len(rows), -1)[which].tolist()
            raise InputError(
                f"the game returned {found} for the coalition of {_described(rows[which])} (evaluation "
                f"{self.evaluations + which}, from 0); it must return finite numbers."
            )
        return numbers


def _require_seed(seed: int) -> None:
    """Raise ``InputError`` for a seed that NumPy cannot take."""
    if seed < 0:
        raise InputError(f"the seed is {seed}; give a whole number from 0.")


def _described(row: np.ndarray) -> str:
    """A coalition in words; the shorter of what is visible and what is not."""
    visible, missing = np.flatnonzero(row).tolist(), np.flatnonzero(~row).tolist()
    if not missing:
        return "all segments"
    if not visible:
        return "no segment"
    if len(visible) <= len(missing):
        return f"segments {', '.join(map(str, visible))}"
    return f"all segments but {', '.join(map(str, missing))}"
