"""Small random networks, each a readable list of operations, with images, masks, a number type and a policy.

``case(seed)`` draws one. ``Case.network()`` builds it: every operation is a line of Python, and
``new(nn.Conv2d(…))`` in it becomes a module of the network. Lines fit after one another by luck alone: one
that the plain network cannot run, forwards and backwards, to finite values of moderate size is drawn again.
"""

from __future__ import annotations

import ast
import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from random_operations import FAMILIES, Family
from random_structures import STRUCTURES, head, transcribed, transcribed_head
from support import redraw
from torch import Tensor, nn

MASKS = (
    "patches",
    "blobs",
    "one pixel",
    "all but one",
    "all",
    "none",
    "speckle",
    "half",
    "one each",
    "different",
)
LARGEST, MOST_CELLS = 1e4, 4000
CHANNELS = 3


@dataclass(frozen=True)
class Case:
    """A network and what it is asked; its ``repr`` is the code that makes it.

    Attributes:
        operations: the network, a line of code each.
        size: rows and columns of the images.
        images: how many of them.
        mask: one of ``MASKS``; "different" draws another kind for each image.
        dtype: name of the number type.
        propagation: how masks travel.
        seed: of parameters, pixels and masks.
    """

    operations: tuple[str, ...]
    size: tuple[int, int] = (6, 7)
    images: int = 2
    mask: str = "speckle"
    dtype: str = "float64"
    propagation: str = "anchored"
    seed: int = 0

    def __repr__(self) -> str:
        lines = "".join(f"        {line!r},\n" for line in self.operations)
        names = ("size", "images", "mask", "dtype", "propagation", "seed")
        rest = "".join(f"    {name}={getattr(self, name)!r},\n" for name in names)
        return f"Case(\n    operations=(\n{lines}    ),\n{rest})"

    def source(self) -> str:
        """The network as the code of a module."""
        modules: list[str] = []
        hoist = _Hoist(modules)
        lines = [ast.unparse(hoist.visit(ast.parse(line))) for line in self.operations]
        made = "".join(f"        self.m{i} = {module}\n" for i, module in enumerate(modules))
        done = "".join(f"        {part}\n" for line in lines for part in line.splitlines())
        return (
            f"class Network(nn.Module):\n    def __init__(self):\n        super().__init__()\n{made}"
            f"\n    def forward(self, x):\n{done}        return x\n"
        )

    def network(self) -> nn.Module:
        """The network in eval mode, every parameter drawn anew, in this case's number type."""
        names: dict[str, Any] = {"torch": torch, "nn": nn, "F": F}
        exec(compile(self.source(), "<random network>", "exec"), names)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.filterwarnings("ignore", "Lazy modules")
            model = names["Network"]().eval()
            model(torch.zeros(1, CHANNELS, *self.size))  # lazy modules learn how many channels they get
        return redraw(model, self.seed).to(getattr(torch, self.dtype))

    def pixels(self, seed: int = 0) -> Tensor:
        """Random images, N×3×H×W."""
        generator = torch.Generator().manual_seed(self.seed + seed)
        x = torch.randn(self.images, CHANNELS, *self.size, generator=generator, dtype=torch.double)
        return x.to(getattr(torch, self.dtype))

    def visible(self) -> Tensor:
        """Bool, N×1×H×W."""
        generator = torch.Generator().manual_seed(self.seed)
        kinds = [self.mask] * self.images
        if self.mask == "different":
            kinds = [MASKS[i] for i in torch.randint(len(MASKS) - 1, (self.images,), generator=generator)]
        shared = _cells(kinds[0], *self.size, generator)
        each = self.mask in ("different", "one each", "speckle")
        masks = [_cells(kind, *self.size, generator) if each else shared for kind in kinds]
        return torch.stack(masks)[:, None]


