"""What layer masking promises (S1–S14), each asked of one random network.

A promise is a function of a ``Subject`` that raises ``AssertionError`` where it is broken.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from random import Random
from typing import Any

import torch
import transcription
from random_networks import Case
from torch import Tensor, nn

from captum_layermask import InplaceError, LayerMaskedForward, LayerMaskError
from captum_layermask.masking.activation import MaskedMap
from captum_layermask.masking.carrier import Carrier
from captum_layermask.masking.trees import instances

#: What counts as rounding, relative to the largest value of an output.
TOLERANCE = {"float64": 1e-9, "float32": 1e-3, "float16": 5e-2, "bfloat16": 0.3}
VALUES = {"noise": 1e3, "NaN": torch.nan, "Inf": torch.inf}


class Subject:
    """A case with its output, made when first asked for.

    Attributes:
        case: the network and what it is asked.
        model: the plain network.
        x: images, N×3×H×W.
        visible: bool, N×1×H×W.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.model, self.x, self.visible = case.network(), case.pixels(), case.visible()

    def forward(self, **options: Any) -> LayerMaskedForward:
        """A new forward: what one has cached another has not."""
        return LayerMaskedForward(self.model, propagation=self.case.propagation, **options)

    @torch.no_grad()
    def masked(self, x: Tensor | None = None, visible: Tensor | None = None, **options: Any) -> Tensor:
        """The prediction from the visible pixels alone."""
        x = self.x if x is None else x
        return self.forward(**options)(x.clone(), mask=self.visible if visible is None else visible)

    @functools.cached_property
    def plain(self) -> Tensor:
        """The plain network's prediction."""
        with torch.no_grad():
            return self.model(self.x.clone())

    @functools.cached_property
    def output(self) -> Tensor:
        """The prediction from the visible pixels alone."""
        return self.masked()

    @functools.cached_property
    def has_gradient(self) -> bool:
        """Whether the plain network's is right; that of antialiasing to one column (PyTorch 2.14) is not."""
        x = self.x.clone().requires_grad_()
        weights = torch.randn(self.plain.shape, generator=torch.Generator().manual_seed(0)).to(self.plain)
        (grad,) = torch.autograd.grad((self.model(x.clone()) * weights).sum(), x)
        with torch.no_grad():
            return not _unlike_differences(
                self, grad, lambda x: float((self.model(x.clone()) * weights).sum())
            )

    def poisoned(self, value: float) -> Tensor:
        """The images with another value in their missing pixels."""
        return torch.where(self.visible, self.x, value)


def _near(subject: Subject, got: Tensor, expected: Tensor, what: str) -> None:
    assert got.shape == expected.shape, f"{what}: shape {tuple(got.shape)}, not {tuple(expected.shape)}"
    assert got.dtype == expected.dtype, f"{what}: {got.dtype}, not {expected.dtype}"
    got, expected = got.double(), expected.double()
    error = float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-3))
    assert error <= TOLERANCE[subject.case.dtype], f"{what}: {error:.1e} relative"


def identity(subject: Subject) -> None:
    """S1: with nothing masked it is the plain network."""
    everything = torch.ones_like(subject.visible)
    _near(subject, subject.masked(visible=everything), subject.plain, "S1 with a mask of ones")
    _near(subject, subject.masked(visible=everything[:1]), subject.plain, "S1 with one mask for all images")


def pixels(subject: Subject) -> None:
    """S2a: what a missing pixel holds changes not one bit."""
    for value in (torch.nan, torch.inf, -torch.inf):
        assert torch.equal(subject.masked(subject.poisoned(value)), subject.output), f"S2a: {value}"


def depth(subject: Subject) -> None:
    """S2b: what the missing cells of any activation hold leaves the output."""
    for name, value in VALUES.items():

        def overwrite(run: object, function: object, rule: str, result: Any, value: float = value) -> None:
            for carrier in instances(result, Carrier):
                if isinstance(carrier, MaskedMap) and carrier.raw.is_floating_point():
                    _overwrite(carrier, value)

        with torch.no_grad():
            got = subject.forward()._observed(subject.x.clone(), (), subject.visible, overwrite)
        _near(subject, got, subject.output, f"S2b: {name} in missing cells")


