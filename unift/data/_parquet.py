"""Parquet files as JSON lines, so that everything else needs to know lines only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from unift.errors import MissingDependency

_ROWS = 1024

Report = Callable[[str, int, str, str | None], None]


def parquet_lines(path: Path, report: Report) -> Iterator[tuple[list[bytes], float]]:
    """(rows as JSON lines, share of the file read), a batch at a time.

    Nulls are left out: columns are the same for all rows, so a key that a row does not have comes
    as a null. Row n is line n. Damage is reported as UD007, bytes and dates as UD002.

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
        for batch in file.iter_batches(batch_size=_ROWS):
            rows = batch.to_pylist()
            done += len(rows)
            lines = [json.dumps(_filled(row), ensure_ascii=False).encode() for row in rows]
            yield lines, done / total
    except (arrow.ArrowException, OSError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        report("UD007", done + 1, f"The Parquet file cannot be read: {why}.", None)
    except TypeError as error:  # json: Object of type bytes is not JSON serializable
        fix = "keep only columns of text, numbers, lists and structs"
        report("UD002", done + 1, f"A column is no text: {error}.", fix)


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {key: _filled(one) for key, one in fields.items() if one is not None}
    if isinstance(value, list):
        return [_filled(one) for one in cast("list[Any]", value)]
    return value
