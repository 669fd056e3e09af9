"""Layer masking: the network runs on the visible pixels alone."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import captum_layermask.rules  # noqa: F401  (registers every rule)
from captum_layermask.errors import (
    InputError,
    MaskLostError,
    VanishedWarning,
    require_known,
)
from captum_layermask.masking.activation import MaskedMap
from captum_layermask.masking.boundary import BOUNDARIES, Boundary
from captum_layermask.masking.carrier import Carrier
from captum_layermask.masking.compiling import (
    counts_in_graphs,
    refusal,
    require_numbers,
    tracing,
    untraced,
    untraced_itself,
    while_tracing,
)
from captum_layermask.masking.layout import NCHW
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.module_rules import with_module_rules
from captum_layermask.masking.propagation import PROPAGATIONS, Propagation
from captum_layermask.masking.run import Observer, Run, function_name
from captum_layermask.masking.signatures import Function
from captum_layermask.masking.trace import Trace
from captum_layermask.removals.arguments import Call
from captum_layermask.removals.base import RemovalForward

CONCAT = ("intersection", "union")


class LayerMaskedForward(RemovalForward):
    """A network that looks at the visible pixels alone (layer masking, Balasubramanian & Feizi).

    Every activation of the model carries a mask; a layer that looks at neighbours first fills the boundary
    of the missing region from its visible neighbours, attention gives a missing token no weight, and no
    missing cell is ever read. The model runs unmodified. Use it as Captum's ``forward_func`` with
    ``baselines=MISSING``.

    Args:
        model: a vision network (convolutions, attention, or both) in eval mode. Preprocessing that works on
            single pixels (scaling, mean and standard deviation) belongs inside it, as in
            ``nn.Sequential(normalize, model)``: outside, it would turn MISSING into an ordinary dark pixel.
        propagation: which cells of the output of a convolution or a pool are visible: ``"anchored"``, as in
            the paper while maps keep their size, and where a map shrinks, what its mask had grown by is
            forgotten; or ``"paper"``, every cell whose window has a visible cell (docs/propagation.md); or a
            ``Propagation`` of your own (``captum_layermask.masking.propagation``).
        concat: which cells of concatenated maps are visible: ``"intersection"``, where all of them are, as
            for a sum; or ``"union"``, where any of them is, each map being 0 where it is missing itself.
        padding: what windows read in the missing region: ``"neighbor"``, layer masking; or for comparison
            ``"zero"`` (the paper's ablation, Table 3) or ``"partial"`` (partial convolution, Liu et al.); or
            a function of your own like those in ``captum_layermask.masking.boundary``.
        until: the path of the last module that is masked, such as ``"layer2"``, or the number of operations
            that slide a window (convolutions, pools) that are; from there on the plain network runs, with 0
            in what is missing (Table 3). None masks all of it.
        max_batch: at most so many images at once; a larger batch runs in parts, which bounds memory. Tensors
            among the other arguments that have a row for each image are split too. None runs every batch
            whole.

    Raises:
        InputError: a model that is scripted or no module, or an option out of range.
        UnknownNameError: an option, or a module's path, that there is not.

    Example:
        ```python
        forward = LayerMaskedForward(model)
        Lime(forward).attribute(image, baselines=MISSING, feature_mask=segments)
        ```

    A call returns what the model returns, with plain tensors; a map in it holds 0 in missing cells. Besides
    the errors of ``RemovalForward.forward`` it raises ``NoRuleError``, where the model uses an operation that
    has no masked version, and ``MaskLostError``, where an output, or an operation inside the model, no longer
    knows which cells are missing.

    Source: §3 of Balasubramanian & Feizi; ``docs/semantics.md`` lists what goes beyond it.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        propagation: str | Propagation = "anchored",
        concat: str = "intersection",
        padding: str | Boundary = "neighbor",
        until: str | int | None = None,
        max_batch: int | None = None,
    ) -> None:
        super().__init__(model)
        if isinstance(model, torch.jit.ScriptModule):
            raise InputError("a scripted model cannot carry masks; pass the Python model it was made from.")
        for option, value, known, is_own in (
            ("propagation", propagation, tuple(PROPAGATIONS), isinstance(propagation, Propagation)),
            ("concat", concat, CONCAT, False),
            ("padding", padding, tuple(BOUNDARIES), callable(padding)),
        ):
            if not is_own:
                require_known(option, str(value), known, f"Use one of {', '.join(known)}.")
        if isinstance(until, int) and until < 1:
            raise InputError(f"until is {until}; give at least 1 operation, or the path of a module.")
        if isinstance(until, str):
            modules = [name for name, _ in model.named_modules() if name]
            require_known("module", until, modules, "Give the path of a module of the model.")
        if max_batch is not None and max_batch < 1:
            raise InputError(f"max_batch is {max_batch}; give at least 1 image.")
        self.propagation, self.concat, self.padding = propagation, concat, padding
        self.until, self.max_batch = until, max_batch
        self._warned_vanished = False
        self._last = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what the last call of each thread left, which belongs to that thread."""
        return {key: value for key, value in vars(self).items() if key != "_last"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin with no call made."""
        super().__setstate__(state)
        self._last = threading.local()

    @untraced_itself
    def predict(self, image: Tensor, mask: Mask, call: Call) -> Any:
        """Predict from the visible pixels alone (see ``RemovalForward.predict``)."""
        n = len(image)
        if self.max_batch is None or n <= self.max_batch:
            return self._whole(image, mask, call)
        results, arrived = [], []
        for start in range(0, n, self.max_batch):
            part = slice(start, start + self.max_batch)
            result, rows = self._run(image[part], mask.of_images(part), call.of_images(part, n))
            results.append(result)
            arrived.append(rows)
        whole = joined(results)
        self._note_vanished(mask.visible, torch.cat(arrived))
        return whole

    @untraced
    def _split(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], mask: Tensor | None
    ) -> tuple[Tensor, Mask, Call]:
        self._last.vanished = None  # a call that fails leaves nothing of the one before
        return super()._split(args, kwargs, mask)

    def _observed(self, x: Tensor, extra: Any, mask: Tensor | None, observe: Observer | None) -> Any:
        return self._whole(*self._split((x, *extra), {}, mask), observe)

    @untraced_itself
    def _whole(self, image: Tensor, mask: Mask, call: Call, observe: Observer | None = None) -> Any:
        result, arrived = self._run(image, mask, call, observe)
        self._note_vanished(mask.visible, arrived)
        return result

    @untraced_itself
    def _run(
        self, image: Tensor, mask: Mask, call: Call, observe: Observer | None = None
    ) -> tuple[Any, Tensor]:
        """The output, and for which samples a visible pixel reached it (bool, N)."""
        module, windows = (None, self.until) if isinstance(self.until, int) else (self.until, None)
        model = with_module_rules(self.model, module)
        run = Run(
            model,
            observe,
            propagation=_named(self.propagation, PROPAGATIONS),
            concat=self.concat,
            padding=_named(self.padding, BOUNDARIES),
            masked_windows=windows,
        )
        try:
            with counts_in_graphs():
                result, arrived, compiled = _through(model, image, mask.visible, mask.full, call, run)
        except MaskLostError as error:
            if observe is None:
                raise MaskLostError(f"{error} {self._last_seen(image, mask, call)}") from None
            raise
        except Exception as error:
            if run.refusal is not None:  # TorchScript reports it as an error of its own
                raise run.refusal from None
            if while_tracing(error):
                raise refusal(str(error).strip().splitlines()[0]) from error
            raise
        finally:
            run.over = True
        if compiled:
            require_numbers(result)
        return result, arrived

    def _last_seen(self, image: Tensor, mask: Mask, call: Call) -> str:
        """Run once more, noting where the mask was seen last."""
        seen = "It was never seen by an operation."

        def observe(run: Run, function: Function, rule: str, result: Any) -> None:
            nonlocal seen
            seen = f"It was last seen by {function_name(function)} in {run.whereabouts()}."

        with contextlib.suppress(MaskLostError):
            self._run(image, mask, call, observe)
        return seen

    def trace(self, *args: Any, mask: Tensor | None = None, outputs: bool = False, **kwargs: Any) -> Trace:
        """Run once and list every operation: module, function, rule, shape, visible share, padding.

        Args:
            *args: as for a call.
            mask: as for a call.
            outputs: keep a copy of every output, with 0 in missing cells, and its mask.
            **kwargs: as for a call.

        Returns:
            The steps, in the order they ran.

        Raises:
            LayerMaskError: as for a call.
        """
        trace = Trace(outputs)
        self._whole(*self._split(args, kwargs, mask), trace.observe)
        return trace

    @property
    def vanished(self) -> Tensor | None:
        """Which samples of this thread's last call had visible pixels but lost them all inside the network.

        Bool, N; None before the first call and after one that failed. Their prediction is that of the
        head without evidence.
        """
        return getattr(self._last, "vanished", None)

    @untraced
    def _note_vanished(self, visible: Tensor, arrived: Tensor) -> None:
        vanished = visible.flatten(1).any(1) & ~arrived
        if not self._warned_vanished and bool(vanished.any()):
            self._warned_vanished = True
            warnings.warn(
                "a sample had visible pixels, but none reached the head of the network, so its prediction "
                "is the one for an empty image; forward.vanished tells which (warned once).",
                VanishedWarning,
                stacklevel=3,
            )
        self._last.vanished = vanished


