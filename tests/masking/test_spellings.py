"""Calls that are equal on plain tensors are equal masked, however they are spelled.

``PYTHONPATH=tests/helpers python tests/masking/test_spellings.py`` counts what is compared; with
``--failures`` it lists what fails, with ``--refusals`` what the engine refuses, as ``spellings_refused.py``
has it.
"""

import argparse
import functools
import json
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass

import einops
import pytest
import torch
import torch.nn.functional as F
from spellings_layers import LAYERS
from spellings_pointwise import POINTWISE
from spellings_reductions import REDUCTIONS
from spellings_refused import REFUSED
from spellings_refused import __doc__ as ABOUT_REFUSED
from spellings_shapes import SHAPES
from torch import nn
from torch.utils import _pytree as pytree

from captum_layermask import LayerMaskedForward, LayerMaskError
from captum_layermask.masking.propagation import PROPAGATIONS

OPERATIONS = {**POINTWISE, **REDUCTIONS, **SHAPES, **LAYERS}
VISIBLE = torch.tensor(
    [
        [
            [1, 1, 0, 0, 0, 0, 1, 1],
            [1, 0, 0, 0, 0, 0, 0, 1],
            [0, 0, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 1, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 0, 1, 1],
            [1, 1, 1, 0, 0, 0, 1, 1],
        ],
        [
            [0, 1, 1, 1, 0, 1, 1, 0],
            [1, 1, 0, 1, 1, 1, 0, 1],
            [1, 1, 1, 1, 1, 1, 1, 1],
            [0, 1, 0, 0, 1, 0, 1, 1],
            [1, 1, 0, 0, 1, 1, 1, 0],
            [0, 1, 1, 1, 1, 1, 0, 1],
        ],
    ],
    dtype=torch.bool,
)[:, None]
EMPTY = torch.stack([VISIBLE[0], torch.zeros_like(VISIBLE[1])])
IMAGE = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.double)

# What a spelling is tried on: image, mask, and the tolerance that fits the number type.
CONTEXTS = {
    "plain": (IMAGE, VISIBLE, 1e-9),
    "frame": (IMAGE[..., 1:-1, 1:-1], VISIBLE[..., 1:-1, 1:-1], 1e-9),
    "channels-last": (IMAGE.contiguous(memory_format=torch.channels_last), VISIBLE, 1e-9),
    "N=1": (IMAGE[:1], VISIBLE[:1], 1e-9),
    "C=1": (IMAGE[:, :1], VISIBLE, 1e-9),
    "H=1": (IMAGE[:, :, :1], VISIBLE[:, :, :1], 1e-9),
    "W=1": (IMAGE[..., :1], VISIBLE[..., :1], 1e-9),
    "nothing seen": (IMAGE, EMPTY, 1e-9),
    "half": (IMAGE.half(), VISIBLE, 2e-2),
    "bfloat16": (IMAGE.bfloat16(), VISIBLE, 8e-2),
}
LAYOUTS = {
    "map": lambda x: x,
    "tokens": lambda x: x.flatten(2).transpose(1, 2),
    "grouped": lambda x: x.unflatten(1, (-1, 2)),
    "last": lambda x: x.permute(0, 2, 3, 1),
}


def standard(x, axes):
    """Mean 0 and variance 1 over axes, written by hand."""
    centred = x - x.mean(axes, keepdim=True)
    return centred / ((centred * centred).mean(axes, keepdim=True) + 1e-5).sqrt()


def into(out, write):
    """A tensor after something was written into it, whatever the call that wrote gave back."""
    write(out)
    return out


class Spelled(nn.Module):
    """A network that is one expression; it returns a map's mask too (1 where a cell is not missing)."""

    def __init__(self, spelling, situation):
        super().__init__()
        self.code = compile(spelling, "<spelling>", "eval")
        self.layout, self.context = LAYOUTS[situation.layout], situation.context

    def forward(self, image):
        if self.context == "frame":
            image = F.pad(image, (1, 1, 1, 1))
        x = self.layout(image)
        sizes = dict(zip("nchw", image.shape, strict=True))
        names = {**parameters(sizes["c"], image.dtype), **sizes, "x": x, "y": self.layout(image.flip(3))}
        result = eval(self.code, names)
        return pytree.tree_map(lambda tensor: (tensor, tensor * 0 + 1), result)


