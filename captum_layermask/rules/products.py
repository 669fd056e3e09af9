"""Products of maps: per pixel where channels are summed, weighted sums where positions are (S8)."""

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
from captum_layermask.rules.attention import paired_product
from captum_layermask.rules.channels import TOKENS, is_flat
from captum_layermask.rules.pointwise import stretched


def products(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap | MaskedVector:
    """Per-pixel where the summed axis is channels; a weighted sum over positions (S8)."""
    a, b = args
    if isinstance(a, MaskedMap) and isinstance(b, MaskedMap):
        if a.raw.dim() == b.raw.dim() > 1:
            return _summed(_product_letters(a.raw.dim()), [a, b])
    elif isinstance(a, MaskedMap):
        if is_flat(a, -1):
            return a.pooled(torch.matmul(a.zeroed(), b))
        raw = torch.matmul(a.raw, b) if a.axes[-1] == "C" else None
        if raw is not None and b.dim() == 1:
            return a.like(raw, axes=a.axes[:-1])
        if raw is not None and raw.dim() == a.raw.dim():
            return a.like(raw)
    elif b.axes[-2:-1] == ("C",):
        raw = torch.matmul(a, b.raw)
        if raw.dim() == b.raw.dim():
            return b.like(raw)
    raise NoRuleError(TOKENS)


give_rule(products, "matmul", "bmm", "mm")


def _product_letters(dims: int) -> str:
    batch = "abcdefg"[: dims - 2]
    return f"{batch}xy,{batch}yz->{batch}xz"


@rule_for("einsum")
def einsum(equation: str, *operands: Any) -> MaskedMap | MaskedVector:
    """A sum over the channels of each pixel is per-pixel; one over all positions a weighted sum (S8)."""
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if not isinstance(equation, str) or "." in equation:
        raise NoRuleError("write einsum's equation as a string, with a letter for every dimension.")
    return _summed(equation.replace(" ", ""), list(operands))


def _summed(equation: str, operands: list[Any]) -> MaskedMap | MaskedVector:
    """A product of operands, summed over the letters that the result does not have."""
    inputs, arrow, result = equation.partition("->")
    words = inputs.split(",")
    if not arrow:
        result = "".join(sorted(c for c in set(inputs) - {","} if inputs.count(c) == 1))
    maps = [m for m in operands if isinstance(m, MaskedMap)]
    if len(maps) == len(operands) == 2:
        pairs = paired_product(words, result, maps)
        if pairs is not None:
            return pairs
    counts: dict[str, str] = {}
    for word, operand in zip(words, operands, strict=True):
        for letter, axis in zip(
            word, operand.axes if isinstance(operand, MaskedMap) else "C" * len(word), strict=True
        ):
            known = counts.get(letter, "C")
            if "C" not in (known, axis) and known != axis:
                raise NoRuleError(f"einsum {equation} joins axis {known} with axis {axis}: {TOKENS}")
            counts[letter] = axis if known == "C" else known
    summed = {letter for letter, axis in counts.items() if letter not in result and letters(axis) != "C"}
    if not summed:
        raws = [m.raw if isinstance(m, MaskedMap) else m for m in operands]
        raw = torch.einsum(equation, *raws)
        axes = tuple(counts[letter] for letter in result)
        named = [a for a in axes if a != "C"]
        if len(set(named)) < len(named):
            raise NoRuleError(f"einsum {equation} pairs positions with positions: {TOKENS}")
        mask = functools.reduce(Mask.meet, dict.fromkeys(m.mask for m in maps))
        return MaskedMap(raw, stretched(mask, axes, raw.shape), axes, maps[0].run)
    left = positions([counts[letter] for letter in result])
    weights = all(
        isinstance(m, MaskedMap) for m, word in zip(operands, words, strict=True) if set(word) & summed
    )
    if left or not weights or any("N" in letters(counts[s]) for s in summed):
        raise NoRuleError(f"einsum {equation} sums positions away: {TOKENS}")
    raw = torch.einsum(equation, *(m.zeroed() if isinstance(m, MaskedMap) else m for m in operands))
    return MaskedVector(raw, tuple(dict.fromkeys(m.mask for m in maps)), maps[0].run)