class _Hoist(ast.NodeTransformer):
    """Turns ``new(module)`` into ``self.m0`` and notes the module."""

    def __init__(self, modules: list[str]) -> None:
        self.modules = modules

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if not (isinstance(node.func, ast.Name) and node.func.id == "new"):
            return self.generic_visit(node)
        self.modules.append(ast.unparse(node.args[0]))
        name = f"m{len(self.modules) - 1}"
        return ast.Attribute(ast.Name("self", ast.Load()), name, ast.Load())


def _cells(kind: str, h: int, w: int, generator: torch.Generator) -> Tensor:
    """Visible pixels of one kind (bool, H×W)."""
    noise = torch.rand(h, w, generator=generator)
    if kind == "patches":
        coarse = noise[: -(-h // 3), : -(-w // 3)] > 0.5
        return coarse.repeat_interleave(3, 0).repeat_interleave(3, 1)[:h, :w]
    if kind == "blobs":
        smooth = F.avg_pool2d(noise[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
        return smooth > smooth.median()
    if kind == "half":
        return (torch.arange(w) >= w // 2).expand(h, w).clone()
    if kind in ("one pixel", "one each"):
        return noise == noise.max()
    if kind == "all but one":
        return noise != noise.max()
    return {"all": noise >= 0, "none": noise < 0, "speckle": noise > 0.6}[kind]


def runs(case: Case) -> tuple[int, ...] | None:
    """The shape of the plain network's output; None where it does not run to moderate, finite values."""
    try:
        model = case.network()
        x = case.pixels().requires_grad_()
        out = model(x.clone())
        if out.dim() < 2 or len(out) != len(x) or not out.numel() or out[0].numel() > MOST_CELLS:
            return None
        if not out.isfinite().all() or out.abs().max() > LARGEST:
            return None
        if "float16" not in case.dtype:
            grads = torch.autograd.grad(out.sum(), [x, *model.parameters()], allow_unused=True)
            if not all(g is None or g.isfinite().all() for g in grads):
                return None
    except Exception:  # whatever PyTorch or Python raises for lines that do not fit
        return None
    return tuple(out.shape)


@functools.cache
def case(seed: int) -> Case:
    """Draw a case. Every fourth is made of what the transcription knows."""
    r = Random(seed)
    simple = seed % 4 == 0
    drawn = Case(
        operations=(),
        size=(r.randint(4, 11), r.randint(4, 11)),
        images=r.choice([1, 2, 2, 3]),
        mask=r.choice(MASKS),
        propagation="paper" if simple else r.choice(["anchored", "paper"]),
        seed=seed,
    )
    wanted = r.randint(2, 7)
    for _ in range(8 * wanted):
        if len(drawn.operations) == wanted:
            break
        drawn = _longer(drawn, r, transcribed if simple else r.choice(FAMILIES + STRUCTURES))
    for _ in range(20):
        ended = _longer(drawn, r, transcribed_head if simple else head)
        if ended is not drawn:
            break
    kind = r.choice(["float64"] * 5 + ["float32"] * 2 + ["float16", "bfloat16"])
    other = replace(ended, dtype=kind)
    return other if runs(other) else ended


def _longer(drawn: Case, r: Random, family: Family) -> Case:
    """The case with one more operation, or as it was where that does not run."""
    shape = runs(drawn)
    if shape is None or len(shape) != 4:
        return drawn
    tried = replace(drawn, operations=(*drawn.operations, family(r, *shape[1:])))
    shape = runs(tried)
    return drawn if shape is None else tried


def smaller(case: Case) -> Iterator[Case]:
    """Simpler cases, one step away."""
    for i in reversed(range(len(case.operations))):
        yield replace(case, operations=case.operations[:i] + case.operations[i + 1 :])
    for simpler in ({"images": 1}, {"images": 2}, {"dtype": "float64"}, {"mask": "half"}, {"seed": 0}):
        (name, value), old = *simpler.items(), None
        old = getattr(case, name)
        if old != value and not (name == "images" and value > old):
            yield replace(case, **simpler)


def shrunk(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The simplest case near this one that still fails."""
    for simpler in smaller(case):
        if simpler.operations and runs(simpler) and fails(simpler):
            return shrunk(simpler, fails)
    return case
