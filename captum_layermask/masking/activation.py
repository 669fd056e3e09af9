"""Activations that carry a mask through the unmodified code of any model.

A carrier is a ``torch.Tensor`` subclass whose values are a plain tensor beside it. PyTorch hands every
function called on a carrier to ``__torch_function__``, which looks up the function's rule; whatever reaches
the tensor itself ends in ``Guarded.__torch_dispatch__``, which refuses.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_layermask.errors import InplaceError, LayerMaskError, MaskLostError, MisfitError
from captum_layermask.masking.carrier import Carrier, Guarded, tracked
from captum_layermask.masking.compiling import tracing
from captum_layermask.masking.gradients import refuse_lost_gradients
from captum_layermask.masking.layout import (
    NCHW,
    Axes,
    Dimension,
    as_keys,
    factors,
    fits,
    index_parts,
    is_number,
    laid_out,
    letters,
    paired,
    swapped,
)
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.memory import Memory
from captum_layermask.masking.registry import RULES, no_rule
from captum_layermask.masking.run import Run, function_name
from captum_layermask.masking.signatures import Function, bound
from captum_layermask.masking.trees import each_tensor, has_tensors, instances, replaced
from captum_layermask.masking.unruled import JOINS, MAKERS, METHODS, RESHAPES, VALUELESS, writes
from captum_layermask.masking.windows import Geometry


class Activation(Carrier):
    """A carrier that hands every function called on it to the function's rule."""

    @classmethod
    def __torch_function__(
        cls,
        func: Function,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the rule of ``func``, or ``func`` itself where no operand has a map any more."""
        kwargs = kwargs or {}
        if func in VALUELESS:
            if len(args) == 1 and not kwargs:
                return func(args[0].raw)
            args, kwargs = replaced((args, kwargs), Carrier, lambda c: c.raw)
            return func(*args, **kwargs)
        if func in METHODS:
            return functools.partial(METHODS[func], args[0])
        carriers = _operands(args, kwargs)
        if not carriers:
            raise MaskLostError(
                f"{function_name(func)} was given masked activations in a container that is no tuple, "
                "list or dict; hand them over in one of these."
            )
        run, maps, over, outdated = carriers[0].run, False, False, False
        for carrier in carriers:
            maps |= isinstance(carrier, MaskedMap)
            over |= carrier.run.over
            outdated |= carrier.memory.outdated
        if over:
            args, kwargs = replaced((args, kwargs), Carrier, lambda c: c.plain() if c.run.over else c)
            return func(*args, **kwargs)
        if outdated:
            for carrier in carriers:
                carrier.require_current(f"{function_name(func)} in {run.whereabouts()}")
        if func in MAKERS:
            args, kwargs = replaced((args, kwargs), Carrier, lambda c: c.raw.contiguous())
            return MaskedVector(func(*args, **kwargs), (), run)
        if kwargs.get("out") is not None:
            result = _written_out(func, args, kwargs)
        else:
            result = cls._run_rule(func, args, kwargs, carriers, maps)
        if not tracing():
            result = tracked(func, result, carriers)
        if run.grad and not torch.is_grad_enabled():
            refuse_lost_gradients(result, carriers)
        return result

    @staticmethod
    def _run_rule(func: Function, args: Any, kwargs: Any, carriers: Sequence[Carrier], maps: bool) -> Any:
        run = carriers[0].run
        if func in RESHAPES:
            func, args, kwargs = _reshape(func, *bound(func, args, kwargs))
            if not isinstance(args[0], Carrier):
                return func(*args, **kwargs)
            carriers, maps = args[:1], isinstance(args[0], MaskedMap)
        if not maps:
            name, result = "as usual", _as_usual(func, args, kwargs, carriers)
        else:
            rule = RULES.get(func, no_rule)
            run.padded = False
            name = rule.__name__
            first = args[0] if args else None
            try:
                if isinstance(first, MaskedVector) and not first.sources and writes(func):
                    first.become_map(args[1:])
                if func not in JOINS and any(isinstance(c, MaskedVector) for c in carriers):
                    args, kwargs = replaced((args, kwargs), MaskedVector, lambda c: c.raw)
                args, kwargs = bound(func, args, kwargs)
                result = run.apply(rule, (func, args, kwargs), {}, carriers)
            except LayerMaskError as error:
                raise type(error)(f"{function_name(func)} in {run.whereabouts()}: {error}") from None
        if run.observe is not None:
            run.observe(run, func, name, result)
        return result


class MaskedMap(Activation):
    """An activation with a position for every cell, and the mask of its cells.

    Args:
        raw: the values; what missing cells hold is unspecified, so a rule that reads neighbours, reduces
            over space or flattens must look at ``mask`` first.
        mask: which cells are visible, missing or frame.
        axes: what every dimension of ``raw`` counts (see ``layout``): ``("N", "C", "H", "W")``, channels-last
            ``("N", "H", "W", "C")``, tokens ``("N", "HW", "C")``. An axis of one cell may be left out.
        run: what the whole forward shares.
        keys: where each position is paired with others (scores of attention), which of these are there; None
            elsewhere.

    Raises:
        MisfitError: the mask is of other images, rows or columns than the values.

    Example:
        ```python
        @rule_for(torch.cummax)
        def cummax(x, dim):  # x is a MaskedMap
            assert x.axes[dim] == "C"
            values, indices = torch.cummax(x.raw, dim)
            return x.like(values), x.like(indices)
        ```
    """

    mask: Mask
    axes: Axes
    keys: Mask | None

    def __new__(cls, raw: Tensor, mask: Mask, axes: Axes, run: Run, keys: Mask | None = None) -> MaskedMap:
        """Pair values and mask."""
        _require_fit(raw, mask, axes, keys)
        self: MaskedMap = Carrier._around(cls, raw, run)
        self.mask, self.axes, self.keys = mask, axes, keys
        return self

    def like(
        self,
        raw: Tensor,
        mask: Mask | None = None,
        axes: Sequence[str] | None = None,
        keys: Mask | None = None,
    ) -> MaskedMap:
        """A map of the same forward with other values and, where given, another mask, other axes or keys.

        Where ``raw`` is this map's own tensor, changed in place, it is this map that is updated.
        """
        mask, axes = mask or self.mask, self.axes if axes is None else tuple(axes)
        keys = (keys or self.keys) if paired(axes) else None
        if raw is not self.raw:
            return MaskedMap(raw, mask, axes, self.run, keys)
        _require_fit(raw, mask, axes, keys)
        if mask is not self.mask or keys is not self.keys:
            self._forbid_live_aliases()
        self.mask, self.axes, self.keys = mask, axes, keys
        return self

    def _forbid_live_aliases(self) -> None:
        if self.others():
            raise InplaceError(
                "this in-place operation would change which cells are missing in a tensor that shares its "
                "memory (a view or its base); use the operation that returns a new tensor."
            )

    def twin(self) -> MaskedMap:
        """The same activation in memory of its own, as far as writing goes."""
        return MaskedMap(self.raw.view_as(self.raw), self.mask, self.axes, self.run, self.keys)

    def pooled(self, raw: Tensor) -> MaskedVector:
        """What remains of this map once its positions are gone."""
        return MaskedVector(raw, (self.mask,), self.run)

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The letters of every dimension, with their sizes."""
        size = self.mask.size if self.keys is None else self.mask.size + self.keys.size
        return factors(self.axes, tuple(self.raw.shape), len(self.mask.visible), size)

    @property
    def named(self) -> str:
        """The axes, for messages."""
        return " ".join(self.axes)

    def plain(self) -> Tensor:
        """The values as a plain tensor, with 0 in missing cells."""
        return self.zeroed()

    def over(self, cells: Tensor) -> Tensor:
        """Cells of the mask (N×1×H×W), laid out so that they broadcast against ``raw``."""
        return cells if self.axes == NCHW else laid_out(cells, self.dimensions)

    def over_keys(self, cells: Tensor) -> Tensor:
        """Cells of the keys' mask, laid out so that they broadcast against ``raw``."""
        return laid_out(cells, as_keys(self.dimensions))

    @property
    def full(self) -> bool:
        """Whether no cell is missing, and no key."""
        return self.mask.full and (self.keys is None or self.keys.full)

    @property
    def present(self) -> Tensor:
        """Which values belong to cells, and to keys, that are not missing (bool, broadcasts)."""
        return self._present(True, True)

    def counted(self, dims: Sequence[int]) -> Tensor | None:
        """Which cells a reduction over these dimensions counts (bool, broadcasts); None where all of them."""
        words = [self.axes[dim] for dim in dims]
        own = any(letters(word) not in ("C", "") and not paired([word]) for word in words)
        own, keys = own and not self.mask.full, paired(words) and self.keys is not None and not self.keys.full
        return self._present(own, keys) if own or keys else None

    def _present(self, own: bool, keys: bool) -> Tensor:
        of_keys = self.over_keys(self.keys.present) if keys and self.keys is not None else None
        if of_keys is not None and not own:
            return of_keys
        there = self.over(self.mask.present)
        return there if of_keys is None else there & of_keys

    def of_keys(self) -> MaskedMap:
        """The same pairs, seen from the keys: these are the positions, and the positions their keys."""
        assert self.keys is not None
        axes = swapped(self.axes, self.keys.size)
        return MaskedMap(self.raw, self.keys, axes, self.run, self.mask)

    def products(self) -> Tensor:
        """The values to multiply and sum where missing cells have no part: 0 there if gradients are recorded.

        What a missing cell holds may be infinite, and in a gradient 0 times infinity would be NaN (S15).
        """
        return self.zeroed() if torch.is_grad_enabled() and self.run.grad else self.raw

    def after(self, window: Geometry) -> Mask:
        """The mask of the output of a windowed operation on this map."""
        return self.mask.after(window, self.run.propagation.policy)

    def unmask(self) -> None:
        """Let missing cells be ordinary cells that hold 0."""
        if not self.full:
            zeroed, keys = self.zeroed(), None if self.keys is None else self.keys.unmasked()
            self.raw, self.mask, self.keys, self.memory = zeroed, self.mask.unmasked(), keys, Memory(self)

    def zeroed(self) -> Tensor:
        """The values, with 0 in missing cells."""
        return self.raw if self.full else torch.where(self.present, self.raw, 0)


class MaskedVector(Activation):
    """An activation without positions: after pooling or flattening the network runs as usual (S9).

    Args:
        raw: the values.
        sources: the masks of the maps it came from.
        run: what the whole forward shares.
        flattened: the map that it is with its dimensions merged, until another operation runs; or None.
    """

    sources: tuple[Mask, ...]
    flattened: MaskedMap | None

    def __new__(
        cls, raw: Tensor, sources: tuple[Mask, ...], run: Run, flattened: MaskedMap | None = None
    ) -> MaskedVector:
        """Note where the values came from."""
        self: MaskedVector = Carrier._around(cls, raw, run)
        self.sources, self.flattened = sources, flattened
        return self

    def twin(self) -> MaskedVector:
        """The same activation in memory of its own, as far as writing goes."""
        return MaskedVector(self.raw.view_as(self.raw), self.sources, self.run)

    def become_map(self, operands: tuple[Any, ...]) -> None:
        """Turn a constant of the forward into a map, all frame: a map is about to be written into it.

        Args:
            operands: the other arguments of the call; with an index in front, where something is written.
        """
        source = next((a for a in operands if isinstance(a, MaskedMap)), None)
        if source is None or tracing():
            return
        if self.others():
            raise InplaceError(
                "a map is written into a part of a tensor that holds none; write `tensor[i] = map` instead. "
                "A detector that does so with its images can be explained from its backbone on: see "
                "docs/semantics.md."
            )
        axes, (rows, columns) = [*source.axes], source.mask.size
        sizes = {"N": len(source.mask.visible), "H": rows, "W": columns}
        if self.raw.shape != source.raw.shape:
            for dim in [d for d, p in enumerate(index_parts(operands[0], self.raw.dim())) if is_number(p)]:
                axes.insert(dim, "N" if dim == 0 and "N" not in letters("".join(axes)) else "C")
            if len(axes) != self.raw.dim() or set(axes) - set(NCHW):
                return
            sizes.update((a, n) for a, n in zip(axes, self.raw.shape, strict=True) if a != "C")
        cells = torch.zeros(sizes["N"], 1, sizes["H"], sizes["W"], dtype=torch.bool, device=self.raw.device)
        self.__class__ = MaskedMap.guarded
        vars(self).update(axes=tuple(axes), mask=Mask.constant(Mask(cells)), keys=None)


MaskedMap.guarded = type("MaskedMap", (Guarded, MaskedMap), {})
MaskedVector.guarded = type("MaskedVector", (Guarded, MaskedVector), {})


def _require_fit(raw: Tensor, mask: Mask, axes: Axes, keys: Mask | None) -> None:
    """Raise where mask and values cannot belong together (sizes only)."""
    images, _, rows, columns = mask.visible.shape
    if not fits(axes, raw.shape, images, mask.size if keys is None else mask.size + keys.size):
        raise MisfitError(
            f"values of shape {tuple(raw.shape)} with axes {' '.join(axes)} were given the mask of {images} "
            f"images of {rows}×{columns} cells; a rule must return the mask of what it returns."
        )


def _operands(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Carrier]:
    """The carriers among the arguments of a call; most have them in front, and few in lists."""
    found: list[Carrier] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, Carrier):
            found.append(value)
        elif isinstance(value, (tuple, list, dict)):
            found.extend(instances(value, Carrier))
    return found


