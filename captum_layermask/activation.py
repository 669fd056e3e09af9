"""The mask travels with the activation, through the unmodified code of any model.

A carrier is a ``torch.Tensor`` subclass whose values are a plain tensor beside it. PyTorch hands every
function called on a carrier to ``__torch_function__``, which looks up the function's rule; whatever
reaches the tensor behind PyTorch's back ends in ``Guarded.__torch_dispatch__``, which refuses.
"""

from __future__ import annotations

import functools
import math
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.overrides import resolve_name

from captum_layermask.errors import InplaceError, LayerMaskError, MaskLostError, MisfitError, NoRuleError
from captum_layermask.gradients import inside_custom_function, refusing
from captum_layermask.layout import NCHW, Axes, Dimension, factors
from captum_layermask.mask import Mask
from captum_layermask.propagation import PROPAGATIONS, Propagation
from captum_layermask.registry import RULES, spellings
from captum_layermask.signatures import Function, bound
from captum_layermask.windows import Geometry

MAKERS = (
    "new_tensor new_zeros new_ones new_empty new_full zeros_like ones_like empty_like full_like rand_like "
    "randn_like"
)
FUNCTIONS = (
    "size dim ndimension numel nelement element_size is_contiguous stride storage_offset "
    "get_device is_floating_point is_complex is_signed is_same_size len is_inference result_type can_cast"
)
PROPERTIES = (
    "shape ndim dtype device layout itemsize nbytes requires_grad is_leaf grad_fn is_cuda is_cpu is_meta "
    "is_mps is_xpu is_mkldnn is_quantized is_sparse is_nested grad"
)
_RESHAPES = {f for name in ("view", "reshape", "unflatten", "view_as", "reshape_as") for f in spellings(name)}
_MAKERS = {function for name in MAKERS.split() for function in spellings(name)}
_VALUELESS = {function for name in FUNCTIONS.split() for function in spellings(name)} | {
    getattr(Tensor, name).__get__ for name in PROPERTIES.split() if hasattr(Tensor, name)
}


Observer = Callable[["Run", Function, str, Any], None]


@dataclass
class Run:
    """One masked forward: what all of its carriers share.

    Args:
        model: the network that runs.
        observe: called as ``observe(run, function, rule name, result)`` after every operation, or None.
        padded: whether the operation now running filled the rim of a hole.
        concat: which cells of concatenated maps are visible, "intersection" or "union".
        padding: what windows read in the hole, a key of ``rim.RIMS``.
        propagation: how masks travel through windows.
        windows_left: how many operations that slide a window are still masked; negative for all.
        ended: from here on the network runs as usual, with 0 in what is missing.
        over: the forward has returned; what is left of it are plain tensors with 0 in what was missing.
        left: the masks of activations whose values left as numbers, lists or arrays.
        refusal: the last error raised behind PyTorch's back, which TorchScript reports as one of its own.
        grad: whether gradients were recorded when it began.
    """

    model: nn.Module | None = None
    observe: Observer | None = None
    padded: bool = False
    concat: str = "intersection"
    padding: str = "neighbor"
    propagation: Propagation = PROPAGATIONS["anchored"]
    windows_left: int = -1
    ended: bool = False
    over: bool = False
    left: list[Mask] = field(default_factory=list)
    refusal: LayerMaskError | None = None
    grad: bool = field(default_factory=torch.is_grad_enabled)

    def count_window(self, x: MaskedMap) -> None:
        """Note that an operation is about to slide a window over ``x``."""
        if self.windows_left == 0:
            self.ended = True
            x.uncover()
        self.windows_left -= 1

    def here(self) -> str:
        """The path of the innermost module whose forward is running, '' for the model itself."""
        modules = () if self.model is None else self.model.named_modules(remove_duplicate=False)
        names = {id(module): name for name, module in modules}
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            owner = frame.f_locals.get("self")
            if isinstance(owner, nn.Module) and id(owner) in names:
                return names[id(owner)]
            frame = frame.f_back
        return ""

    def whereabouts(self) -> str:
        """The same as a phrase for messages."""
        path = self.here()
        return f"module {path!r}" if path else "the model's own forward"


