"""Nested tuples, lists and dicts, such as the arguments of a call: what is in them, and the same changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


def instances(tree: Any, kind: type[T]) -> Iterator[T]:
    """Everything of a kind in a tree."""
    if isinstance(tree, kind):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for branch in tree:
            yield from instances(branch, kind)
    elif isinstance(tree, dict):
        yield from instances(list(tree.values()), kind)


def replaced(tree: Any, kind: type[T], change: Callable[[T], Any]) -> Any:
    """The same tree with everything of a kind changed; what holds none of it stays the same object."""
    if isinstance(tree, kind):
        return change(tree)
    if isinstance(tree, (tuple, list)) and _holds(tree, kind):
        branches = [replaced(branch, kind, change) for branch in tree]
        return branches if isinstance(tree, list) else tuple(branches)
    if isinstance(tree, dict):
        return {key: replaced(branch, kind, change) for key, branch in tree.items()}
    return tree


def _holds(tree: tuple[Any, ...] | list[Any], kind: type[Any]) -> bool:
    for branch in tree:
        if isinstance(branch, kind) or (isinstance(branch, (tuple, list)) and _holds(branch, kind)):
            return True
        if isinstance(branch, dict) and _holds(list(branch.values()), kind):
            return True
    return False


def has_tensors(result: Any) -> bool:
    """Whether there is a tensor in what an operation returned."""
    return next(instances(result, Tensor), None) is not None


def each_tensor(result: Any, change: Callable[[Tensor], Any]) -> Any:
    """What an operation returned, named tuples included, with every tensor changed."""
    if isinstance(result, Tensor):
        return change(result)
    if isinstance(result, (tuple, list)):
        branches = [each_tensor(branch, change) for branch in result]
        return type(result)(*branches) if hasattr(result, "_fields") else type(result)(branches)
    return result