def _named(choice: Any, known: Mapping[str, Any]) -> Any:
    """What a name stands for; anything else is the thing itself."""
    return known[choice] if isinstance(choice, str) else choice


def _through(
    model: nn.Module, image: Tensor, visible: Tensor, full: bool, call: Call, run: Run
) -> tuple[Any, Tensor, bool]:
    """The output for the visible pixels, for which samples any reached it (bool, N), and if this is compiled.

    What ``torch.compile`` makes one graph of: nothing but plain tensors goes in or comes out.
    """
    output = call(model, MaskedMap(image, Mask(visible, full=full), NCHW, run))
    carriers: list[Carrier] = []
    result = unwrapped(output, lambda tensor: _plain(tensor, carriers))
    if not carriers and _has_tensors(result):
        raise MaskLostError("the model returned a tensor that no longer carries a mask.")
    sources = [*run.left]
    for carrier in carriers:
        sources += [carrier.mask] if isinstance(carrier, MaskedMap) else carrier.sources  # type: ignore[attr-defined]
    if not sources:
        everywhere = torch.ones(len(image), dtype=torch.bool, device=image.device)
        return result, everywhere, tracing()
    arrived = torch.zeros(len(image), dtype=torch.bool, device=image.device)
    for mask in dict.fromkeys(sources):
        rows = mask.visible.flatten(1).any(1)
        if mask.images is not None:
            bits = [[images >> i & 1 for images in mask.images] for i in range(len(image))]
            rows = (torch.tensor(bits, dtype=torch.bool, device=image.device) & rows).any(1)
        arrived = arrived | rows
    return result, arrived, tracing()


