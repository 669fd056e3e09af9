"""WordNet's hierarchy above ImageNet's 1000 classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from captum_layermask.errors import InputError, UnknownNameError

__all__ = ["Synset", "classes_under", "hierarchy", "wnid_index", "wnids", "wu_palmer", "wu_palmer_table"]

#: Names of COCO categories that WordNet spells otherwise, or that mean another thing than the class so named.
_COCO_NAMES = {
    "kite": "n03621473",  # the plaything, which is no class; ImageNet's kite is the bird n01608432
    "skis": "ski",
    "sportsball": "ball",
    "tv": "television",
}


@dataclass(frozen=True)
class Synset:
    """A meaning, for example of an ImageNet class, and what it is a kind of.

    Attributes:
        wnid: "n" and eight digits, the synset's offset in WordNet 3.0's ``data.noun``.
        words: that have this meaning, most typical first, with spaces between the parts of a word.
        senses: for each word, which of its meanings this is; 1 is the most frequent.
        hypernyms: wnids of the synsets right above; none above entity.
        class_index: index of the ImageNet class, 0 to 999; None above the classes.
    """

    wnid: str
    words: tuple[str, ...]
    senses: tuple[int, ...]
    hypernyms: tuple[str, ...]
    class_index: int | None

    @property
    def name(self) -> str:
        """The name that nltk gives the synset, for example ``hot_dog.n.02``."""
        return f"{self.words[0].lower().replace(' ', '_')}.n.{self.senses[0]:02}"


@cache
def hierarchy() -> Mapping[str, Synset]:
    """ImageNet's classes and every synset above them: wnid → synset, sorted by wnid, 1860 of them.

    Source: WordNet 3.0, whose licence lies beside the data file; ``tools/derive_hierarchy.py`` derives it.
    """
    lines = (files(__package__) / "data" / "imagenet_hierarchy.tsv").read_text("ascii").splitlines()
    return MappingProxyType({synset.wnid: synset for synset in map(_parse, lines[1:])})


@cache
def wnids() -> tuple[str, ...]:
    """The wnids of ImageNet's 1000 classes, sorted: entry i is class i."""
    return tuple(wnid for wnid, synset in hierarchy().items() if synset.class_index is not None)


def wnid_index(wnid: str) -> int:
    """Index of an ImageNet class, 0 to 999: the position of its wnid among the 1000 sorted wnids.

    Args:
        wnid: such as ``n02123045``.

    Raises:
        UnknownNameError: ``wnid`` is not one of the 1000.
    """
    synset = hierarchy().get(wnid)
    if synset is None or synset.class_index is None:
        raise UnknownNameError(
            "ImageNet class",
            wnid,
            wnids(),
            "Give the wnid of one of the 1000 classes, for example n02123045.",
        )
    return synset.class_index


@cache
def classes_under(name: str) -> tuple[int, ...]:
    """Indices of the ImageNet classes that are what ``name`` means, or a kind of it, sorted; () if none is.

    ``name`` is a wnid, or one of WordNet's words, for example the name of a category of COCO. Case,
    spaces, underscores and hyphens do not count: "hot dog" is "hotdog". Of a word with several meanings
    the most frequent is taken that is an ImageNet class or lies above one: "mouse" is the device, since
    no class is a mouse of the other kind. A wnid leaves no choice. Four of COCO's names that this rule
    would miss or get wrong are settled by hand: "kite" is the plaything, of which there is no class (give
    n01608432 for the bird), "tv" is "television", "skis" is "ski" and "sports ball" is "ball".

    A name that WordNet does not know has no classes either.
    """
    name = _COCO_NAMES.get(_letters(name), name)
    top = name if name in hierarchy() else _meanings().get(_letters(name))
    if top is None:
        return ()
    return tuple(i for i, wnid in enumerate(wnids()) if top in _steps_up(wnid))


