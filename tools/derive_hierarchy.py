"""Derive the hierarchy above ImageNet's 1000 classes from the files of WordNet 3.0.

    python tools/derive_hierarchy.py [WORDNET] [--out FOLDER]

WORDNET is the folder with WordNet's ``data.noun`` and ``index.noun``: ``/usr/share/wordnet``, where
Debian's package ``wordnet-base`` puts them, unless told otherwise. The list of classes is timm's. Into
the package's data go

* ``imagenet_hierarchy.tsv``: the classes and everything above them, one synset a line, sorted by wnid.
  Its columns: the wnid ("n" and the synset's offset in ``data.noun``), the class index (empty above the
  classes), the wnids of the hypernyms, and the words, most typical first, each with its sense number
  (``mouse:4`` is the fourth most frequent sense of "mouse").
* ``WORDNET-LICENSE.txt``: the notice at the head of ``data.noun``.
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from timm.data import ImageNetInfo

DATA = Path(__file__).parent.parent / "captum_layermask" / "metrics" / "data"
HEADER = "\t".join(("wnid", "class", "hypernyms", "words"))
HYPERNYM_POINTERS = ("@", "@i")


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wordnet", type=Path, nargs="?", default="/usr/share/wordnet")
    parser.add_argument("--out", type=Path, default=DATA)
    options = parser.parse_args()
    derive(options.wordnet, options.out)


def derive(wordnet: Path, out: Path) -> None:
    """Write the hierarchy and its licence into ``out``."""
    synsets = read_synsets(wordnet / "data.noun")
    senses = read_senses(wordnet / "index.noun")
    classes = {wnid: index for index, wnid in enumerate(sorted(ImageNetInfo().label_names()))}
    lines = [HEADER]
    for wnid in sorted(with_ancestors(classes, synsets)):
        words, hypernyms = synsets[wnid]
        numbered = (f"{word}:{senses[word.lower()].index(wnid) + 1}" for word in words)
        lines.append("\t".join((wnid, str(classes.get(wnid, "")), " ".join(hypernyms), " ".join(numbered))))
    write(out / "imagenet_hierarchy.tsv", lines)
    write(out / "WORDNET-LICENSE.txt", read_notice(wordnet / "data.noun"))


def read_synsets(data: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Words and hypernyms of every noun synset; the format is that of WordNet's manual page wndb(5)."""
    synsets = {}
    for fields in entries(data):
        words_end = 4 + 2 * int(fields[3], 16)
        pointers = fields[words_end + 1 : words_end + 1 + 4 * int(fields[words_end])]
        kinds, targets = pointers[::4], pointers[1::4]
        hypernyms = [f"n{o}" for kind, o in zip(kinds, targets, strict=True) if kind in HYPERNYM_POINTERS]
        synsets[f"n{fields[0]}"] = fields[4:words_end:2], hypernyms
    return synsets


def read_senses(index: Path) -> dict[str, list[str]]:
    """The synsets of every word in lower case, most frequent sense first."""
    return {fields[0]: [f"n{offset}" for offset in fields[-int(fields[2]) :]] for fields in entries(index)}


def entries(path: Path) -> Iterator[list[str]]:
    """The fields of each line that is not part of the notice."""
    return (line.split() for line in path.read_text("ascii").splitlines() if not line.startswith(" "))


def with_ancestors(wnids: Iterable[str], synsets: dict[str, tuple[list[str], list[str]]]) -> set[str]:
    """These synsets and all above them."""
    found: set[str] = set()
    waiting = list(wnids)
    while waiting:
        wnid = waiting.pop()
        if wnid not in found:
            found.add(wnid)
            waiting += synsets[wnid][1]
    return found


def read_notice(data: Path) -> list[str]:
    """The notice, without its line numbers."""
    lines = (line for line in data.read_text("ascii").splitlines() if line.startswith(" "))
    return [line.split(maxsplit=1)[1].rstrip() if len(line.split()) > 1 else "" for line in lines]


def write(path: Path, lines: list[str]) -> None:
    """Write lines that end with a line feed on every system."""
    path.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")


if __name__ == "__main__":
    main()
