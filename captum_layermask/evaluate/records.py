"""Records go to Parquet as they are made, and a folder belongs to one setting."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from captum_layermask.errors import InputError
from captum_layermask.files import write_whole

__all__ = ["Recorder", "claim_folder", "locked", "read_records", "recorded_units", "rounded", "write_table"]

SECONDS_BETWEEN_WRITES = 10.0
SIGNIFICANT_DIGITS = 6
_KEYS = ["image", "unit"]


class Recorder:
    """Writes the records of this process, a file every ten seconds and one at the end.

    A file is written under a temporary name and renamed when it is whole, and is never written again. So a
    process that is killed at any moment leaves a readable folder, and loses what it did since the last file.
    A file's name holds the digest of its bytes, so that no damage to it goes unseen. Numbers that are not
    whole are rounded to six significant digits.

    Use it as a context manager; its end writes what is left.

    Args:
        out: folder of the run.
        schema: of a record; the first two columns are ``image`` and ``unit``, strings.
        rank: number of this process.

    Example:
        ```python
        with Recorder(out, schema) as recorder:
            recorder.add("cat.png", "grid/grey", [{"predicted": 281}])
        ```
    """

    def __init__(self, out: Path, schema: pa.Schema, rank: int = 0) -> None:
        self._folder = out / "records"
        self._schema = schema
        self._rank = rank
        self._floats = {field.name for field in schema if pa.types.is_floating(field.type)}
        self._rows: list[dict[str, Any]] = []
        self._last_write = time.monotonic()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def add(self, image: str, unit: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add all records of one unit; ``image`` and ``unit`` are put into each.

        Raises:
            ValueError: a record lacks a column of the schema, or has one too many.
            InputError: the folder cannot be written to.
        """
        for row in rows:
            record = {"image": image, "unit": unit, **row}
            if record.keys() != set(self._schema.names):
                raise ValueError(f"a record has {sorted(record)}, the schema {sorted(self._schema.names)}.")
            for name in self._floats:
                record[name] = rounded(record[name])
            self._rows.append(record)
        if time.monotonic() - self._last_write >= SECONDS_BETWEEN_WRITES:
            self._write()

    def _write(self) -> None:
        if self._rows:
            content = _parquet(pa.Table.from_pylist(self._rows, schema=self._schema))
            write_whole(self._folder / f"{self._rank}-{_digest(content)}.parquet", content)
            self._rows = []
        self._last_write = time.monotonic()


def rounded(value: float) -> float:
    """A number as it is recorded: six significant digits.

    Example:
        ```python
        rounded(0.123456789)  # 0.123457
        ```
    """
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """The folder of a run, made if need be, belongs to this run alone until the end of the block.

    The system lifts the lock when the process ends, however it ends. What stays is an empty file ``.lock``.

    Raises:
        InputError: another run writes there, or the folder cannot be made or written to.

    Example:
        ```python
        with locked(out):
            claim_folder(out, settings)
        ```
    """
    lock = FileLock(out / ".lock")
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"another run is writing to {str(out)!r}; wait for its end, or give another folder."
        ) from error
    except (OSError, NotImplementedError) as error:  # the latter: a file system that knows no locks
        raise InputError(f"cannot lock {str(out / '.lock')!r} ({error}); choose another place.") from error
    try:
        yield
    finally:
        lock.release()


def claim_folder(out: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a run into its folder, or check that they are those of the run it holds.

    Raises:
        InputError: the folder holds a run with other settings (the first that differs is named), records
            without settings, or cannot be written to.

    Example:
        ```python
        claim_folder(out, {"seed": 0})
        ```
    """
    path = out / "settings.json"
    wanted = json.loads(json.dumps(settings))
    if not path.exists():
        if _parts(out):
            raise InputError(f"{str(out)!r} holds records of unknown settings; give another folder.")
        write_whole(path, (json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode())
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {str(path)!r}; give another folder.") from error
    differing = _first_difference(found, wanted)
    if differing is not None:
        name, there, here = differing
        raise InputError(
            f"{str(out)!r} holds a run with {name} = {there}, and this one has {here}; give another folder, "
            "or the same settings to continue that run."
        )


def read_records(out: Path, schema: pa.Schema) -> pa.Table:
    """All records of a folder, sorted by image and unit; those of a unit keep their order.

    A unit that two runs did at once is there once.

    Raises:
        InputError: a file is damaged, or has other columns.

    Example:
        ```python
        read_records(out, experiment.schema).to_pandas()
        ```
    """
    seen: set[tuple[str, str]] = set()
    tables = [schema.empty_table()]
    for path in _parts(out):
        table = _read(path)
        if table.schema.names != schema.names:
            raise InputError(f"{str(path)!r} has other columns than this run; give another folder.")
        units = _units_of(table)
        if repeated := units & seen:
            pairs = zip(*(table[key].to_pylist() for key in _KEYS), strict=True)
            table = table.filter(pa.array([pair not in repeated for pair in pairs]))
        seen |= units
        tables.append(table.cast(schema))
    return pa.concat_tables(tables).sort_by([(key, "ascending") for key in _KEYS])


def recorded_units(out: Path) -> set[tuple[str, str]]:
    """The units that are recorded in a folder: pairs of an image and a unit.

    Example:
        ```python
        ("cat.png", "grid/grey") in recorded_units(out)
        ```
    """
    return {pair for path in _parts(out) for pair in _units_of(_read(path, _KEYS))}


def write_table(table: pa.Table, path: Path) -> None:
    """Write a Parquet file, whole or not at all.

    Raises:
        InputError: the file cannot be written.

    Example:
        ```python
        write_table(table, out / "left_out.parquet")
        ```
    """
    write_whole(path, _parquet(table))


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _parts(out: Path) -> list[Path]:
    return sorted(path for path in (out / "records").glob("*.parquet") if not path.name.startswith("."))


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            f"cannot read {str(path)!r} ({reason}); make it readable and start again."
        ) from error
    if path.stem.partition("-")[2] != _digest(content):
        raise InputError(
            f"{str(path)!r} is damaged; delete it and start again, and its units are done again."
        )
    return pq.ParquetFile(pa.BufferReader(content)).read(columns)


def _units_of(table: pa.Table) -> set[tuple[str, str]]:
    distinct = table.group_by(_KEYS).aggregate([])
    return set(zip(*(distinct[key].to_pylist() for key in _KEYS), strict=True))


def _first_difference(there: Any, here: Any, name: str = "") -> tuple[str, str, str] | None:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in {**here, **there}:
            inner = f"{name}.{key}" if name else key
            found = _first_difference(there.get(key), here.get(key), inner)
            if found is not None:
                return found
        return None
    return None if there == here else (name, json.dumps(there), json.dumps(here))