class Carrier(Tensor):
    """Base of the two kinds of activation inside a masked forward.

    ``raw`` holds the values as a plain tensor and ``run`` what the whole forward shares.
    """

    raw: Tensor
    run: Run
    guarded: ClassVar[type[Any]]
    _aliases: list[weakref.ref[Carrier]]
    _copies: tuple[weakref.ref[Carrier], ...]
    _outdated: bool

    @staticmethod
    def _around(cls: type[Any], raw: Tensor, run: Run) -> Any:
        carrier = raw.detach().as_subclass(cls if torch.compiler.is_compiling() else cls.guarded)
        carrier.raw = raw
        carrier.run = run
        carrier._aliases = [weakref.ref(carrier)]
        carrier._copies, carrier._outdated = (), False
        return carrier

    def plain(self) -> Tensor:
        """The values as a plain tensor, with 0 in missing cells."""
        return self.raw

    def uncover(self) -> None:
        """Let missing cells be ordinary cells that hold 0, where there are any."""

    def _share_storage_with(self, other: Carrier) -> None:
        if torch.compiler.is_compiling():
            return
        if other is not self and _storage(self.raw) == _storage(other.raw):
            self._aliases = other._aliases
            self._aliases.append(weakref.ref(self))

    def others(self) -> list[Carrier]:
        """The other living tensors that share this one's memory."""
        return [c for c in (ref() for ref in self._aliases) if c is not None and c is not self]

    def copies(self, other: Carrier) -> None:
        """Note that ``other`` holds a copy of this where the plain network has both in the same memory."""
        self._copies += (weakref.ref(other),)
        other._copies += (weakref.ref(self),)

    def written(self) -> None:
        """Note that this was changed in place: copies of it that should have changed too must not be used."""
        for ref in self._copies:
            copy = ref()
            for outdated in () if copy is None else (copy, *copy.others()):
                outdated._outdated = True

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        if self.run.over:
            return repr(self.plain())
        return f"{type(self).__name__}({tuple(self.raw.shape)})"

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
        if func in _VALUELESS:
            if len(args) == 1 and not kwargs:
                return func(args[0].raw)
            args, kwargs = replace_carriers((args, kwargs), Carrier, lambda c: c.raw)
            return func(*args, **kwargs)
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
            outdated |= carrier._outdated
        if over:
            args, kwargs = replace_carriers((args, kwargs), Carrier, lambda c: c.plain() if c.run.over else c)
            return func(*args, **kwargs)
        if outdated:
            raise InplaceError(
                f"{function_name(func)} in {run.whereabouts()}: this tensor was a view of one that has been "
                "changed in place since, and holds the values from before; use the operation that returns a "
                "new tensor."
            )
        if run.ended:
            for carrier in carriers:
                carrier.uncover()
        if func in _MAKERS:
            args, kwargs = replace_carriers((args, kwargs), Carrier, lambda c: c.raw)
            return MaskedVector(func(*args, **kwargs).contiguous(), (), run)
        if kwargs.get("out") is not None:
            result = _written_out(func, args, kwargs)
        else:
            result = cls._answer(func, args, kwargs, carriers, maps)
        for made in carriers_in(result):
            for used in carriers:
                if made is used:
                    made.written()
                made._share_storage_with(used)
        if run.grad and not torch.is_grad_enabled():
            _refuse_lost_gradients(result, carriers)
        return result

    @staticmethod
    def _answer(func: Function, args: Any, kwargs: Any, carriers: Sequence[Carrier], maps: bool) -> Any:
        run = carriers[0].run
        if not maps and func in _RESHAPES and isinstance(args[0], MaskedVector) and args[0].flattened:
            args, maps = (args[0].flattened, *args[1:]), True
        if not maps:
            name, result = "as usual", _as_usual(func, args, kwargs, carriers)
        else:
            rule = RULES.get(func, no_rule)
            run.padded = False
            name = rule.__name__
            first = args[0] if args else None
            if isinstance(first, MaskedVector) and not first.sources and _writes(func):
                first.become_map(args[1:])
            if any(isinstance(c, MaskedVector) for c in carriers):
                args, kwargs = replace_carriers((args, kwargs), MaskedVector, lambda c: c.raw)
            args, kwargs = bound(func, args, kwargs)
            try:
                result = rule(func, args, kwargs)
            except LayerMaskError as error:
                raise type(error)(f"{function_name(func)} in {run.whereabouts()}: {error}") from None
        if run.observe is not None:
            run.observe(run, func, name, result)
        return result