def _plain(tensor: Tensor, carriers: list[Carrier]) -> Tensor:
    """The values of a carrier; a tensor that is none is a constant of the model, and stays what it is."""
    if not isinstance(tensor, Carrier):
        return tensor
    tensor.require_current("the model's output")
    carriers.append(tensor)
    return tensor.plain()


def _has_tensors(output: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(output))


def unwrapped(output: Any, plain: Callable[[Tensor], Tensor]) -> Any:
    """The same nested containers, dataclasses and objects with every tensor made plain."""

    def leaf(value: Any) -> Any:
        if isinstance(value, Tensor):
            return plain(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
            return dataclasses.replace(value, **unwrapped(fields, plain))
        if isinstance(value, (set, frozenset)):
            return type(value)(unwrapped(list(value), plain))
        if isinstance(value, Iterator) and not hasattr(value, "__dict__"):
            return iter(unwrapped(list(value), plain))
        if any(isinstance(part, Carrier) for part in getattr(value, "__dict__", {}).values()):
            twin = copy.copy(value)
            vars(twin).update(unwrapped(vars(value), plain))
            return twin
        return value

    return pytree.tree_map(leaf, output)


def joined(outputs: Sequence[Any]) -> Any:
    """The outputs for parts of a batch as the output for all of it.

    Raises:
        InputError: an output has a tensor without a row for each image.
    """
    tensors: list[Tensor] = []

    def collect(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    for output in outputs:
        unwrapped(output, collect)
    if any(tensor.dim() == 0 for tensor in tensors):
        raise InputError("the model returned a number for the whole batch; leave out max_batch.")
    count = len(tensors) // len(outputs)
    whole = iter([torch.cat(tensors[i::count]) for i in range(count)])
    return unwrapped(outputs[0], lambda _: next(whole))
