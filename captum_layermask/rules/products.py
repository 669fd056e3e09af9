"""Products and sums: per pixel where channels are summed, of what is not missing where positions are (S8)."""

from __future__ import annotations

import functools
from typing import Any

import torch

from captum_layermask.errors import NoRuleError
from captum_layermask.masking.activation import MaskedMap, MaskedVector
from captum_layermask.masking.layout import letters, positions
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.registry import give_rule, rule_for
from captum_layermask.masking.signatures import Function
from captum_layermask.rules.attention import scores, weighted
from captum_layermask.rules.channels import LEARNED, is_flat
from captum_layermask.rules.pointwise import meeting_keys, stretched


def products(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap | MaskedVector:
    """A matrix product: what it sums are channels, keys, or positions."""
    a, b = args
    if isinstance(a, MaskedMap) and is_flat(a, -1):
        return a.pooled(torch.matmul(a.zeroed(), b))
    dims = max(a.dim(), b.dim())
    left, right = _letters(dims, a.dim(), "xy"), _letters(dims, b.dim(), "yz")
    result = "".join(x for x in _letters(dims, dims, "xz") if x in left + right)
    return summed(f"{left},{right}->{result}", [a, b])


def _letters(dims: int, own: int, last: str) -> str:
    return ("abcdefgh"[: dims - 2] + last)[-own:] if own > 1 else "y"


give_rule(products, "matmul", "bmm", "mm")


@rule_for("baddbmm")
def baddbmm(x: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """A sum and a product."""
    product = torch.bmm(batch1, batch2) * alpha
    return product if beta == 0 else product + x * beta


@rule_for("einsum")
def einsum(equation: str, *operands: Any) -> MaskedMap | MaskedVector:
    """A sum over the channels of each pixel is per-pixel; one over all positions a weighted sum (S8)."""
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if not isinstance(equation, str) or "." in equation:
        raise NoRuleError("write einsum's equation as a string, with a letter for every dimension.")
    return summed(equation.replace(" ", ""), list(operands))


def summed(equation: str, operands: list[Any]) -> MaskedMap | MaskedVector:
    """A product of operands, summed over the letters that the result does not have."""
    inputs, arrow, result = equation.partition("->")
    words = inputs.split(",")
    if not arrow:
        result = "".join(sorted(c for c in set(inputs) - {","} if inputs.count(c) == 1))
    maps = [m for m in operands if isinstance(m, MaskedMap)]
    if len(operands) == 2:
        found = of_pairs(words, result, operands)
        if found is not None:
            return found
    counts: dict[str, str] = {}
    for word, operand in zip(words, operands, strict=True):
        axes = operand.axes if isinstance(operand, MaskedMap) else ("C",) * len(word)
        for letter, axis in zip(word, axes, strict=True):
            known = counts.get(letter, "C")
            if "C" not in (known, axis) and known != axis:
                raise NoRuleError(f"this product joins axis {known} with axis {axis} ({equation}).")
            counts[letter] = axis if known == "C" else known
    gone = {letter for letter, axis in counts.items() if letter not in result and letters(axis) != "C"}
    axes = tuple(counts[letter] for letter in result)
    if not gone:
        raw = torch.einsum(equation, *(m.products() if isinstance(m, MaskedMap) else m for m in operands))
        named = [a for a in axes if a != "C"]
        if len(set(named)) < len(named):
            raise NoRuleError(f"this pairs positions with positions otherwise than attention ({equation}).")
        mask = functools.reduce(Mask.meet, dict.fromkeys(m.mask for m in maps))
        return MaskedMap(raw, stretched(mask, axes, raw.shape), axes, maps[0].run, meeting_keys(maps))
    if not all(isinstance(m, MaskedMap) for m, word in zip(operands, words, strict=True) if set(word) & gone):
        raise NoRuleError(f"this is a product with the positions of a map ({equation}): {LEARNED}")
    if positions(axes) or any("N" in letters(counts[letter]) for letter in gone):
        raise NoRuleError(f"this sums some of the positions of a map, or its images, away ({equation}).")
    raw = torch.einsum(equation, *(m.zeroed() if isinstance(m, MaskedMap) else m for m in operands))
    return MaskedVector(raw, tuple(dict.fromkeys(m.mask for m in maps)), maps[0].run)


def of_pairs(words: list[str], result: str, operands: list[Any]) -> MaskedMap | None:
    """Scores, or what queries found; None where a product is neither."""
    for weights, values in ((0, 1), (1, 0)):
        if isinstance(operands[weights], MaskedMap) and operands[weights].keys is not None:
            return weighted([words[weights], words[values]], result, operands[weights], operands[values])
    queries, keys = operands
    if isinstance(queries, MaskedMap) and isinstance(keys, MaskedMap):
        return scores(words, result, queries, keys)
    return None