def _reshape(func: Function, args: Any, kwargs: Any) -> tuple[Function, Any, Any]:
    """A bound reshape, with a plain tensor for its template; of what was flattened, one of its map."""
    x, *rest = args
    rest, kwargs = replaced((tuple(rest), kwargs), Carrier, lambda c: c.raw)
    if not isinstance(x, MaskedVector) or x.flattened is None:
        return func, (x, *rest), kwargs
    shape = func(torch.empty(x.raw.shape, device="meta"), *rest, **kwargs).shape
    return torch.reshape, (x.flattened, tuple(shape)), {}


def _written_out(func: Function, args: Any, kwargs: Any) -> Any:
    """A call with ``out=``: its result, copied there."""
    kwargs = dict(kwargs)
    out = kwargs.pop("out")
    targets, results = (
        list(t) if isinstance(t, (tuple, list)) else [t] for t in (out, func(*args, **kwargs))
    )
    for target, result in zip(targets, results, strict=True):
        if not isinstance(target, Carrier):
            raise MaskLostError(
                f"{function_name(func)} writes a masked activation with out= into a plain tensor, "
                "which cannot hold its mask; use what the function returns."
            )
        target.copy_(result)
    return out


def _as_usual(func: Function, args: Any, kwargs: Any, carriers: Sequence[Carrier]) -> Any:
    sources = tuple(dict.fromkeys(mask for c in carriers for mask in c.sources))  # type: ignore[attr-defined]
    for carrier in carriers:
        carrier.flattened = None  # type: ignore[attr-defined]
    plain_args, plain_kwargs = replaced((args, kwargs), Carrier, lambda c: c.raw)
    result = func(*plain_args, **plain_kwargs)
    if func is Tensor.__setitem__:
        result = plain_args[0]
    if not has_tensors(result):
        carriers[0].run.left.extend(sources)
    own = {id(c.raw): c for c in carriers}

    def carry(tensor: Tensor) -> Carrier:
        written = own.get(id(tensor))
        if written is None:
            return MaskedVector(tensor, sources, carriers[0].run)
        written.sources = sources  # type: ignore[attr-defined]
        return written

    return each_tensor(result, carry)