def _overwrite(carrier: MaskedMap, value: float) -> None:
    """Put a value, or noise of its size, into the missing cells of an activation."""
    missing = carrier.over(carrier.mask.missing)
    other = torch.full_like(carrier.raw, value)
    if value < torch.inf:
        other = other * torch.randn(carrier.raw.shape, dtype=torch.double).to(other.dtype)
    changed = torch.where(missing, other, carrier.raw)
    if 0 in carrier.raw.stride():  # an expanded tensor cannot be written to
        carrier.raw = changed
    else:
        carrier.raw.copy_(changed)


def nothing(subject: Subject) -> None:
    """S10: of a wholly masked image the output is finite, and the same for every image."""
    empty = torch.zeros_like(subject.visible)
    got, other = (subject.masked(x, empty) for x in (subject.x, subject.case.pixels(seed=1)))
    assert got.isfinite().all(), "S10: not finite"
    assert torch.equal(got, other), "S10: two outputs for nothing"
    _near(subject, got, got[:1].expand_as(got), "S10: images differ")
    assert subject.output.isfinite().all(), "S10: not finite with this mask"


def gradients(subject: Subject) -> None:
    """S12: gradients are finite, 0 at missing pixels, and at visible ones what finite differences say."""
    if "16" in subject.case.dtype:
        return
    x = subject.poisoned(torch.nan).requires_grad_()
    out = subject.forward()(x.clone(), mask=subject.visible)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(0), dtype=torch.double).to(out)
    parameters = dict(subject.model.named_parameters())
    if not out.requires_grad:  # nothing was visible and the network has no parameters
        return
    grad, *others = torch.autograd.grad(
        (out * weights).sum(), [x, *parameters.values()], allow_unused=True, materialize_grads=True
    )
    missing = ~subject.visible.expand_as(grad)
    assert (grad[missing] == 0).all(), "S12: a gradient at a missing pixel"
    assert grad.isfinite().all(), "S12: the images' gradient is not finite"
    for name, other in zip(parameters, others, strict=True):
        assert other.isfinite().all(), f"S12: the gradient of {name.split('.')[-1]} is not finite"
    if subject.case.dtype == "float64":
        wrong = _unlike_differences(subject, grad, lambda x: float((subject.masked(x) * weights).sum()))
        assert not wrong or not subject.has_gradient, f"S12: gradient, by differences: {wrong}"


def _unlike_differences(
    subject: Subject, grad: Tensor, loss: Callable[[Tensor], float]
) -> list[tuple[float, float]]:
    """The gradients at some visible pixels, and what differences say, where these are not the same."""
    visible, wrong = subject.visible.expand_as(grad).nonzero().tolist(), []
    for place in Random(subject.case.seed).sample(visible, min(3, len(visible))):

        def slope(step: float, place: list[int] = place) -> float:
            moved = torch.zeros_like(subject.x)
            moved[tuple(place)] = step
            return (loss(subject.x + moved) - loss(subject.x - moved)) / (2 * step)

        wide, close, got = slope(1e-4), slope(1e-5), float(grad[tuple(place)])
        scale = max(float(grad.abs().max()), abs(close), 1e-3)
        if (
            abs(wide - close) <= 1e-5 * scale < abs(got - close) / 10
        ):  # else there is a kink, or no difference
            wrong.append((got, close))
    return wrong


def company(subject: Subject) -> None:
    """S14: an output does not depend on batch mates, on ``max_batch``, nor on the grad mode."""
    alone = [
        subject.masked(x, visible)
        for x, visible in zip(subject.x.split(1), subject.visible.split(1), strict=True)
    ]
    _near(subject, torch.cat(alone), subject.output, "S14: alone")
    _near(subject, subject.masked(max_batch=1), subject.output, "S14: max_batch=1")
    _near(subject, subject.masked(max_batch=2), subject.output, "S14: max_batch=2")
    back = subject.masked(subject.x.flip(0), subject.visible.flip(0)).flip(0)
    _near(subject, back, subject.output, "S14: in another order")
    with torch.inference_mode():
        got = subject.forward()(subject.x.clone(), mask=subject.visible)
    _near(subject, got, subject.output, "S14: inference mode")
    with torch.enable_grad():
        got = subject.forward()(subject.x.clone().requires_grad_(), mask=subject.visible)
    _near(subject, got.detach(), subject.output, "S14: gradients enabled")


