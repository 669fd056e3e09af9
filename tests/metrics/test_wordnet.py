"""The hierarchy above ImageNet's classes: what is a kind of what, and how alike two classes are."""

import importlib.util
import shutil
import warnings
from importlib.resources import files
from pathlib import Path

import nltk
import numpy as np
import pytest
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from timm.data import ImageNetInfo

from captum_layermask.errors import InputError, UnknownNameError
from captum_layermask.metrics.wordnet import (
    classes_under,
    hierarchy,
    wnid_index,
    wnids,
    wu_palmer,
    wu_palmer_table,
)

WORDNET = Path("/usr/share/wordnet")
needs_wordnet = pytest.mark.skipif(
    not WORDNET.is_dir(), reason="needs WordNet's files in /usr/share/wordnet (Debian: wordnet-base)"
)


class Reader(WordNetCorpusReader):
    """nltk's reader, for a folder without the tables that lead to other versions of WordNet."""

    def map_wn(self, version="wordnet"):
        return None


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """nltk reads Debian's files and two that it wants but does not need here."""
    folder = tmp_path_factory.mktemp("wordnet")
    for path in WORDNET.iterdir():
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    (folder / "lexnames").write_text("".join(f"{i:02}\tfile.{i}\t1\n" for i in range(45)))
    (folder / "index.sense").touch()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(nltk.data, "path", [str(folder)])
        warnings.filterwarnings("ignore", "The multilingual functions")
        yield Reader(str(folder), None)


def name_of(index):
    return hierarchy()[wnids()[index]].name


def climb(wnid):
    """Every synset above this one and itself, by plain recursion."""
    return {wnid}.union(*(climb(above) for above in hierarchy()[wnid].hypernyms))


def test_the_classes_are_imagenets():
    assert list(wnids()) == sorted(ImageNetInfo().label_names())
    assert [wnid_index(wnid) for wnid in wnids()] == list(range(1000))
    assert name_of(281) == "tabby.n.01"


def test_every_synset_lies_above_a_class_and_below_entity():
    assert list(hierarchy()) == sorted(hierarchy())
    assert set().union(*map(climb, wnids())) == set(hierarchy())
    assert [s.name for s in hierarchy().values() if not s.hypernyms] == ["entity.n.01"]
    assert all(len(synset.words) == len(synset.senses) for synset in hierarchy().values())


@pytest.mark.parametrize("wnid", ["n02084071", "n99999999", "tabby"])
def test_a_wnid_of_no_class_is_refused(wnid):
    with pytest.raises(UnknownNameError, match=f"unknown ImageNet class '{wnid}'"):
        wnid_index(wnid)


# Paths to entity, from the data file: a > b reads "a is a kind of b".
#   cyprinid > … > vertebrate > chordate > animal > … > entity; fish lie 8 steps below vertebrate.
#   toy dog > dog > canine > carnivore > … > vertebrate, and the short cut dog > domestic animal > animal
@pytest.mark.parametrize(
    ("a", "b", "similarity"),
    [
        # Both are cyprinids, 16 synsets from entity.
        ("tench.n.01", "goldfish.n.01", 2 * 16 / (2 * 16 + 1 + 1)),
        # They meet in cat (14 synsets), not in domestic cat right above them, which a short cut leaves at 9.
        ("tabby.n.01", "tiger_cat.n.02", 2 * 14 / (2 * 14 + 2 + 2)),
        ("tabby.n.01", "golden_retriever.n.01", 2 * 12 / (2 * 12 + 4 + 6)),  # carnivore
        # heavier-than-air craft (11), two steps up and one
        ("airliner.n.01", "warplane.n.01", 2 * 11 / (2 * 11 + 2 + 1)),
        # sweater: 10 synsets by consumer goods and commodity, and not 9 by covering
        ("cardigan.n.01", "sweatshirt.n.01", 2 * 10 / (2 * 10 + 1 + 2)),
        # vertebrate (9): 8 steps from the tench; from the dog 4 by the short cut to animal and 2 down, not 7
        ("tench.n.01", "pekinese.n.01", 2 * 9 / (2 * 9 + 8 + 6)),
        # Itself: where nothing above has a longer shortest path, 1 …
        ("tench.n.01", "tench.n.01", 1),
        # … else canine (13), 3 steps up, and fruit (9), 2 steps up.
        ("chihuahua.n.03", "chihuahua.n.03", 2 * 13 / (2 * 13 + 3 + 3)),
        ("banana.n.02", "banana.n.02", 2 * 9 / (2 * 9 + 2 + 2)),
    ],
)
def test_similarities_computed_by_hand(a, b, similarity):
    index = {name_of(i): i for i in range(1000)}
    assert wu_palmer(index[a], index[b]) == pytest.approx(similarity, abs=1e-15)


def test_the_table_is_symmetric_and_cannot_be_changed():
    table = wu_palmer_table()
    assert table.shape == (1000, 1000)
    assert np.array_equal(table, table.T)
    assert (table > 0).all()
    assert (table <= 1).all()
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0] = 2


