"""Records of a run: written as they are made, readable after a kill, of one setting."""

import json
import math
import os

import pyarrow as pa
import pytest

from captum_layermask import InputError
from captum_layermask.evaluate import records
from captum_layermask.evaluate.records import (
    Recorder,
    claim_folder,
    locked,
    read_records,
    recorded_units,
    write_table,
)

SCHEMA = pa.schema(
    [("image", pa.string()), ("unit", pa.string()), ("step", pa.int32()), ("score", pa.float64())]
)


def rows(*scores):
    return [{"step": step, "score": score} for step, score in enumerate(scores)]


def files(out):
    return sorted(path.name for path in (out / "records").iterdir())


def test_records_come_back_sorted_by_image_and_unit_and_in_their_order_within_a_unit(tmp_path):
    with Recorder(tmp_path, SCHEMA, rank=0) as recorder:
        recorder.add("b", "y", rows(3.0, 1.0, 2.0))
        recorder.add("b", "x", rows(5.0))
    with Recorder(tmp_path, SCHEMA, rank=1) as recorder:
        recorder.add("a", "y", rows(7.0, 6.0))
    table = read_records(tmp_path, SCHEMA)
    assert table.schema == SCHEMA
    assert table.to_pylist() == [
        {"image": image, "unit": unit, "step": step, "score": score}
        for image, unit, step, score in [
            ("a", "y", 0, 7.0),
            ("a", "y", 1, 6.0),
            ("b", "x", 0, 5.0),
            ("b", "y", 0, 3.0),
            ("b", "y", 1, 1.0),
            ("b", "y", 2, 2.0),
        ]
    ]
    assert recorded_units(tmp_path) == {("a", "y"), ("b", "x"), ("b", "y")}
    assert [name.partition("-")[0] for name in files(tmp_path)] == ["0", "1"]


def test_numbers_are_rounded_to_six_digits(tmp_path):
    with Recorder(tmp_path, SCHEMA) as recorder:
        recorder.add("a", "x", rows(1 / 3, 1234567.8, 1e-12 / 7, math.nan))
    scores = read_records(tmp_path, SCHEMA)["score"].to_pylist()
    assert scores[:3] == [0.333333, 1234570.0, 1.42857e-13]
    assert math.isnan(scores[3])


def test_a_file_is_written_every_ten_seconds_and_at_the_end(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(records.time, "monotonic", lambda: now[0])
    with Recorder(tmp_path, SCHEMA) as recorder:
        for seconds, expected in [(109.9, 0), (110.0, 1), (119.0, 1), (120.1, 2), (121.0, 2)]:
            now[0] = seconds
            recorder.add("a", str(seconds), rows(1.0))
            assert len(recorded_units(tmp_path)) == {0: 0, 1: 2, 2: 4}[expected]
    assert len(recorded_units(tmp_path)) == 5
    assert len(files(tmp_path)) == 3


def test_what_was_done_is_written_when_the_run_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), Recorder(tmp_path, SCHEMA) as recorder:
        recorder.add("a", "x", rows(1.0))
        raise ZeroDivisionError
    assert recorded_units(tmp_path) == {("a", "x")}


def test_nothing_is_written_where_nothing_was_done(tmp_path):
    with Recorder(tmp_path / "out", SCHEMA):
        pass
    assert not (tmp_path / "out").exists()
    assert read_records(tmp_path / "out", SCHEMA).num_rows == 0


def test_half_a_file_of_a_killed_process_does_not_disturb(tmp_path):
    with Recorder(tmp_path, SCHEMA) as recorder:
        recorder.add("a", "x", rows(1.0))
    (name,) = files(tmp_path)
    (tmp_path / "records" / f".{name}.0123.part").write_bytes(b"PAR1 half")
    (tmp_path / "records" / f".{name}").write_bytes(b"PAR1 half")
    assert read_records(tmp_path, SCHEMA).num_rows == 1
    assert recorded_units(tmp_path) == {("a", "x")}


def readers(out):
    return (lambda: read_records(out, SCHEMA), lambda: recorded_units(out))


def test_every_single_bit_of_a_record_file_counts(tmp_path):
    with Recorder(tmp_path, SCHEMA) as recorder:
        recorder.add("a", "x", rows(1.0, 2.0))
    (path,) = (tmp_path / "records").iterdir()
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with pytest.raises(InputError, match=rf"{path.name}' is damaged; delete it"):
            readers(tmp_path)[place % 2]()
    path.write_bytes(whole)
    assert read_records(tmp_path, SCHEMA).num_rows == 2


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: b"", lambda whole: whole + b"\0"])
def test_a_record_file_of_another_length_is_damaged(tmp_path, damage):
    with Recorder(tmp_path, SCHEMA) as recorder:
        recorder.add("a", "x", rows(1.0))
    (path,) = (tmp_path / "records").iterdir()
    path.write_bytes(damage(path.read_bytes()))
    for read in readers(tmp_path):
        with pytest.raises(InputError, match="is damaged; delete it"):
            read()


