"""Parquet files as JSON lines, so that everything else needs to know lines only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from unift.errors import MissingDependency

_ROWS = 1024
_BYTES = 8 << 20

Report = Callable[[str, int, str, str | None], None]


def parquet_lines(path: Path, report: Report) -> Iterator[tuple[list[bytes], float]]:
    """(rows as JSON lines, share of the file read), a batch at a time.

    Nulls are left out, and what is no number (pandas writes it for nothing): columns are the same
    for all rows, so a key that a row does not have comes as one of these. Dates, times and
    decimals become texts. Row n is line n. Damage is reported as UD007, bytes as UD002.

    Raises:
        MissingDependency: pyarrow is not installed.
    """
    try:
        import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs]  # has none
        import pyarrow.parquet as pq  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise MissingDependency(
            "Reading Parquet needs pyarrow.", where=str(path), fix="pip install 'unift[local]'"
        ) from None
    arrow, parquet = cast("Any", pa), cast("Any", pq)
    done = 0
    try:
        file = parquet.ParquetFile(path)
        total = max(1, file.metadata.num_rows)
        for batch in file.iter_batches(batch_size=_at_once(file.metadata)):
            rows = batch.to_pylist()
            done += len(rows)
            lines = [
                json.dumps(_filled(row), ensure_ascii=False, default=_text).encode() for row in rows
            ]
            yield lines, done / total
    except (arrow.ArrowException, OSError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        report("UD007", done + 1, f"The Parquet file cannot be read: {why}.", None)
    except TypeError as error:
        fix = "keep only columns of text, numbers, lists and structs"
        report("UD002", done + 1, f"The row is no text: {error}.", fix)


def _at_once(metadata: Any) -> int:
    """Rows of a batch: fewer where they are large, as pictures are."""
    sizes = (metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups))
    each = sum(sizes) // max(1, metadata.num_rows)
    return max(1, min(_ROWS, _BYTES // max(1, each)))


def _text(value: Any) -> str:
    """A value that JSON has no word for, as ISO 8601 and Python write it."""
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta | UUID):
        return str(value)
    raise TypeError(f"values of the type {type(value).__name__} are no text")


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {key: _filled(one) for key, one in fields.items() if one is not None and one == one}
    if isinstance(value, list):
        return [_filled(one) for one in cast("list[Any]", value)]
    return value
