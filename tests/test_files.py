"""A file is written whole or not at all."""

import os

import pytest

from captum_layermask.errors import InputError
from captum_layermask.files import check_writable, write_whole


def test_a_file_takes_the_place_of_another_and_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "x.txt"
    for content in (b"old", b"new"):
        write_whole(path, content)
        assert path.read_bytes() == content
        assert os.listdir(path.parent) == ["x.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    def full(*_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "x.txt"
    path.write_text("old")
    monkeypatch.setattr(os, step, full)
    with pytest.raises(
        InputError, match=r"cannot write .*x\.txt' \(No space left on device\); choose another"
    ):
        write_whole(path, b"new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_a_place_that_cannot_be_written_to_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "x.txt", tmp_path / ("x" * 300)):
        for write in (check_writable, lambda path: write_whole(path, b"")):
            with pytest.raises(InputError, match="cannot write"):
                write(path)
    check_writable(tmp_path / "x.txt")
    assert os.listdir(tmp_path) == ["file"]
