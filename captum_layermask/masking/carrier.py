"""A tensor in a masked forward: its values are a plain tensor beside it, which code cannot reach unseen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from captum_layermask.errors import InplaceError, MaskLostError
from captum_layermask.masking.compiling import stand_in, tracing
from captum_layermask.masking.memory import Memory
from captum_layermask.masking.run import Run
from captum_layermask.masking.signatures import Function
from captum_layermask.masking.trees import instances, replaced
from captum_layermask.masking.unruled import ITSELF, PERHAPS_A_VIEW, RESHAPES


class Carrier(Tensor):
    """Base of the two kinds of activation inside a masked forward.

    ``raw`` holds the values as a plain tensor and ``run`` what the whole forward shares.
    """

    raw: Tensor
    run: Run
    guarded: ClassVar[type[Any]]
    memory: Memory

    @staticmethod
    def _around(cls: type[Any], raw: Tensor, run: Run) -> Any:
        if tracing():
            carrier = stand_in(raw.device).as_subclass(cls)
        else:
            carrier = raw.detach().as_subclass(cls.guarded)
        carrier.raw = raw
        carrier.run = run
        carrier.memory = Memory(carrier)
        return carrier

    def plain(self) -> Tensor:
        """The values as a plain tensor, with 0 in missing cells."""
        return self.raw

    def unmask(self) -> None:
        """Let missing cells be ordinary cells that hold 0, where there are any."""

    def twin(self) -> Carrier:
        """The same activation in memory of its own, as far as writing goes."""
        raise NotImplementedError

    def others(self) -> list[Carrier]:
        """The other living tensors that share this one's memory."""
        return self.memory.shared_with(self)

    def copies(self, other: Carrier) -> None:
        """Note that ``other`` has memory of its own, and perhaps the same as this in the plain network."""
        self.memory.become_kin(other.memory)

    def require_current(self, reader: str) -> None:
        """Raise where this holds values from before a change that the plain network would see here."""
        if self.memory.outdated:
            raise InplaceError(
                f"{reader}: this tensor is a view of one that has been changed in place since, or the other "
                "way round, and may hold the values from before; use the operation that returns a new tensor."
            )

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        if self.run.over:
            return repr(self.plain())
        return f"{type(self).__name__}({tuple(self.raw.shape)})"


class Guarded:
    """What a carrier is outside ``torch.compile``, whose tracing calls nothing unseen by its rules."""

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Refuse: code that does not go through ``__torch_function__`` would strip the mask."""
        run = next(instances((args, kwargs), Carrier)).run
        if run.over:
            return func(*replaced(args, Carrier, lambda c: c.plain()), **(kwargs or {}))
        if func is torch.ops.aten.set_.default:
            return args[0]  # memory is given back early; nothing reads the tensor any more
        run.refusal = MaskLostError(
            f"{func} in {run.whereabouts()} reached the values of a masked activation without going "
            "through its rule (scripted functions, torch.tensor(t), numpy conversions and vmap do); "
            "use the plain PyTorch function there."
        )
        raise run.refusal


def tracked(func: Function, result: Any, carriers: Sequence[Carrier]) -> Any:
    """The result of an operation, once it is noted what was written and who shares memory."""
    if func in PERHAPS_A_VIEW and isinstance(result, Carrier):
        made = result if result is not carriers[0] else result.twin()
        carriers[0].copies(made)
        return made
    for made in instances(result, Carrier):
        if any(made is used for used in carriers):
            if func not in ITSELF:
                made.memory.written()
            continue
        for used in carriers:
            if _storage(made.raw) == _storage(used.raw) and not made.memory.has_kin:
                used.memory.take_in(made)
                break
        else:
            if func in RESHAPES:
                carriers[0].copies(made)
    return result


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