def wu_palmer(a: int, b: int) -> float:
    """Wu–Palmer similarity of two ImageNet classes, in (0, 1]: 2·d / (2·d + steps(a) + steps(b)).

    The classes meet in s, the deepest synset that lies above both or is one of them; d is the number of
    synsets on the path from s up to entity, both ends included; steps(a) and steps(b) lead from the classes
    to s. A synset may have several hypernyms, hence several paths to entity. As in nltk's ``wup_similarity``,
    s is the synset whose *shortest* path is longest (of several the first by name), d is measured along its
    *longest* path, and steps(a) and steps(b) are the fewest steps there are, be it over a synset above s.

    So a class with a short cut to entity may meet even itself in a synset above it: 107 classes, most of
    them breeds of dogs, are less than 1 similar to themselves. This is nltk's behaviour too, and kept.

    Args:
        a: index of a class, 0 to 999.
        b: index of a class, 0 to 999.

    Raises:
        InputError: an index is out of range.

    Source: Wu and Palmer, "Verb semantics and lexical selection", ACL 1994, as nltk measures paths.
    """
    for index in (a, b):
        if not 0 <= index < len(wnids()):
            raise InputError(
                f"there is no ImageNet class {index}; give an index from 0 to {len(wnids()) - 1}."
            )
    return float(wu_palmer_table()[a, b])


@cache
def wu_palmer_table() -> NDArray[np.float64]:
    """``wu_palmer`` of all pairs of ImageNet classes: float64 1000×1000, symmetric, read-only."""
    synsets = list(hierarchy())
    column = {wnid: i for i, wnid in enumerate(synsets)}
    steps = np.full((len(wnids()), len(synsets)), -1)
    for row, wnid in enumerate(wnids()):
        above = _steps_up(wnid)
        for top in above:
            steps[row, column[top]] = _path_length(above, _steps_up(top))
    depths = np.array([_longest_path(wnid) + 1 for wnid in synsets])

    table = np.empty((len(wnids()), len(wnids())))
    for row, wnid in enumerate(wnids()):
        # The first of these that lies above another class, too, is where the two meet.
        candidates = np.array([column[top] for top in _deepest_first(wnid)])
        meet = candidates[(steps[:, candidates] >= 0).argmax(1)]
        twice = 2 * depths[meet]
        table[row] = twice / (twice + steps[row, meet] + steps[np.arange(len(steps)), meet])
    table.flags.writeable = False
    return table


def _parse(line: str) -> Synset:
    wnid, index, hypernyms, words = line.split("\t")
    spelled, senses = zip(*(word.rsplit(":", 1) for word in words.split(" ")), strict=True)
    return Synset(
        wnid=wnid,
        words=tuple(word.replace("_", " ") for word in spelled),
        senses=tuple(map(int, senses)),
        hypernyms=tuple(hypernyms.split()),
        class_index=int(index) if index else None,
    )


def _letters(word: str) -> str:
    return word.lower().translate({ord(sign): None for sign in " _-"})


@cache
def _meanings() -> dict[str, str]:
    """Word, as ``_letters`` spells it → wnid of its most frequent meaning in the hierarchy."""
    ranked = sorted(
        (sense, synset.wnid, _letters(word))
        for synset in hierarchy().values()
        for word, sense in zip(synset.words, synset.senses, strict=True)
    )
    return {word: wnid for _, wnid, word in reversed(ranked)}


@cache
def _steps_up(wnid: str) -> dict[str, int]:
    """Every synset that lies above this one → fewest steps up to it; itself first, at 0."""
    steps = {wnid: 0}
    waiting = [wnid]
    for below in waiting:
        for above in hierarchy()[below].hypernyms:
            if above not in steps:
                steps[above] = steps[below] + 1
                waiting.append(above)
    return steps


def _path_length(above_a: dict[str, int], above_b: dict[str, int]) -> int:
    """Fewest steps between two synsets, up from each to one that lies above both."""
    return min(steps + above_b[wnid] for wnid, steps in above_a.items() if wnid in above_b)


@cache
def _shortest_path(wnid: str) -> int:
    """Fewest steps up to entity."""
    return min((_shortest_path(above) + 1 for above in hierarchy()[wnid].hypernyms), default=0)


@cache
def _longest_path(wnid: str) -> int:
    """Most steps up to entity."""
    return max((_longest_path(above) + 1 for above in hierarchy()[wnid].hypernyms), default=0)


def _deepest_first(wnid: str) -> list[str]:
    """The synsets above this one: longest shortest path to entity first; of equals itself, then by name."""
    return sorted(_steps_up(wnid), key=lambda top: (-_shortest_path(top), top != wnid, hierarchy()[top].name))
