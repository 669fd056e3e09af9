"""Where the positions of a map went: what each dimension of an activation counts.

A dimension is a word of letters, the outermost first: N images, H rows, W columns, h and w offsets inside
blocks of rows and columns (H and W then count the blocks), n likewise views of an image, C anything without
a position. ``("N", "C", "H", "W")`` is an image-like map, ``("N", "HW", "C")`` one of tokens, and
``("N", "HWC3", "C")`` has three anchors at every position. Numbers follow letters whose size neither
the mask nor the dimension tells.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_layermask.masking.compiling import memoized

Axes = tuple[str, ...]
Factor = tuple[str, int]
Dimension = tuple[Factor, ...]

NCHW: Axes = ("N", "C", "H", "W")
POSITIONS = frozenset("HWhw")
#: Letters of keys, where every position is paired with others: their rows, columns and offsets in blocks.
KEYS = frozenset("YXyx")
AS_KEYS, AS_POSITIONS = str.maketrans("HWhw", "YXyx"), str.maketrans("YXyx", "HWhw")


@memoized
def letters(axis: str) -> str:
    """The letters of a dimension, or of all of them joined, without the numbers."""
    return re.sub(r"\d", "", axis)


def positions(axes: Iterable[str]) -> set[str]:
    """Which of H, W, h and w there are."""
    return set("".join(axes)) & POSITIONS


@memoized
def factors(axes: Axes, shape: tuple[int, ...], images: int, size: tuple[int, ...]) -> tuple[Dimension, ...]:
    """The letters of every dimension with their sizes.

    Args:
        axes: a word for every dimension.
        shape: how long the dimensions are.
        images: how many the mask has.
        size: rows and columns of the mask; and of that of the keys, where there are any.
    """
    parsed = [re.findall(r"([A-Za-z])(\d*)", axis) for axis in axes]
    blocks = {"h": 1, "w": 1, "n": 1, "y": 1, "x": 1}
    for word, length in zip(parsed, shape, strict=True):
        for letter, digits in word:
            if letter in blocks:
                blocks[letter] = int(digits) if digits else length
    whole = {"N": images} | dict(zip("HWYX", size, strict=False))
    there = {letter for word in parsed for letter, _ in word}
    for own, shared in (("y", "h"), ("x", "w")):
        if own not in there and own.upper() in there:  # keys in blocks that they share with the positions
            blocks[own] = blocks[shared]
    known = {letter: length // max(blocks[letter.lower()], 1) for letter, length in whole.items()} | blocks
    return tuple(
        tuple(
            (letter, int(digits) if digits else length if letter == "C" else known.get(letter, 1))
            for letter, digits in word
        )
        for word, length in zip(parsed, shape, strict=True)
    )


def fits(axes: Axes, shape: Sequence[int], images: int, size: tuple[int, ...]) -> bool:
    """Whether values of this shape can have a mask of so many images, and of this size (see ``factors``)."""
    if axes == NCHW:
        return len(shape) == 4 and (shape[0], shape[2], shape[3]) == (images, *size)
    return len(axes) == len(shape) and _sizes_fit(axes, tuple(shape), images, size)


@memoized
def _sizes_fit(axes: Axes, shape: tuple[int, ...], images: int, size: tuple[int, ...]) -> bool:
    dimensions = factors(axes, shape, images, size)
    named = [factor for dimension in dimensions for factor in dimension if factor[0] != "C"]
    sizes = dict(named)
    wholes = [("N", "n", images), *((a, a.lower(), n) for a, n in zip("HWYX", size, strict=False))]
    # windows of keys are those of the positions: what they do not count themselves they share
    shared = {a: sizes.get(b, 1) for a, b in zip("YXyx", "HWhw", strict=True)}
    own = {letter.translate(AS_POSITIONS) for letter in sizes if letter in KEYS}
    return (
        len(sizes) == len(named)
        and all(math.prod([n for _, n in d]) == length for d, length in zip(dimensions, shape, strict=True))
        and all(
            sizes.get(outer, 1) * sizes.get(inner, 1) == n
            or (own and sizes.get(outer, shared.get(outer, 1)) * sizes.get(inner, shared.get(inner, 1)) == n)
            for outer, inner, n in wholes
        )
    )


def paired(axes: Sequence[str]) -> bool:
    """Whether axes count pairs of a position and a key."""
    return bool(KEYS & set("".join(axes)))


def as_keys(dimensions: Sequence[Dimension]) -> tuple[Dimension, ...]:
    """Dimensions in the eyes of the keys: their own places are positions, and other positions they share."""
    own = {letter.translate(AS_POSITIONS) for d in dimensions for letter, _ in d if letter in KEYS}

    def seen(factor: Factor) -> Factor:
        letter, size = factor
        return ("C", size) if letter in own else (letter.translate(AS_POSITIONS), size)

    return tuple(tuple(map(seen, dimension)) for dimension in dimensions)


def swapped(axes: Axes, keys: tuple[int, int]) -> Axes:
    """The axes of pairs seen from the keys, which have so many rows and columns; what both share stays."""
    named = set("".join(axes))
    own = [a for a, n in zip("HWhw", keys * 2, strict=True) if a.translate(AS_KEYS) in named or n == 1]
    letters = "".join(own)
    other = letters.translate(AS_KEYS)
    return tuple(axis.translate(str.maketrans(letters + other, other + letters)) for axis in axes)


_PLACES = POSITIONS | {"N", "n"}


def laid_out(cells: Tensor, dimensions: Sequence[Dimension]) -> Tensor:
    """Cells of a mask (N×1×H×W) in the order of dimensions; of size 1 where they count something else."""
    dimensions = [
        tuple(f if f[0] in _PLACES else ("C", f[1]) for f in d)
        if any(f[0] in _PLACES for f in d)
        else (("C", 1),)
        for d in dimensions
    ]
    sizes = {letter: size for d in dimensions for letter, size in d if letter != "C"}
    views, rows, columns = (sizes.get(block, 1) for block in "nhw")
    grid = cells[:, 0].unflatten(2, (-1, columns)).unflatten(1, (-1, rows))
    grid = grid.unflatten(0, (-1, views) if len(cells) > 1 or views == 1 else (1, 1))
    order = [letter for d in dimensions for letter, _ in d if letter != "C"]
    absent = [letter for letter in "NnHhWw" if letter not in order]
    grid = grid.permute(["NnHhWw".index(letter) for letter in (*absent, *order)])
    there, unit, spread = iter(grid.shape[len(absent) :]), [], []
    for dimension in dimensions:
        for letter, size in dimension:
            unit.append(1 if letter == "C" else next(there))
            spread.append(size if len(dimension) > 1 else unit[-1])
    lengths, at = [], 0
    for dimension in dimensions:
        lengths.append(math.prod(spread[at : at + len(dimension)]))
        at += len(dimension)
    return grid.reshape(unit).expand(spread).reshape(lengths)


def spelled(dimensions: Sequence[Sequence[Factor]]) -> Axes:
    """The words for dimensions given by letters and sizes."""
    return tuple(map(_word, dimensions))


def _word(dimension: Sequence[Factor]) -> str:
    parts: list[Factor] = []
    for letter, size in dimension:
        if size == 1 and len(dimension) > 1 and letter != "N":
            continue
        last = parts[-1][0] if parts else ""
        if last + letter in ("CC", "Hh", "Ww", "Nn", "Yy", "Xx"):
            parts[-1] = (last, parts[-1][1] * size)
        else:
            parts.append((letter, size))
    if len(parts) == 1:
        return parts[0][0]
    return "".join(f"{letter}{size}" if letter in "Chwnyx" else letter for letter, size in parts) or "C"


def regrouped(
    old: Sequence[Dimension], shape: Sequence[int], new: Sequence[int]
) -> tuple[tuple[tuple[Factor, ...], ...], bool] | None:
    """The dimensions after a reshape, and whether it merged everything but the images into one.

    Args:
        old: what the dimensions count.
        shape: how long they are.
        new: how long they will be.

    Returns:
        None where a cell's position is no longer a matter of letters: blocks of blocks are made.
    """
    result: list[tuple[Factor, ...]] = []
    shape, new, whole = tuple(shape), tuple(new), False
    i = j = 0
    while i < len(shape) or j < len(new):
        a, b = min(i + 1, len(shape)), min(j + 1, len(new))
        while (have := math.prod(shape[i:a])) != (want := math.prod(new[j:b])):
            if (a, b) == (len(shape), len(new)):
                return None
            left = b == len(new) or (have < want and a < len(shape))
            a, b = (a + 1, b) if left else (a, b + 1)
        while a < len(shape) and shape[a] == 1 and new[b : b + 1] != (1,) and "N" in dict(old[a]):
            a += 1  # one image after channels counts as several would
        if shape[i:a] == new[j:b]:
            result += old[i:a]
        else:
            flat = [f for d in old[i:a] for f in d if f[1] > 1 or f[0] in "CN"]
            split = _split(flat, new[j:b], _blocked(old))
            if split is None:
                return None
            result += split
            merged = {letter for d in old[i:a] for letter, _ in d}
            others = [d for k, d in enumerate(old) if not i <= k < a]
            beside = [d for d in split if {letter for letter, size in d if size > 1} not in (set(), {"N"})]
            whole |= (
                len(beside) <= 1
                and b > j
                and len(new) != 3  # N, X, 1 is a list of anchors with one value each, as N, X, 2 is
                and "C" in merged
                and bool(merged & POSITIONS)
                and all(letter == "N" or (letter != "C" and size == 1) for d in others for letter, size in d)
                and not any(letter == "N" and size > 1 for d in beside for letter, size in d)
            )
        i, j = a, b
    return tuple(result), whole


def _blocked(dimensions: Sequence[Dimension]) -> set[str]:
    return {letter for d in dimensions for letter, size in d if letter in "hwnyx" and size > 1}


def _split(flat: list[Factor], new: Sequence[int], blocked: set[str]) -> list[tuple[Factor, ...]] | None:
    """Deal factors out to dimensions, in order; None where one would have to be cut that cannot be."""
    flat, result = list(flat), []
    for length in new:
        taken: list[Factor] = []
        if length == 1 and flat[:1] == [("N", 1)]:
            taken.append(flat.pop(0))
        while length > 1:
            letter, size = flat.pop(0)
            if size == 1:
                taken.append((letter, size))
                continue
            if length % size == 0:
                taken.append((letter, size))
                length //= size
                continue
            fine = {"C": "C", "H": "h", "W": "w", "N": "n", "Y": "y", "X": "x"}.get(letter)
            if size % length or fine is None or fine in blocked:
                return None
            if fine != "C":
                blocked = blocked | {fine}
            taken.append((letter, length))
            flat.insert(0, (fine, size // length))
            length = 1
        result.append(tuple(taken) or (("C", 1),))
    if result:
        result[-1] += tuple(flat)  # of one image each, after channels
    return result


def index_parts(index: Any, dims: int) -> list[Any]:
    """What an index takes of every dimension of a tensor of ``dims``, without ``...``; None is a new one."""
    parts = list(index) if isinstance(index, tuple) else [index]
    at = next((at for at, part in enumerate(parts) if part is Ellipsis), None)
    if at is not None:
        named = sum(part is not None for part in parts) - 1
        parts[at : at + 1] = [slice(None)] * (dims - named)
    return parts


def is_number(part: Any) -> bool:
    """Whether a part of an index takes one cell, so that its dimension goes."""
    return isinstance(part, (int, torch.SymInt)) and not isinstance(part, bool)