def test_107_classes_are_not_wholly_similar_to_themselves():
    itself = np.diagonal(wu_palmer_table())
    below = set(np.flatnonzero(itself < 1).tolist())
    assert len(below) == 107
    assert len(below & set(classes_under("dog"))) > len(below) / 2


@pytest.mark.parametrize("pair", [(0, 1000), (-1, 0)])
def test_an_index_out_of_range_is_refused(pair):
    with pytest.raises(InputError, match="no ImageNet class"):
        wu_palmer(*pair)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hot dog", ["hotdog.n.02"]),
        ("hot_dog", ["hotdog.n.02"]),
        ("Cell Phone", ["cellular_telephone.n.01"]),
        ("teddy bear", ["teddy.n.01"]),
        ("mouse", ["mouse.n.04"]),  # no class is a rodent called mouse
        ("remote", ["remote_control.n.01"]),
        ("bowl", ["mixing_bowl.n.01", "soup_bowl.n.01"]),  # the third sense; the first two have no classes
        ("orange", ["orange.n.01"]),
        ("keyboard", ["computer_keyboard.n.01", "typewriter_keyboard.n.01"]),
        ("bear", ["brown_bear.n.01", "american_black_bear.n.01", "ice_bear.n.01", "sloth_bear.n.01"]),
        ("tie", ["bolo_tie.n.01", "bow_tie.n.01", "windsor_tie.n.01"]),
        ("elephant", ["indian_elephant.n.01", "african_elephant.n.01"]),
        ("person", ["ballplayer.n.01", "groom.n.01", "scuba_diver.n.01"]),
        ("cup", ["cup.n.06"]),
        ("tv", ["television.n.02"]),
        ("skis", ["ski.n.01"]),
        ("kite", []),
        ("n01608432", ["kite.n.04"]),
        ("n03621473", []),
        ("giraffe", []),
        ("wine glass", []),
        ("no such word", []),
    ],
)
def test_classes_under_a_name(name, expected):
    assert [name_of(i) for i in classes_under(name)] == expected


def test_classes_under_count_every_path():
    assert classes_under("entity") == tuple(range(1000))
    assert len(classes_under("dog")) == 118
    assert classes_under("n02084071") == classes_under("dog") == classes_under("domestic dog")
    assert set(classes_under("dog")) < set(classes_under("domestic animal"))
    assert "baseball.n.02" in map(name_of, classes_under("sports ball"))


@pytest.mark.parametrize("wnid", list(hierarchy())[::40])
def test_classes_under_a_wnid_are_those_that_climb_to_it(wnid):
    assert classes_under(wnid) == tuple(i for i, below in enumerate(wnids()) if wnid in climb(below))


@needs_wordnet
def test_nltk_finds_the_same_synsets(reader):
    for synset in hierarchy().values():
        other = reader.synset_from_pos_and_offset("n", int(synset.wnid[1:]))
        assert other.name() == synset.name
        assert [name.replace("_", " ") for name in other.lemma_names()] == list(synset.words)
        above = other.hypernyms() + other.instance_hypernyms()
        assert sorted(f"n{s.offset():08}" for s in above) == sorted(synset.hypernyms)


@needs_wordnet
def test_nltk_ranks_the_senses_the_same(reader):
    """The first of nltk's senses of a word that is in the hierarchy is the one whose classes are returned."""
    words = {word for synset in hierarchy().values() for word in synset.words if word.isalpha()}
    for word in words - {"kite"}:
        senses = [f"n{synset.offset():08}" for synset in reader.synsets(word, "n")]
        first = next(wnid for wnid in senses if wnid in hierarchy())
        assert classes_under(word) == classes_under(first), word


@needs_wordnet
def test_nltk_computes_the_same_similarities(reader):
    synsets = [reader.synset_from_pos_and_offset("n", int(wnid[1:])) for wnid in wnids()]
    pairs = np.random.default_rng(0).integers(1000, size=(6000, 2)).tolist()
    table = wu_palmer_table()
    for a, b in [*pairs, *((i, i) for i in range(1000))]:
        assert synsets[a].wup_similarity(synsets[b]) == table[a, b]


@needs_wordnet
def test_the_shipped_files_are_derived_byte_by_byte(tmp_path):
    script = Path(__file__).parents[2] / "tools" / "derive_hierarchy.py"
    spec = importlib.util.spec_from_file_location("derive_hierarchy", script)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.derive(WORDNET, tmp_path)
    shipped = files("captum_layermask") / "metrics" / "data"
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (shipped / path.name).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in shipped.iterdir()}


def test_the_licence_lies_beside_the_data():
    notice = (files("captum_layermask") / "metrics" / "data" / "WORDNET-LICENSE.txt").read_text()
    assert "WordNet 3.0 Copyright 2006 by Princeton University." in notice
    assert notice.rstrip().endswith("LICENSEE agrees to preserve same.")