class MaskedMap(Carrier):
    """An activation with a position for every cell, and the mask that says which cells are there.

    Args:
        raw: the values; what missing cells hold is unspecified, so a rule that reads neighbours, reduces
            over space or flattens must look at ``mask`` first.
        mask: which cells are visible, missing or frame.
        axes: what every dimension of ``raw`` counts (see ``layout``): ``("N", "C", "H", "W")``, channels-last
            ``("N", "H", "W", "C")``, tokens ``("N", "HW", "C")``. An axis of one cell may be left out.
        run: what the whole forward shares.

    Raises:
        MisfitError: the mask is of other images, rows or columns than the values.
    """

    mask: Mask
    axes: Axes

    def __new__(cls, raw: Tensor, mask: Mask, axes: Axes, run: Run) -> MaskedMap:
        """Pair values and mask."""
        _require_fit(raw, mask, axes)
        self: MaskedMap = Carrier._around(cls, raw, run)
        self.mask, self.axes = mask, axes
        return self

    def like(self, raw: Tensor, mask: Mask | None = None, axes: Sequence[str] | None = None) -> MaskedMap:
        """A map of the same forward with other values and, where given, another mask or other axes.

        Where ``raw`` is this map's own tensor, changed in place, it is this map that is updated.
        """
        mask, axes = mask or self.mask, self.axes if axes is None else tuple(axes)
        if raw is not self.raw:
            return MaskedMap(raw, mask, axes, self.run)
        _require_fit(raw, mask, axes)
        if mask is not self.mask:
            self._forbid_live_aliases()
        self.mask, self.axes = mask, axes
        return self

    def _forbid_live_aliases(self) -> None:
        if self.others():
            raise InplaceError(
                "this in-place operation would change which cells are missing in a tensor that shares its "
                "memory (a view or its base); use the operation that returns a new tensor."
            )

    def pooled(self, raw: Tensor) -> MaskedVector:
        """What remains of this map once its positions are gone."""
        return MaskedVector(raw, (self.mask,), self.run)

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The letters of every dimension, with their sizes."""
        return factors(self.axes, tuple(self.raw.shape), len(self.mask.visible), self.mask.size)

    @property
    def named(self) -> str:
        """The axes, for messages."""
        return " ".join(self.axes)

    def plain(self) -> Tensor:
        """The values as a plain tensor, with 0 in missing cells."""
        return self.zeroed()

    def over(self, cells: Tensor) -> Tensor:
        """Cells of the mask (N×1×H×W), laid out so that they broadcast against ``raw``."""
        if self.axes == NCHW:
            return cells
        dimensions = self.dimensions
        sizes = {letter: size for d in dimensions for letter, size in d if letter != "C"}
        views, rows, columns = (sizes.get(block, 1) for block in "nhw")
        grid = cells[:, 0].unflatten(2, (-1, columns)).unflatten(1, (-1, rows))
        grid = grid.unflatten(0, (-1, views) if len(cells) > 1 or views == 1 else (1, 1))
        order = [letter for d in dimensions for letter, _ in d if letter != "C"]
        absent = [letter for letter in "NnHhWw" if letter not in order]
        grid = grid.permute(["NnHhWw".index(letter) for letter in (*absent, *order)])
        there, unit, spread = iter(grid.shape[len(absent) :]), [], []
        for dimension in dimensions:
            for letter, size in dimension:
                unit.append(1 if letter == "C" else next(there))
                spread.append(size if len(dimension) > 1 else unit[-1])
        lengths, at = [], 0
        for dimension in dimensions:
            lengths.append(math.prod(spread[at : at + len(dimension)]))
            at += len(dimension)
        return grid.reshape(unit).expand(spread).reshape(lengths)

    def behind(self, window: Geometry) -> Mask:
        """The mask of what a windowed operation makes of this map."""
        return self.mask.behind(window, self.run.propagation.policy)

    def uncover(self) -> None:
        """Let missing cells be ordinary cells that hold 0."""
        if not self.mask.full:
            zeroed = self.zeroed()
            self.raw, self.mask, self._aliases = zeroed, self.mask.uncovered(), [weakref.ref(self)]

    def zeroed(self) -> Tensor:
        """The values, with 0 in missing cells."""
        return self.raw if self.mask.full else torch.where(self.over(self.mask.kept), self.raw, 0)


class MaskedVector(Carrier):
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

    def become_map(self, operands: tuple[Any, ...]) -> None:
        """Turn a constant of the forward into a map, all frame: a map is about to be written into it."""
        source = next((a for a in operands if isinstance(a, MaskedMap)), None)
        if source is None or source.raw.dim() != self.raw.dim() or torch.compiler.is_compiling():
            return
        sizes = {"N": len(source.mask.visible), "H": source.mask.size[0], "W": source.mask.size[1]}
        for axis, length in zip(source.axes, self.raw.shape, strict=True):
            if axis in sizes:
                sizes[axis] = length
            elif axis != "C":
                return
        cells = torch.zeros(sizes["N"], 1, sizes["H"], sizes["W"], dtype=torch.bool, device=self.raw.device)
        self.__class__ = MaskedMap.guarded
        vars(self).update(axes=source.axes, mask=Mask.constant(Mask(cells)))


class Guarded:
    """What a carrier is outside ``torch.compile``, whose tracing calls nothing behind a carrier's back."""

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Refuse: code that does not ask ``__torch_function__`` would strip the mask."""
        run = next(carriers_in((args, kwargs))).run
        if run.over:
            return func(*replace_carriers(args, Carrier, lambda c: c.plain()), **(kwargs or {}))
        run.refusal = MaskLostError(
            f"{func} in {run.whereabouts()} reached the values of a masked activation without asking "
            "for its rule (scripted functions, torch.tensor(t), numpy conversions and vmap do); "
            "use the plain PyTorch function there."
        )
        raise run.refusal


MaskedMap.guarded = type("MaskedMap", (Guarded, MaskedMap), {})
MaskedVector.guarded = type("MaskedVector", (Guarded, MaskedVector), {})


def _require_fit(raw: Tensor, mask: Mask, axes: Axes) -> None:
    """Raise where mask and values cannot belong together (sizes only)."""
    shape, (images, _, rows, columns) = raw.shape, mask.visible.shape
    if axes == NCHW:
        fits = len(shape) == 4 and (shape[0], shape[2], shape[3]) == (images, rows, columns)
    else:
        fits = len(axes) == len(shape) and _sizes_fit(axes, tuple(shape), images, rows, columns)
    if not fits:
        raise MisfitError(
            f"values of shape {tuple(shape)} with axes {' '.join(axes)} were given the mask of {images} "
            f"images of {rows}×{columns} cells; a rule must return the mask of what it returns."
        )


@functools.lru_cache(maxsize=4096)
def _sizes_fit(axes: Axes, shape: tuple[int, ...], images: int, rows: int, columns: int) -> bool:
    dimensions = factors(axes, shape, images, (rows, columns))
    named = [factor for dimension in dimensions for factor in dimension if factor[0] != "C"]
    sizes = dict(named)
    wholes = (("N", "n", images), ("H", "h", rows), ("W", "w", columns))
    return (
        len(sizes) == len(named)
        and all(math.prod(n for _, n in d) == length for d, length in zip(dimensions, shape, strict=True))
        and all(sizes.get(outer, 1) * sizes.get(inner, 1) == n for outer, inner, n in wholes)
    )


def _operands(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Carrier]:
    """The carriers among the arguments of a call; most have them in front, and few in lists."""
    found: list[Carrier] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, Carrier):
            found.append(value)
        elif isinstance(value, (tuple, list, dict)):
            found.extend(carriers_in(value))
    return found


def carriers_in(tree: Any) -> Iterator[Carrier]:
    """The carriers in nested tuples, lists and dicts."""
    if isinstance(tree, Carrier):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for branch in tree:
            yield from carriers_in(branch)
    elif isinstance(tree, dict):
        yield from carriers_in(list(tree.values()))


def replace_carriers(tree: Any, kind: type[Carrier], change: Callable[[Any], Any]) -> Any:
    """The same nested tuples, lists and dicts with every carrier of a kind changed."""
    if isinstance(tree, kind):
        return change(tree)
    if isinstance(tree, (tuple, list)) and _holds(tree, kind):
        branches = [replace_carriers(branch, kind, change) for branch in tree]
        return branches if isinstance(tree, list) else tuple(branches)
    if isinstance(tree, dict):
        return {key: replace_carriers(branch, kind, change) for key, branch in tree.items()}
    return tree


def _holds(tree: tuple[Any, ...] | list[Any], kind: type[Carrier]) -> bool:
    for branch in tree:
        if isinstance(branch, kind) or (isinstance(branch, (tuple, list)) and _holds(branch, kind)):
            return True
        if isinstance(branch, dict) and _holds(list(branch.values()), kind):
            return True
    return False


def _writes(function: Function) -> bool:
    """Whether a function changes its first operand in place."""
    name = getattr(function, "__name__", "")
    return name in ("__setitem__", "copy_") or name.startswith("__i") or (name[-1:] == "_" != name[-2:-1])


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
    plain_args, plain_kwargs = replace_carriers((args, kwargs), Carrier, lambda c: c.raw)
    result = func(*plain_args, **plain_kwargs)
    if not _tensors_in(result):
        carriers[0].run.left.extend(sources)
    own = {id(c.raw): c for c in carriers}

    def carry(tensor: Tensor) -> Carrier:
        written = own.get(id(tensor))
        if written is None:
            return MaskedVector(tensor, sources, carriers[0].run)
        written.sources = sources  # type: ignore[attr-defined]
        return written

    return _carried(result, carry)


def _refuse_lost_gradients(result: Any, carriers: Sequence[Carrier]) -> None:
    """Let backward raise where the model's own ``autograd.Function`` made this of what needs gradients."""
    source = next((c.raw for c in carriers if c.raw.requires_grad), None)
    if source is None or not inside_custom_function():
        return
    for made in carriers_in(result):
        if made.raw.is_floating_point() and not made.raw.requires_grad:
            made.raw = refusing(made.raw, source)


def _tensors_in(tree: Any) -> bool:
    if isinstance(tree, (tuple, list)):
        return any(map(_tensors_in, tree))
    return isinstance(tree, Tensor)


def _carried(tree: Any, carry: Callable[[Tensor], Carrier]) -> Any:
    """The same nested tuples and lists with every tensor in a carrier."""
    if isinstance(tree, Tensor):
        return carry(tree)
    if isinstance(tree, (tuple, list)):
        branches = [_carried(branch, carry) for branch in tree]
        return type(tree)(*branches) if hasattr(tree, "_fields") else type(tree)(branches)
    return tree


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def function_name(function: Function) -> str:
    """The name under which PyTorch's users know a function."""
    return resolve_name(function) or getattr(function, "__qualname__", str(function))


def no_rule(func: Function, args: Any, kwargs: Any) -> Any:
    """The rule of every operation that has none."""
    raise NoRuleError("this operation has no layer-masking rule; give it one with captum_layermask.rule_for.")