def test_a_record_file_under_another_name_is_not_trusted(tmp_path):
    (tmp_path / "records" / "0-1.parquet").mkdir(parents=True)
    for read in readers(tmp_path):
        with pytest.raises(InputError, match=r"cannot read .*0-1\.parquet' \(Is a directory\)"):
            read()
    (tmp_path / "records" / "0-1.parquet").rmdir()
    write_table(SCHEMA.empty_table(), tmp_path / "records" / "0-1.parquet")
    for read in readers(tmp_path):
        with pytest.raises(InputError, match=r"0-1\.parquet' is damaged"):
            read()


def test_a_file_with_other_columns_is_refused(tmp_path):
    with Recorder(tmp_path, pa.schema([("image", pa.string()), ("unit", pa.string())])) as recorder:
        recorder.add("a", "x", [{}])
    with pytest.raises(InputError, match="other columns"):
        read_records(tmp_path, SCHEMA)


def test_a_folder_may_have_a_name_that_is_no_text(tmp_path):
    out = tmp_path / os.fsdecode(b"caf\xe9")
    claim_folder(out, {"seed": 0})
    with Recorder(out, SCHEMA) as recorder:
        recorder.add("a", "x", rows(1.0))
    assert recorded_units(out) == {("a", "x")}
    write_table(SCHEMA.empty_table(), out / "x.parquet")


def test_a_unit_that_two_runs_did_at_once_is_there_once(tmp_path):
    for units in (["x", "y"], ["y", "z"]):
        with Recorder(tmp_path, SCHEMA) as recorder:
            for unit in units:
                recorder.add("a", unit, rows(1.0, 2.0))
    table = read_records(tmp_path, SCHEMA)
    assert table["unit"].to_pylist() == ["x", "x", "y", "y", "z", "z"]
    assert table["step"].to_pylist() == [0, 1] * 3


@pytest.mark.parametrize("row", [{"step": 1}, {"step": 1, "score": 1.0, "socre": 2.0}])
def test_a_record_with_other_columns_than_the_schema_is_an_error(tmp_path, row):
    with pytest.raises(ValueError, match="the schema"):
        Recorder(tmp_path, SCHEMA).add("a", "x", [row])


def test_a_folder_belongs_to_one_setting(tmp_path):
    settings = {"model": "m", "data": {"images": 3, "digest": "d"}, "removals": ("layer", "grey"), "seed": 0}
    claim_folder(tmp_path / "out", settings)
    written = (tmp_path / "out" / "settings.json").read_bytes()
    claim_folder(tmp_path / "out", settings)
    assert json.loads(written) == {**settings, "removals": ["layer", "grey"]}
    for other, what in [
        ({"seed": 1}, "seed = 0, and this one has 1"),
        ({"data": {"images": 3, "digest": "e"}, "seed": 1}, 'data.digest = "d", and this one has "e"'),
        ({"removals": ["layer"]}, r'removals = \["layer", "grey"\], and this one has \["layer"\]'),
        ({"more": True}, "more = null, and this one has true"),
    ]:
        with pytest.raises(InputError, match=what):
            claim_folder(tmp_path / "out", settings | other)
    del settings["removals"]
    with pytest.raises(InputError, match=r'removals = \["layer", "grey"\], and this one has null'):
        claim_folder(tmp_path / "out", settings)
    assert (tmp_path / "out" / "settings.json").read_bytes() == written


def test_a_folder_belongs_to_one_run_at_a_time(tmp_path):
    for _ in range(2):
        with (
            locked(tmp_path / "out"),
            pytest.raises(InputError, match=r"another run is writing to .*out'"),
            locked(tmp_path / "out"),
        ):
            pass
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot lock"), locked(tmp_path / "file"):
        pass


def test_records_without_settings_are_left_alone(tmp_path):
    with Recorder(tmp_path, SCHEMA) as recorder:
        recorder.add("a", "x", rows(1.0))
    with pytest.raises(InputError, match="unknown settings"):
        claim_folder(tmp_path, {})
    assert not (tmp_path / "settings.json").exists()


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000])
def test_settings_that_cannot_be_read_are_not_overwritten(tmp_path, content):
    (tmp_path / "settings.json").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read .*settings\.json"):
        claim_folder(tmp_path, {})
    assert (tmp_path / "settings.json").read_bytes() == content


def test_a_place_that_cannot_be_written_to_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        claim_folder(tmp_path / "file", {})
    with pytest.raises(InputError, match="cannot write"):
        write_table(SCHEMA.empty_table(), tmp_path / "file" / "x.parquet")
