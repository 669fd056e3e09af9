"""A ``.npy`` file becomes numbers, or one sentence before memory is taken."""

import io
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from captum_layermask import InputError
from captum_layermask.evaluate.data.arrays import read_array


def npy(header, data=b"", version=1, length=None):
    """A file with a header of any text."""
    text = header.encode("latin1")
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + data


def plain(shape, descr="'<f8'"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n"


def saved(save, *args, **options):
    buffer = io.BytesIO()
    save(buffer, *args, **options)
    return buffer.getvalue()


class Trap:
    """Leaves a file where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


BAD = {
    "nothing": (b"", "as an array"),
    "npz": (saved(np.savez, a=np.ones((4, 4))), "magic string"),
    "pickle": (pickle.dumps(Trap()), "magic string"),
    "objects": (saved(np.save, np.array([Trap()], dtype=object), allow_pickle=True), "object, not real"),
    "strings": (saved(np.save, np.array(["a"])), "not real numbers"),
    "complex": (saved(np.save, np.ones((4, 4), complex)), "complex128, not real numbers"),
    "records": (saved(np.save, np.ones(4, [("a", "f4")])), "not real numbers"),
    "vast": (npy(plain((60000, 60000))), "too large, 60000×60000"),
    "vaster": (npy(plain((10**300, 10**300))), "too large"),
    "negative": (npy(plain((-60000, -60000))), "negative"),
    "cut off": (saved(np.save, np.ones((200, 200)))[:-1], "cut off"),
    "cut off, large": (npy(plain((9999, 9999))), "cut off"),
    "deep header": (npy("(" * 60000), "EOF"),
    "deep short header": (npy("-" * 900 + "1"), "as an array"),
    "long header": (npy("", version=2, length=2**32 - 1), "EOF"),
    "no dictionary": (npy("1 + 1\n"), "as an array"),
    "no lengths": (npy(plain("(1.5, None)")), "as an array"),
    "newer": (npy(plain((1, 1)), bytes(8), version=9), "version"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_array_of_numbers_is_one_sentence_and_takes_no_memory(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    data, what = BAD[kind]
    path = tmp_path / "x.npy"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"cannot read '.*x\.npy' as an array \(.+\); give") as caught:
            read_array(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)
    assert peak < 2**20
    assert os.listdir() == ["x.npy"]


@pytest.mark.parametrize("dtype", ["?", "u1", "<i8", ">f2", "<f4", ">f8", "g"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_kind_of_real_number_is_read(tmp_path, dtype, order):
    values = np.asarray(np.arange(12).reshape(3, 4) % 5, dtype, order=order)
    np.save(tmp_path / "x.npy", values)
    read = read_array(tmp_path / "x.npy")
    assert read.dtype == np.float32
    assert np.array_equal(read, values.astype(np.float32))


@pytest.mark.filterwarnings("error")
def test_numbers_too_large_for_float32_are_infinite(tmp_path):
    np.save(tmp_path / "x.npy", np.array([1e300, 1.0]))
    assert read_array(tmp_path / "x.npy").tolist() == [np.inf, 1]


def test_places_without_a_file_are_errors(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, what in (("pipe", "no regular file"), ("absent", "No such file"), (".", "no regular file")):
        with pytest.raises(InputError, match=what):
            read_array(tmp_path / name)
