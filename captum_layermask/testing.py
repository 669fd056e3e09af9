"""Does a model keep what layer masking promises: yours, with its weights, or a kind of network, with any?"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_layermask.errors import InputError
from captum_layermask.masking.activation import MaskedMap
from captum_layermask.masking.carrier import Carrier
from captum_layermask.masking.run import Run
from captum_layermask.masking.signatures import Function
from captum_layermask.masking.trace import Step, Trace
from captum_layermask.masking.trees import instances
from captum_layermask.removals.layer_masking import LayerMaskedForward, unwrapped
from captum_layermask.removals.missing import visible_pixels

__all__ = ["Check", "Verdict", "check_masking", "check_model", "redraw"]

_NOISE = 1e3
_INSIDE = "model."
_TOLERANCE = {torch.float64: 1e-9}
_TOLERANCE_ELSE = 1e-4


@dataclass(frozen=True)
class Check:
    """What one model did under layer masking; ``print`` it to see each promise.

    Attributes:
        identity: relative change of the output with nothing masked (S1).
        pixels: whether NaN in missing pixels leaves every bit of the output (S2).
        cells: relative change of the output when the missing cells of every activation hold noise (S2).
        reads: the first operation whose visible cells that noise changes, None if none does.
        invents: the first operation that makes a cell visible of a wholly masked image, None if none
            does (S5) or the forward stops masking early (its option ``until``).
        company: relative change of the first image's output when its mirror image comes with it (S14).
        tolerance: what counts as rounding in ``identity``, ``cells`` and ``company``.
    """

    identity: float
    pixels: bool
    cells: float
    reads: Step | None
    invents: Step | None
    company: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether every promise is kept."""
        near = max(self.identity, self.cells, self.company) <= self.tolerance
        return near and self.pixels and self.reads is None and self.invents is None

    def __str__(self) -> str:
        rows = (
            ("nothing masked, nothing changed", f"{self.identity:.0e}", self.identity <= self.tolerance),
            ("NaN in missing pixels, the same bits", "", self.pixels),
            ("noise in missing cells, nothing changed", _or(self.reads, f"{self.cells:.0e}"), not self.reads),
            ("of nothing, nothing visible", _or(self.invents, ""), self.invents is None),
            ("alone or in company, the same", f"{self.company:.0e}", self.company <= self.tolerance),
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

    The model runs eight times. The check that finds a rule that forgets its mask overwrites the missing cells
    of every activation, after every operation, with random values around 1e3: nothing may read them.

    Args:
        forward: the masked model.
        x: images, N×C×H×W, floating point, without NaN; real ones or noise. In float64 (a model and images
            after ``.double()``) less is lost in rounding.
        mask: as for a call of ``forward``; something must be missing.
        *extra: further positional arguments of the model.

    Returns:
        What was found; ``check.passed`` says whether every promise is kept.

    Raises:
        InputError: nothing is missing.
        NoRuleError: the model uses an operation that has no masked version.

    Example:
        ```python
        check = check_masking(LayerMaskedForward(model), image, mask)
        print(check)  # a line for each promise
        assert check.passed
        ```
    """
    visible, full, _ = visible_pixels(x, mask)
    if full:
        raise InputError("nothing is missing in this mask; mask a part of the image to check the rest.")
    forward = LayerMaskedForward(
        _Copied(forward.model),
        propagation=forward.propagation,
        concat=forward.concat,
        padding=forward.padding,
        until=_INSIDE + forward.until if isinstance(forward.until, str) else forward.until,
    )
    seed = torch.initial_seed()

    def run(observe: Any, x: Tensor, mask: Tensor | None, extra: tuple[Any, ...] = extra) -> list[Tensor]:
        """One forward; what the network draws, in dropout that is left on, is the same every time."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return tensors(forward._observed(x.clone(), extra, mask, observe))

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        plain = tensors(forward.model(x.clone(), *extra))
    unmasked = run(None, x, None)
    clean, noisy, empty = Trace(outputs=True), Trace(outputs=True), Trace()
    noise = torch.Generator(x.device).manual_seed(seed % 2**63)

    def scrambled(run: Run, function: Function, rule: str, result: Any) -> None:
        noisy.observe(run, function, rule, result)
        scramble(run, function, rule, result, noise)

    output = run(clean.observe, x, mask)
    moved = run(scrambled, x, mask)
    with_nan = run(None, torch.where(visible, x, torch.nan), visible)
    if forward.until is None:
        run(empty.observe, x, torch.zeros_like(visible))
    alone, pair = (
        run(
            None,
            torch.cat([x[:1], x[:1].flip(-1)][:images]),
            torch.cat([visible[:1], visible[:1].flip(-1)][:images]),
            tuple(e[:1].expand(images, *e.shape[1:]) if _has_rows(e, len(x)) else e for e in extra),
        )
        for images in (1, 2)
    )
    company = [relative(b[:1], a) for a, b in zip(alone, pair, strict=True) if _has_rows(b, 2 * len(a))]
    tolerance = _TOLERANCE.get(x.dtype, _TOLERANCE_ELSE)
    steps = zip(clean, noisy, strict=True)
    return Check(
        identity=max(map(relative, unmasked, plain)),
        pixels=all(map(torch.equal, with_nan, output)),
        cells=max(map(relative, moved, output)),
        reads=next((a for a, b in steps if not _near(b.output, a.output, tolerance)), None),
        invents=next((step for step in empty if step.visible), None),
        company=max(company, default=0.0),
        tolerance=tolerance,
    )


def _has_rows(value: Any, rows: int) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and len(value) == rows > 0


class _Copied(nn.Module):
    """A model on a copy of its image: missing pixels can be overwritten before anything reads them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, *extra: Any) -> Any:
        return self.model(x.clone(), *extra)


def scramble(
    run: Run, function: Function, rule: str, result: Any, generator: torch.Generator | None = None
) -> None:
    """An observer that overwrites whatever the mask calls missing with large random values."""
    for carrier in instances(result, Carrier):
        if isinstance(carrier, MaskedMap) and carrier.raw.is_floating_point():
            scrambled = torch.where(carrier.present, carrier.raw, _noise(carrier.raw, generator))
            if 0 in carrier.raw.stride():  # an expanded tensor cannot be written to
                carrier.raw = scrambled
            else:
                carrier.raw.copy_(scrambled)


def _noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return like.new_empty(like.shape).normal_(generator=generator) * _NOISE


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference relative to the largest value of ``b``."""
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30))


