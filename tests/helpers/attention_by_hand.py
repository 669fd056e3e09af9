"""Attention written out literally: one query at a time, with a list of the keys that are there, in float64.

A slow reference for the tests. There is no mask in any softmax or sum: a missing key is not in the list. Maps
are N×H×W×C; where a query is missing, the result is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Place = tuple[int, int]


@dataclass(frozen=True)
class Key:
    """A key that is there.

    Attributes:
        place: its row and column.
        key: its vector (C).
        value: its vector (C').
        bias: what the network adds to its score.
    """

    place: Place
    key: Tensor
    value: Tensor
    bias: float | Tensor = 0.0


def found(query: Tensor, keys: Sequence[Key], scale: float) -> Tensor | float:
    """What a query finds: the values, weighted by the softmax of the scores; 0 where there are no keys."""
    if not keys:
        return 0.0
    scores = [((query * k.key).sum() * scale + k.bias).item() for k in keys]
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    return sum(w * k.value for w, k in zip(weights, keys, strict=True)) / sum(weights)


def heads(vector: Tensor, count: int) -> list[Tensor]:
    """The part of a vector that each head has."""
    return list(vector.unflatten(0, (count, -1)))


def places(visible: Tensor) -> list[Place]:
    """The visible cells of one image (H×W), row after row."""
    return [(int(r), int(c)) for r, c in visible.nonzero()]


def over_lists(
    tokens: Tensor,
    visible: Tensor,
    project: Callable[[Tensor], Sequence[Tensor]],
    listed: Callable[[Place], Sequence[Place]],
    count: int = 1,
    scale: float | None = None,
    bias: Callable[[int, Place, Place], float | Tensor] = lambda head, query, key: 0.0,
    constant: Tensor | None = None,
) -> Tensor:
    """Attention of every visible cell to the visible ones of a list.

    Args:
        tokens: N×H×W×C.
        visible: N×H×W.
        project: from a token to its query, key and value.
        listed: the cells that a cell may attend to, in the plain network; others than those of the map are
            padding, which is always there.
        count: how many heads.
        scale: of the scores; None for one over the root of a head's channels.
        bias: what is added to the score of a query and a key, by head.
        constant: the token that padding holds.

    Returns:
        N×H×W×C', before any projection of the output.
    """
    images = []
    for image, seen in zip(tokens, visible, strict=True):
        rows, columns = seen.shape
        width = len(project(image[0, 0])[2])
        result = torch.zeros(rows, columns, width, dtype=tokens.dtype)
        for place in places(seen):
            inside = [(r, c) for r, c in listed(place) if r < rows and c < columns]
            there = [(key, project(image[key])) for key in inside if seen[key]]
            there += [(key, project(constant)) for key in listed(place) if key not in inside]
            query = heads(project(image[place])[0], count)
            parts = []
            for head in range(count):
                keys = [
                    Key(k, heads(p[1], count)[head], heads(p[2], count)[head], bias(head, place, k))
                    for k, p in there
                ]
                factor = len(query[head]) ** -0.5 if scale is None else scale
                parts.append(found(query[head], keys, factor))
            result[place] = torch.cat(parts).detach()
        images.append(result)
    return torch.stack(images)
