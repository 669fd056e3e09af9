"""A masked model is checked against what layer masking promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_layermask.activation import MaskedMap, Run, carriers_in
from captum_layermask.errors import InputError
from captum_layermask.layer_masking import LayerMaskedForward, unwrapped
from captum_layermask.missing import visible_pixels
from captum_layermask.registry import Function
from captum_layermask.trace import Step, Trace

__all__ = ["Check", "check_masking"]

_NOISE = 1e3
_INSIDE = "model."
_TOLERANCE = {torch.float64: 1e-9}
_TOLERANCE_ELSE = 1e-4


@dataclass(frozen=True)
class Check:
    """What one model did under layer masking; ``print`` it to see each promise.

    Attributes:
        identity: relative change of the output with nothing masked (S1).
        pixels: whether NaN behind the mask leaves every bit of the output (S2).
        cells: relative change of the output when the missing cells of every activation hold noise (S2).
        reads: the first operation whose visible cells that noise changes, None if none does.
        invents: the first operation that makes a cell visible of a wholly masked image, None if none
            does (S5) or the forward stops masking on the way (its option ``until``).
        tolerance: what counts as rounding in ``identity`` and ``cells``.
    """

    identity: float
    pixels: bool
    cells: float
    reads: Step | None
    invents: Step | None
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether every promise is kept."""
        near = self.identity <= self.tolerance and self.cells <= self.tolerance
        return near and self.pixels and self.reads is None and self.invents is None

    def __str__(self) -> str:
        rows = (
            ("nothing masked, nothing changed", f"{self.identity:.0e}", self.identity <= self.tolerance),
            ("NaN behind the mask, the same bits", "", self.pixels),
            ("noise in missing cells, nothing changed", _or(self.reads, f"{self.cells:.0e}"), not self.reads),
            ("of nothing, nothing visible", _or(self.invents, ""), self.invents is None),
        )
        return "\n".join(
            f"{'ok  ' if ok else 'FAIL'}  {what:<41}{found}".rstrip() for what, found, ok in rows
        )


def _or(step: Step | None, found: str) -> str:
    if step is None:
        return found
    where = step.module.removeprefix(_INSIDE) or "the model's own forward"
    return f"first in {where}: {step.operation} (rule {step.rule})"


@torch.no_grad()
def check_masking(forward: LayerMaskedForward, x: Tensor, mask: Tensor, *extra: Any) -> Check:
    """Check that a model, and the rules you gave it, keep what layer masking promises.

    The model runs five times. The check that finds a rule that forgets its mask overwrites the missing cells
    of every activation, after every operation, with random values around 1e3: nothing may read them.

    Args:
        forward: the masked model.
        x: images, N×C×H×W, floating point, without NaN; real ones or noise. In float64 (a model and images
            after ``.double()``) rounding hides less.
        mask: as for a call of ``forward``; something must be missing.
        *extra: further positional arguments of the model.

    Returns:
        What was found; ``check.passed`` says whether every promise is kept.

    Raises:
        InputError: nothing is missing.
        NoRuleError: the model uses an operation that has no masked version.
    """
    visible, full, _ = visible_pixels(x, mask)
    if full:
        raise InputError("nothing is missing in this mask; hide a part of the image to check the rest.")
    forward = LayerMaskedForward(
        _Copied(forward.model),
        propagation=forward.propagation,
        concat=forward.concat,
        padding=forward.padding,
        until=_INSIDE + forward.until if isinstance(forward.until, str) else forward.until,
    )
    plain, unmasked = _tensors(forward.model(x.clone(), *extra)), _tensors(forward(x.clone(), *extra))
    clean, noisy, empty = Trace(outputs=True), Trace(outputs=True), Trace()

    def scrambled(*event: Any) -> None:
        noisy.observe(*event)
        scramble(*event)

    answer = _tensors(forward._observed(x.clone(), extra, mask, clean.observe))
    moved = _tensors(forward._observed(x.clone(), extra, mask, scrambled))
    hidden = _tensors(forward(torch.where(visible, x, torch.nan), *extra, mask=mask))
    if forward.until is None:
        forward._observed(x.clone(), extra, torch.zeros_like(visible), empty.observe)
    tolerance = _TOLERANCE.get(x.dtype, _TOLERANCE_ELSE)
    steps = zip(clean, noisy, strict=True)
    return Check(
        identity=max(map(relative, unmasked, plain)),
        pixels=all(map(torch.equal, hidden, answer)),
        cells=max(map(relative, moved, answer)),
        reads=next((a for a, b in steps if not _near(b.output, a.output, tolerance)), None),
        invents=next((step for step in empty if step.visible), None),
        tolerance=tolerance,
    )


class _Copied(nn.Module):
    """A model on a copy of its image: missing pixels can be overwritten before anything reads them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, *extra: Any) -> Any:
        return self.model(x.clone(), *extra)


def scramble(run: Run, function: Function, rule: str, result: Any) -> None:
    """An observer that overwrites whatever the mask calls missing with large random values."""
    for carrier in carriers_in(result):
        if isinstance(carrier, MaskedMap) and carrier.raw.is_floating_point():
            missing = carrier.over(carrier.mask.missing)
            scrambled = torch.where(missing, torch.randn_like(carrier.raw) * _NOISE, carrier.raw)
            if 0 in carrier.raw.stride():  # an expanded tensor cannot be written to
                carrier.raw = scrambled
            else:
                carrier.raw.copy_(scrambled)


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference relative to the largest value of ``b``."""
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30))


def _near(a: Tensor | None, b: Tensor | None, tolerance: float) -> bool:
    assert a is not None and b is not None
    return not b.numel() or relative(a.double(), b.double()) <= tolerance


def _tensors(output: Any) -> list[Tensor]:
    """The tensors in a model's output."""
    found: list[Tensor] = []

    def collect(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    unwrapped(output, collect)
    return found