class InnerBatch(nn.Module):
    """A network that runs on another batch than the one that comes in."""

    def __init__(self, body: nn.Module, how: str) -> None:
        super().__init__()
        self.body, self.how = body, how

    def forward(self, v: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.how == "mirrored":
            return self.body(torch.cat([v, v.flip(3)])).chunk(2)
        if self.how == "split":
            return torch.cat([self.body(part) for part in v.split(1)])
        if self.how == "iterated":
            return torch.stack([self.body(image[None])[0] for image in v])
        return torch.cat([self.body(v[i : i + 1] * 1) for i in range(v.size(0))], dim=0)


def inner_batch(how: str) -> Callable[[Subject], None]:
    """S14: an inner batch gives what as many calls would."""

    def promise(subject: Subject) -> None:
        model = InnerBatch(subject.model, how)
        with torch.no_grad():
            forward = LayerMaskedForward(model, propagation=subject.case.propagation)
            try:
                got = forward(subject.x.clone(), mask=subject.visible)
            except InplaceError:  # something is written into what may be a part of the batch
                return
        if how == "mirrored":
            got, other = got
            mirrored = subject.masked(subject.x.flip(3), subject.visible.flip(3))
            _near(subject, other, mirrored, "S14: the second half of an inner batch")
        _near(subject, got, subject.output, "S14: an inner batch")

    promise.__name__ = f"inner batch, {how}"
    return promise


def number_type(subject: Subject) -> None:
    """A narrow number type gives what float64 gives, as far as the plain network does."""
    exact = Subject(Case(**{**vars(subject.case), "dtype": "float64"}))
    exact.x = subject.x.double()
    exact.model.load_state_dict({k: v.double() for k, v in subject.model.state_dict().items()})
    rounding = (subject.plain.double() - exact.plain).abs().max() / exact.plain.abs().max().clamp(min=1e-3)
    if rounding <= TOLERANCE[subject.case.dtype] / 10:
        _near(subject, subject.output, exact.output.to(subject.output), "float64 differs")


def oracle(subject: Subject) -> None:
    """S3–S9: a network that the transcription knows gives what it gives."""
    expected = transcribed(subject)
    if expected is not None:
        _near(subject, subject.output, expected.to(subject.output), "the transcription differs")


def transcribed(subject: Subject) -> Tensor | None:
    """What the transcription gives; None where it does not know an operation, or the policy."""
    if subject.case.propagation != "paper":
        return None
    names: dict[str, Any] = {"nn": nn, "torch": _Literal, "F": None}
    exec(compile(subject.case.source(), "<random network>", "exec"), names)
    literal = _Modules(subject.model.double() if subject.case.dtype == "float64" else subject.model)
    cells = transcription.enter(subject.x, subject.visible[:, 0])
    try:
        out = names["Network"].forward(literal, _Literal(cells))
    except (NotImplementedError, AttributeError, TypeError):
        return None
    return out.cells if isinstance(out.cells, Tensor) else out.cells.kept_values()


class _Modules:
    """The network's modules, written out literally."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Callable[[_Literal], _Literal]:
        return lambda x: _Literal(_layer(getattr(self.model, name), x.cells))


def _layer(module: nn.Module, x: transcription.Cells | Tensor) -> transcription.Cells | Tensor:
    """One module; a pool of nothing down to one cell gives 0, with which the network goes on (S7, S8)."""
    out = transcription.layer(module, x)
    pools = nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d
    if (
        isinstance(module, pools)
        and out.kinds.shape[1:] == (1, 1)
        and (out.kinds == transcription.MISSING).any()
    ):
        raise NotImplementedError("the transcription keeps such a cell as a missing one")
    return out


class _Literal:
    """Cells with the few operators that the transcription has."""

    def __init__(self, cells: transcription.Cells | Tensor) -> None:
        self.cells = cells

    def __add__(self, other: _Literal) -> _Literal:
        return _Literal(transcription.add(self.cells, other.cells))

    @staticmethod
    def cat(parts: list[_Literal], dim: int) -> _Literal:
        if dim != 1:
            raise NotImplementedError
        return _Literal(transcription.cat([part.cells for part in parts]))


PROMISES: dict[str, Callable[[Subject], None]] = {
    promise.__name__: promise
    for promise in (
        *(identity, pixels, depth, nothing, gradients, company, number_type, oracle),
        *map(inner_batch, ("mirrored", "split", "iterated", "indexed")),
    )
}


def refused(case: Case) -> LayerMaskError | None:
    """The error of ours that tells why a network cannot be masked, if it cannot."""
    try:
        Subject(case).output  # noqa: B018
    except LayerMaskError as error:
        return error
    return None