@functools.cache
def parameters(c, dtype):
    """What an expression can name beside the maps and their sizes."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.double).to(dtype)

    kernel, bias, point, backward = draw(5, c, 3, 3), draw(5), draw(5, c), draw(c, 5, 3, 3)
    gain1, shift, mean, spread = draw(c).abs() + 0.5, draw(c), draw(c), draw(c).abs() + 0.5
    depthwise = draw(1, 1, 3, 3).repeat(c, 1, 1, 1)

    def layer(module, **tensors):
        module.to(dtype).load_state_dict(tensors, strict=False)
        return module.eval().requires_grad_(False)

    return {
        "torch": torch,
        "F": F,
        "nn": nn,
        "einops": einops,
        "standard": standard,
        "into": into,
        "each": lambda channels: channels[:, None, None],
        "kernel": kernel,
        "bias": bias,
        "point": point,
        "backward": backward,
        "depthwise": depthwise,
        "scale": draw(c),
        "gain": draw(c, 1, 1).float(),
        "thrice": torch.tensor([1.0, 2.0, 3.0], dtype=dtype).view(3, 1, 1, 1),
        "gain1": gain1,
        "shift": shift,
        "mean": mean,
        "spread": spread,
        "conv": layer(nn.Conv2d(c, 5, 3, padding=1), weight=kernel, bias=bias),
        "strided": layer(nn.Conv2d(c, 5, 3, 2, 1), weight=kernel, bias=bias),
        "deconv": layer(nn.ConvTranspose2d(c, 5, 3, 2, 1), weight=backward, bias=bias),
        "linear": layer(nn.Linear(c, 5), weight=point, bias=bias),
        "layer_norm": layer(nn.LayerNorm(c), weight=gain1, bias=shift),
        "group_norm": layer(nn.GroupNorm(2, c) if c % 2 == 0 else nn.Identity(), weight=gain1, bias=shift),
        "batch_norm": layer(
            nn.BatchNorm2d(c), weight=gain1, bias=shift, running_mean=mean, running_var=spread
        ),
    }


def difference(result, expected, tolerance):
    """What keeps two outputs from being equal, '' where nothing does."""
    results, expecteds = pytree.tree_leaves(result), pytree.tree_leaves(expected)
    if [(r.shape, r.dtype) for r in results] != [(e.shape, e.dtype) for e in expecteds]:
        return f"shapes {[tuple(r.shape) for r in results]}, not {[tuple(e.shape) for e in expecteds]}"
    for r, e in zip(results, expecteds, strict=True):
        r, e = r.double(), e.double()
        finite = e.isfinite()
        if not torch.equal(r.isfinite(), finite):
            return "not finite"
        error = (r[finite] - e[finite]).abs() / (1 + e[finite].abs())
        if error.numel() and error.max() > tolerance:
            return f"off by {error.max():.2g}"
    return ""


@dataclass(frozen=True)
class Situation:
    """A layout of the axes and a context."""

    layout: str
    context: str

    def __str__(self):
        return self.context if self.layout == "map" else f"{self.layout}, {self.context}"


def situations(operation):
    """Every situation in which an operation has a meaning."""
    for layout in operation.layouts.split():
        for context in CONTEXTS:
            ungrouped = layout == "grouped" and context == "C=1"
            if context not in operation.without.split() and not ungrouped:
                yield Situation(layout, context)


BUT = "everywhere but "


def listing(refused, tried):
    """Where a spelling is refused, as ``spellings_refused.py`` writes it."""
    refused, rest = [str(s) for s in refused], [str(s) for s in tried if s not in refused]
    if not rest:
        return "everywhere"
    return BUT + "; ".join(rest) if len(rest) < len(refused) else "; ".join(refused)


def is_listed(name, spelling, situation):
    where = REFUSED.get(name, {}).get(spelling, "")
    if where.startswith(BUT):
        return str(situation) not in where.removeprefix(BUT).split("; ")
    return where == "everywhere" or str(situation) in where.split("; ")


class Trial:
    """One operation, every spelling of it in every situation, under both policies.

    Attributes:
        failures: a line for each, beginning with its kind: TABLE (not equal on plain tensors), REFUSED (and
            not listed), RUNS (though listed as refused), CRASH (an error that is not ours), DIFFERS.
        refused: for each spelling that was, the situations in which it was.
        tried: for each spelling, the situations in which PyTorch itself returns something.
        differed: for each spelling listed as another one by definition, whether it was, each time.
        comparisons: how many masked outputs were compared with another.
    """

    def __init__(self, name):
        self.name, self.operation = name, OPERATIONS[name]
        self.failures, self.comparisons = [], 0
        self.refused, self.tried, self.differed = defaultdict(dict), defaultdict(list), defaultdict(list)
        with torch.no_grad():
            for situation in situations(self.operation):
                self.try_in(situation)
        for spelling, differed in self.differed.items():
            if not any(differed):
                self.failures.append(f"TABLE {spelling}: listed as different, but equal everywhere")

    def try_in(self, situation):
        image, visible, tolerance = CONTEXTS[situation.context]
        first, references = None, {}
        for spelling in self.operation.spellings:
            network, where = Spelled(spelling, situation), f"[{situation}] {spelling}"
            try:
                plain = network(image)
            except Exception as error:
                if situation.context == "plain" or first is None:
                    self.failures.append(f"TABLE {where}: PyTorch raises {one_line(error)}")
                continue
            self.tried[spelling].append(situation)
            first = plain if first is None else first
            if problem := difference(plain, first, tolerance):
                self.failures.append(f"TABLE {where}: plain results differ: {problem}")
                continue
            for policy in PROPAGATIONS:
                here = f"{where} ({policy})"
                masked = self.masked(network, policy, image, visible, spelling, situation, here)
                if masked is None:
                    continue
                expected = references.setdefault(policy, masked)
                problem = difference(masked, expected, tolerance)
                self.comparisons += masked is not expected
                if spelling in self.operation.differs:
                    self.differed[spelling].append(bool(problem))
                elif problem or (finite(plain) and not finite(masked)):
                    self.failures.append(f"DIFFERS {here}: {problem or 'not finite'}")

    def masked(self, network, policy, image, visible, spelling, situation, here):
        """The masked output, or None where there is none."""
        listed = is_listed(self.name, spelling, situation)
        try:
            result = LayerMaskedForward(network, propagation=policy)(image, mask=visible)
        except LayerMaskError as error:
            self.refused[spelling][situation] = True
            if not listed:
                self.failures.append(f"REFUSED {here}: {one_line(error)}")
            return None
        except Exception as error:
            self.failures.append(f"CRASH {here}: {one_line(error)}")
            return None
        if listed:
            self.failures.append(f"RUNS {here}: it is listed in spellings_refused.py")
        return result


def one_line(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def finite(tree):
    return all(bool(leaf.isfinite().all()) for leaf in pytree.tree_leaves(tree))


pytestmark = [
    pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # spellings that PyTorch is about to drop
]


@pytest.mark.parametrize("name", OPERATIONS)
def test_equal_spellings_are_equal_masked(name):
    failures = Trial(name).failures
    assert not failures, f"{len(failures)} of {name!r}:\n" + "\n".join(failures)


def test_the_table_is_as_large_as_it_says():
    assert len(OPERATIONS) == len(POINTWISE) + len(REDUCTIONS) + len(SHAPES) + len(LAYERS) >= 54
    spellings = [operation.spellings for operation in OPERATIONS.values()]
    assert sum(len(set(lines)) for lines in spellings) == sum(map(len, spellings)) >= 335


def test_what_is_listed_is_in_the_table():
    for name, operation in OPERATIONS.items():
        known = {str(situation) for situation in situations(operation)}
        assert set(operation.differs) <= set(operation.spellings), name
        assert set(operation.without.split()) <= set(CONTEXTS), name
        assert set(REFUSED.get(name, {})) <= set(operation.spellings), name
        for where in REFUSED.get(name, {}).values():
            assert where == "everywhere" or set(where.removeprefix(BUT).split("; ")) <= known, where
    assert set(REFUSED) <= set(OPERATIONS)


def main():
    """Print what is compared, or all failures, or all refusals."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--failures", action="store_true", help="print a line for each failure")
    parser.add_argument("--refusals", action="store_true", help="print spellings_refused.py as it should be")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    trials = [Trial(name) for name in OPERATIONS]
    if arguments.refusals:
        refused = {
            t.name: {s: listing(at, t.tried[s]) for s, at in t.refused.items()} for t in trials if t.refused
        }
        table = json.dumps(refused, indent=4, ensure_ascii=False)
        print(f'"""{ABOUT_REFUSED}"""\n\nREFUSED: dict[str, dict[str, str]] = {table}')
        return
    if arguments.failures:
        for t in trials:
            print(*([f"## {t.name}", *t.failures] if t.failures else []), sep="\n")
        return
    print(f"operations: {len(trials)}")
    print(f"spellings: {sum(len(t.operation.spellings) for t in trials)}")
    print(f"contexts: {len(CONTEXTS)} (and {len(LAYOUTS)} layouts, {len(PROPAGATIONS)} policies)")
    print(f"comparisons: {sum(t.comparisons for t in trials)}")
    print(f"spellings refused somewhere: {sum(len(t.refused) for t in trials)}")
    print(f"refused, each policy: {sum(len(at) for t in trials for at in t.refused.values())}")
    print(f"documented differences: {sum(sum(d) for t in trials for d in t.differed.values())}")
    kinds = Counter(failure.split()[0] for t in trials for failure in t.failures)
    print(f"failures: {dict(kinds) or 'none'}")


if __name__ == "__main__":
    main()
