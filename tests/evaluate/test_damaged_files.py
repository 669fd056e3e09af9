"""Files that are damaged anywhere end in a result or one sentence: no traceback, no crash, no hang.

``MUTATIONS=5000`` in the environment damages so many instead of a few hundred.
"""

import faulthandler
import io
import os
import struct
import sys
import warnings
import zlib

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from captum_layermask import InputError
from captum_layermask.evaluate.data.arrays import read_array
from captum_layermask.evaluate.records import Recorder, read_records, recorded_units
from captum_layermask.models.images import read_grey, read_image

MUTATIONS = int(os.environ.get("MUTATIONS", "400"))
PATIENCE = 120  # seconds, of which a file takes some hundredths

SIZE = (24, 16)
NOISE = np.random.default_rng(0).integers(0, 256, (*SIZE[::-1], 4), dtype=np.uint8)
RGB, RGBA = Image.fromarray(NOISE[..., :3]), Image.fromarray(NOISE)
DEEP = Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257)
FLOAT = Image.fromarray(NOISE[..., 0].astype(np.float32) / 255)
EXIF = Image.Exif()
EXIF[0x0112] = 6

PICTURES = {
    "PNG": (RGB, {"exif": EXIF}),
    "PNG, transparent": (RGBA, {}),
    "PNG, 16 bits": (DEEP, {}),
    "PNG, palette": (RGB.quantize(16), {"transparency": 3}),
    "PNG, animated": (RGB, {"save_all": True, "append_images": [RGB, RGB.rotate(9)]}),
    "JPEG": (RGB, {"exif": EXIF}),
    "JPEG, progressive": (RGB.convert("CMYK"), {"progressive": True}),
    "MPO": (RGB, {"save_all": True, "append_images": [RGB]}),
    "GIF": (RGB, {"save_all": True, "append_images": [RGB.rotate(90)], "transparency": 1}),
    "BMP": (RGB, {}),
    "BMP, palette": (RGB.quantize(16), {}),
    "TIFF": (RGB, {"exif": EXIF}),
    "TIFF, 16 bits": (DEEP, {"compression": "tiff_lzw"}),
    "TIFF, floats": (FLOAT, {"compression": "tiff_deflate"}),
    "TIFF, several": (RGB, {"compression": "jpeg", "save_all": True, "append_images": [RGB]}),
    "WEBP": (RGB, {"exif": EXIF}),
    "WEBP, animated": (RGBA, {"save_all": True, "append_images": [RGBA.rotate(9)], "lossless": True}),
    "AVIF": (RGB, {}),
    "AVIF, transparent": (RGBA, {"save_all": True, "append_images": [RGBA.rotate(9)]}),
    "PPM": (RGB, {}),
    "PPM, 16 bits": (DEEP, {}),
    "PPM, floats": (FLOAT, {}),
}
ARRAYS = {
    "npy": NOISE[..., 0].astype(np.float32),
    "npy, Fortran": np.asfortranarray(NOISE[..., 1].astype(np.int16)),
}
COLUMNS = {
    "image": pa.string(),
    "unit": pa.string(),
    "removal": pa.dictionary(pa.int32(), pa.string()),
    "label": pa.int32(),
    "vanished": pa.bool_(),
    "alignment": pa.float64(),
    "importance": pa.list_(pa.float64()),
}
SCHEMA = pa.schema(list(COLUMNS.items()))
ROW = {"removal": "layer", "label": 0, "vanished": False, "alignment": 1 / 7, "importance": [1.0, 2.0]}
KINDS = [*PICTURES, *ARRAYS, "Parquet"]


@pytest.fixture(autouse=True)
def watched():
    """What hangs ends the process and says where."""
    faulthandler.dump_traceback_later(PATIENCE + MUTATIONS / 10, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


def whole(kind, record):
    """The bytes of an undamaged file; ``record`` is one of records."""
    if kind in PICTURES:
        image, options = PICTURES[kind]
        buffer = io.BytesIO()
        image.save(buffer, kind.partition(",")[0], **options)
        return buffer.getvalue()
    if kind in ARRAYS:
        buffer = io.BytesIO()
        np.save(buffer, ARRAYS[kind])
        return buffer.getvalue()
    return record.read_bytes()


def damaged(data, rng):
    """The bytes with one to three changes, most of them near the ends, where headers and footers are."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        if not changed:
            break
        length = len(changed)
        place = int(rng.choice([rng.integers(length), rng.integers(200), -rng.integers(1, 100)])) % length
        few = int(rng.integers(1, 9))
        match rng.integers(8):
            case 0:
                changed[place] ^= 1 << int(rng.integers(8))
            case 1:
                changed[place : place + few] = rng.bytes(few)
            case 2:
                changed[place : place + 4] = struct.pack(
                    "<I", rng.choice([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1])
                )
            case 3:
                changed[place : place + few] = b""
            case 4:
                changed[place:place] = rng.bytes(few)
            case 5:
                changed[place:place] = changed[place : place + 100]
            case 6:
                changed[place] = int(rng.choice([0, 1, 127, 128, 255]))
            case 7 if length > 20:
                del changed[place if rng.random() < 0.5 else -few :]
    return bytes(changed)


def with_right_sums(data):
    """A PNG file whose checksums let its damage in."""
    mended, place = bytearray(data), 8
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        mended[end : end + 4] = struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return bytes(mended[: len(data)])


def readers(kind, path):
    """How the package reads a file, and what is the same of every result."""
    out = path.parents[1]
    if kind in PICTURES:
        return [(lambda: read_image(path).mode, "RGB"), (lambda: read_grey(path).dtype, np.float32)]
    if kind in ARRAYS:
        return [(lambda: read_array(path).dtype, np.float32)]
    return [(lambda: read_records(out, SCHEMA).schema, SCHEMA), (lambda: type(recorded_units(out)), set)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_a_result_or_a_sentence(kind, tmp_path):
    with Recorder(tmp_path, SCHEMA) as recorder:
        for number in range(20):
            recorder.add(f"{number:02}.png", "unit", [dict(ROW, label=number) for _ in range(3)])
    (path,) = (tmp_path / "records").iterdir()
    data = whole(kind, path)
    results = sentences = 0
    for number in range(max(1, MUTATIONS // len(KINDS))):
        rng = np.random.default_rng([number, KINDS.index(kind)])
        changed = damaged(data, rng) if number else data
        if kind.startswith("PNG") and number % 2:
            changed = with_right_sums(changed)
        path.write_bytes(changed)
        for read, expected in readers(kind, path):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's, about odd metadata
                try:
                    found = read()
                except InputError as error:
                    assert "\n" not in str(error)
                    sentences += 1
                except Exception as error:
                    raise AssertionError(f"damage number {number}: {error!r}") from error
                else:
                    assert found == expected
                    results += 1
    assert results
    assert sentences
