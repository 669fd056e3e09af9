"""The mask travels with the activation, through the unmodified code of any model.

A carrier is a ``torch.Tensor`` subclass whose values are a plain tensor beside it. PyTorch hands every
function called on a carrier to ``__torch_function__``, which looks up the function's rule; whatever
reaches the tensor behind PyTorch's back ends in ``Guarded.__torch_dispatch__``, which refuses.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.overrides import resolve_name

from captum_layermask.errors import InplaceError, LayerMaskError, MaskLostError, NoRuleError
from captum_layermask.gradients import inside_custom_function, refusing
from captum_layermask.mask import Mask
from captum_layermask.propagation import PROPAGATIONS, Propagation
from captum_layermask.registry import RULES, Function, spellings
from captum_layermask.windows import Geometry

FUNCTIONS = (
    "new_tensor new_zeros new_ones new_empty new_full zeros_like ones_like empty_like full_like rand_like "
    "randn_like size dim ndimension numel nelement element_size is_contiguous stride storage_offset "
    "get_device is_floating_point is_complex is_signed is_same_size len is_inference result_type can_cast"
)
PROPERTIES = (
    "shape ndim dtype device layout itemsize nbytes requires_grad is_leaf grad_fn is_cuda is_cpu is_meta "
    "is_mps is_xpu is_mkldnn is_quantized is_sparse is_nested"
)
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

    @staticmethod
    def _around(cls: type[Any], raw: Tensor, run: Run) -> Any:
        carrier = raw.detach().as_subclass(cls if torch.compiler.is_compiling() else cls.guarded)
        carrier.raw = raw
        carrier.run = run
        carrier._aliases = [weakref.ref(carrier)]
        return carrier

    def uncover(self) -> None:
        """Let missing cells be ordinary cells that hold 0, where there are any."""

    def _share_storage_with(self, other: Carrier) -> None:
        if torch.compiler.is_compiling():
            return
        if other is not self and _storage(self.raw) == _storage(other.raw):
            self._aliases = other._aliases
            self._aliases.append(weakref.ref(self))

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
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
            args, kwargs = replace_carriers((args, kwargs), Carrier, lambda c: c.raw)
            return func(*args, **kwargs)
        carriers = tuple(carriers_in((args, kwargs)))
        run = carriers[0].run
        if run.ended:
            for carrier in carriers:
                carrier.uncover()
        if any(isinstance(c, MaskedMap) for c in carriers):
            rule = RULES.get(func, no_rule)
            run.padded = False
            name, positioned = rule.__name__, replace_carriers((args, kwargs), MaskedVector, lambda c: c.raw)
            try:
                result = rule(func, *positioned)
            except LayerMaskError as error:
                raise type(error)(f"{function_name(func)} in {run.whereabouts()}: {error}") from None
        else:
            name, result = "as usual", _as_usual(func, args, kwargs, carriers)
        for made in carriers_in(result):
            for used in carriers:
                made._share_storage_with(used)
        if run.grad and not torch.is_grad_enabled():
            _refuse_lost_gradients(result, carriers)
        if run.observe is not None:
            run.observe(run, func, name, result)
        return result


class MaskedMap(Carrier):
    """An activation with a position for every cell, and the mask that says which cells are there.

    Args:
        raw: the values; what missing cells hold is unspecified, so a rule that reads neighbours, reduces
            over space or flattens must look at ``mask`` first.
        mask: which cells are visible, missing or frame.
        axes: a letter for every dimension of ``raw``: N batch, H rows, W columns, S rows and columns
            flattened into one, C anything without a position (``"NCHW"``, channels-last ``"NHWC"``,
            grouped channels ``"NCCHW"``, tokens ``"NSC"``), h and w offsets inside blocks of rows and
            columns whose blocks H and W then count. An axis of one cell may be left out.
        run: what the whole forward shares.
    """

    mask: Mask
    axes: str

    def __new__(cls, raw: Tensor, mask: Mask, axes: str, run: Run) -> MaskedMap:
        """Pair values and mask."""
        self: MaskedMap = Carrier._around(cls, raw, run)
        self.mask, self.axes = mask, axes
        return self

    def like(self, raw: Tensor, mask: Mask | None = None, axes: str | None = None) -> MaskedMap:
        """A map of the same forward with other values and, where given, another mask or other axes.

        Where ``raw`` is this map's own tensor, changed in place, it is this map that is updated.
        """
        mask, axes = mask or self.mask, axes or self.axes
        if raw is not self.raw:
            return MaskedMap(raw, mask, axes, self.run)
        if mask is not self.mask:
            self._forbid_live_aliases()
        self.mask, self.axes = mask, axes
        return self

    def _forbid_live_aliases(self) -> None:
        if any(other is not None and other is not self for other in (ref() for ref in self._aliases)):
            raise InplaceError(
                "this in-place operation would change which cells are missing in a tensor that shares its "
                "memory (a view or its base); use the operation that returns a new tensor."
            )

    def pooled(self, raw: Tensor) -> MaskedVector:
        """What remains of this map once its positions are gone."""
        return MaskedVector(raw, (self.mask,), self.run)

    def over(self, cells: Tensor) -> Tensor:
        """Cells of the mask (N×1×H×W), laid out so that they broadcast against ``raw``."""
        if self.axes == "NCHW":
            return cells
        named = "NCHW"
        if "S" in self.axes:
            cells, named = cells.flatten(2), "NCS"
        for coarse, fine in ("Hh", "Ww"):
            if fine in self.axes:
                block = self.raw.shape[self.axes.index(fine)]
                cells = cells.unflatten(named.index(coarse), (-1, block))
                named = named.replace(coarse, coarse + fine)
        kept = [axis for axis in named if axis in self.axes and axis != "C"]
        cells = cells[tuple(slice(None) if axis in kept else 0 for axis in named)]
        cells = cells.permute([kept.index(axis) for axis in self.axes if axis != "C"])
        return cells[tuple(None if axis == "C" else slice(None) for axis in self.axes)]

    def behind(self, window: Geometry) -> Mask:
        """The mask of what a windowed operation makes of this map."""
        return self.mask.behind(window, self.run.propagation.policy)

    def uncover(self) -> None:
        """Let missing cells be ordinary cells that hold 0."""
        if not self.mask.full:
            self.raw, self.mask = self.zeroed(), self.mask.uncovered()

    def zeroed(self) -> Tensor:
        """The values, with 0 in missing cells."""
        return self.raw if self.mask.full else torch.where(self.over(self.mask.kept), self.raw, 0)


class MaskedVector(Carrier):
    """An activation without positions: after pooling or flattening the network runs as usual (S9).

    Args:
        raw: the values.
        sources: the masks of the maps it came from.
        run: what the whole forward shares.
    """

    sources: tuple[Mask, ...]

    def __new__(cls, raw: Tensor, sources: tuple[Mask, ...], run: Run) -> MaskedVector:
        """Remember where the values came from."""
        self: MaskedVector = Carrier._around(cls, raw, run)
        self.sources = sources
        return self


class Guarded:
    """What a carrier is outside ``torch.compile``, whose tracing calls nothing behind a carrier's back."""

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Refuse: code that does not ask ``__torch_function__`` would strip the mask."""
        run = next(carriers_in((args, kwargs))).run
        raise MaskLostError(
            f"{func} in {run.whereabouts()} reached the values of a masked activation without asking "
            "for its rule (scripted functions, torch.tensor(t), numpy conversions and vmap do); "
            "use the plain PyTorch function there."
        )


MaskedMap.guarded = type("MaskedMap", (Guarded, MaskedMap), {})
MaskedVector.guarded = type("MaskedVector", (Guarded, MaskedVector), {})


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
    if isinstance(tree, (tuple, list)) and any(True for _ in carriers_in(tree)):
        branches = [replace_carriers(branch, kind, change) for branch in tree]
        return branches if isinstance(tree, list) else tuple(branches)
    if isinstance(tree, dict):
        return {key: replace_carriers(branch, kind, change) for key, branch in tree.items()}
    return tree


def _as_usual(func: Function, args: Any, kwargs: Any, carriers: tuple[Carrier, ...]) -> Any:
    sources = tuple(dict.fromkeys(mask for c in carriers for mask in c.sources))  # type: ignore[attr-defined]
    plain_args, plain_kwargs = replace_carriers((args, kwargs), Carrier, lambda c: c.raw)
    result = func(*plain_args, **plain_kwargs)
    own = {id(c.raw): c for c in carriers}
    return _carried(result, lambda t: own.get(id(t), MaskedVector(t, sources, carriers[0].run)))


def _refuse_lost_gradients(result: Any, carriers: tuple[Carrier, ...]) -> None:
    """Let backward raise where the model's own ``autograd.Function`` made this of what needs gradients."""
    source = next((c.raw for c in carriers if c.raw.requires_grad), None)
    if source is None or not inside_custom_function():
        return
    for made in carriers_in(result):
        if made.raw.is_floating_point() and not made.raw.requires_grad:
            made.raw = refusing(made.raw, source)


def _carried(tree: Any, carry: Callable[[Tensor], Carrier]) -> Any:
    """The same nested tuples and lists with every tensor in a carrier."""
    if isinstance(tree, Tensor):
        return carry(tree)
    if isinstance(tree, (tuple, list)):
        branches = [_carried(branch, carry) for branch in tree]
        return type(tree)(branches) if type(tree) in (tuple, list) else tuple(branches)
    return tree


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def function_name(function: Function) -> str:
    """The name under which PyTorch's users know a function."""
    return resolve_name(function) or getattr(function, "__qualname__", str(function))


def no_rule(func: Function, args: Any, kwargs: Any) -> Any:
    """The rule of every operation that has none."""
    raise NoRuleError("this operation has no layer-masking rule; give it one with captum_layermask.rule_for.")