def _near(a: Tensor | None, b: Tensor | None, tolerance: float) -> bool:
    assert a is not None and b is not None
    return not b.numel() or relative(a.double(), b.double()) <= tolerance


def tensors(output: object) -> list[Tensor]:
    """The tensors in a model's output, in order."""
    found: list[Tensor] = []

    def collect(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    unwrapped(output, collect)
    return found


@dataclass(frozen=True)
class Verdict:
    """What one kind of network did under layer masking.

    Attributes:
        identity: relative error of the rows in which nothing is masked (S1).
        depth: relative change when missing cells are scrambled after every operation (S2b).
        pixels: NaN in masked pixels leaves every bit of the output (S2a).
        nothing: an image without a visible pixel gives a finite output and never a visible cell (S5, S10).
        alive: the output does depend on the visible pixels.
    """

    identity: float
    depth: float
    pixels: bool
    nothing: bool
    alive: bool

    def passes(self, tolerance: float) -> bool:
        """Whether every property holds: S1 to 1e-5, S2b to a tolerance that fits the number type."""
        near = self.identity <= 1e-5 and self.depth <= tolerance
        return near and self.pixels and self.nothing and self.alive


def check_model(model: nn.Module, size: int, dtype: torch.dtype = torch.double) -> Verdict:
    """Check a kind of network: every parameter is drawn anew, and so are three images and their masks.

    Faster than ``check_masking``, which looks at every operation and says where a promise is broken.

    Args:
        model: takes images N×3×size×size; its parameters are changed (``redraw``), and their number type.
        size: rows and columns of the images.
        dtype: in float64 rounding hides less.

    Raises:
        NoRuleError: the model uses an operation that has no masked version.

    Example:
        ```python
        assert check_model(torchvision.models.resnet18(), 64).passes(1e-9)
        ```
    """
    model = redraw(model).to(dtype)
    forward = LayerMaskedForward(model)
    nothing = torch.zeros(size, size)
    whole, last = slice(0, 1), slice(2, 3)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, visible = images_and_masks(model, size, dtype)
        plain, masked = model(x), forward(x, mask=visible)
        empty = forward._observed(x[:1], (), nothing, sees_nothing)
        return Verdict(
            identity=max(apart(forward(x), plain), apart(rows(masked, whole), rows(plain, whole))),
            depth=apart(forward._observed(x, (), visible, scramble), masked),
            pixels=same(forward(torch.where(visible, x, torch.nan), mask=visible), masked),
            nothing=all(bool(tensor.isfinite().all()) for tensor in tensors(empty)),
            alive=not same(rows(forward(-x, mask=visible), last), rows(masked, last)),
        )


def redraw(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter, gain and buffer of a model anew and away from zero, so that no branch is silent.

    Fresh layers have gains and biases of 0, and after them nothing shows of a rule that forgets its mask.

    Args:
        model: any module; it is changed, and put into eval mode.
        seed: the same model and seed give the same values.

    Returns:
        The model.

    Example:
        ```python
        model = redraw(torchvision.models.resnet18())
        print(check_masking(LayerMaskedForward(model), image, mask))
        ```
    """
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        if tensor.dim() > 1:
            fan_in = max(tensor[0].numel(), 1)
            drawn = torch.randn(tensor.shape, generator=generator) * (1.5 / fan_in) ** 0.5
        elif name.endswith(("bias", "mean")):
            drawn = torch.randn(tensor.shape, generator=generator) * 0.3
        else:
            drawn = torch.rand(tensor.shape, generator=generator) + 0.5
        tensor.data.copy_(drawn)
    return model.eval()


def images_and_masks(model: nn.Module, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Three images (3 channels) and which of their pixels are visible (N×1×H×W): all of them in the first.

    The images are channels-last in memory, as padded maps are, so that the plain and the masked network run
    the same kernels: some deep networks with random parameters amplify a rounding error to the size of the
    output, plain in one format against plain in the other too. Where the plain network cannot (it flattens
    with ``view``), they are as anybody makes them.
    """
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 3, size, size, generator=generator).to(dtype)
    block = max(8, size // 8)
    coarse = torch.ones(3, 1, -(-size // block), -(-size // block), dtype=torch.bool)
    coarse[1] = False
    coarse[1, :, 1:4, 2:7] = True
    coarse[1:, :, 2, 3] = False
    visible = coarse.repeat_interleave(block, 2).repeat_interleave(block, 3)[..., :size, :size]
    try:
        same_kernels = x.contiguous(memory_format=torch.channels_last)
        model(same_kernels)
        return same_kernels, visible
    except RuntimeError:
        return x, visible


def sees_nothing(run: Run, function: Function, rule: str, result: Any) -> None:
    """An observer for a wholly masked image: evidence must not come out of nothing (S5)."""
    for carrier in instances(result, Carrier):
        if isinstance(carrier, MaskedMap):
            assert not carrier.mask.visible.any(), f"{rule} made cells visible"


def rows(output: object, part: slice, images: int = 3) -> list[Tensor]:
    """What a model returns for some of its images, where it has a row for each of them."""
    return [tensor[part] for tensor in tensors(output) if tensor.dim() and len(tensor) == images]


def apart(a: object, b: object) -> float:
    """The largest relative difference between two outputs of a model, infinite where they do not match."""
    pairs = list(zip(tensors(a), tensors(b), strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        return float("inf")
    return max((relative(one.double(), other.double()) for one, other in pairs if one.numel()), default=0.0)


def same(a: object, b: object) -> bool:
    """Whether two outputs of a model agree in every bit."""
    return all(map(torch.equal, tensors(a), tensors(b)))
