"""Tokens of a data file, kept in ``UNIFT_HOME/tokens``: a file is tokenised once for a plan, its
run, and every time that the run is resumed.

Half a million tokens a second and core come from a chat template and its tokenizer, so a card would
wait a minute for 26 million of them at each start. Packing is not kept: it takes half a millisecond
for a step of 64 rows (benchmarks/results/training.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unift._home import home
from unift.provider import Plan
from unift_local.packing import Row, check_rows, make_rows
from unift_local.snapshot import read_snapshot

_BYTES = 2 * 2**30  # of all files together; what was not used for longest goes first
_DAY = 86_400.0  # seconds; a draft of that age was left behind by a process that was killed
_FORMAT = 1
#: All that decides how text becomes tokens.
_TOKENIZER = ("*.json", "*.jinja", "merges.txt", "vocab.txt", "*.model", "*.py")
_BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Tokens:
    """All rows end to end: `ids` int32 and `trained` bool (tokens,), `lengths` int32 (rows,)."""

    ids: np.ndarray[Any, Any]
    trained: np.ndarray[Any, Any]
    lengths: np.ndarray[Any, Any]

    @classmethod
    def of(cls, rendered: Sequence[Any]) -> Tokens:
        """From `unift.data.rendering.Rendered`, one a row."""
        return cls(
            np.concatenate([np.asarray(one.input_ids, np.int32) for one in rendered]),
            np.concatenate([np.asarray(one.trained, np.bool_) for one in rendered]),
            np.asarray([len(one.input_ids) for one in rendered], np.int32),
        )

    def rows(self) -> list[Row]:
        """Rows as the trainer takes them."""
        ends = np.cumsum(self.lengths)
        labels = np.where(self.trained, self.ids, -100)
        return [
            Row(self.ids[end - length : end].tolist(), labels[end - length : end].tolist())
            for end, length in zip(ends.tolist(), self.lengths.tolist(), strict=True)
        ]


def key(data: Path, tokenizer: Path, stops: frozenset[int]) -> str:
    """The name of the tokens of a data file under the tokenizer of a folder."""
    import tokenizers
    import transformers

    digest = hashlib.sha256()
    digest.update(repr((_FORMAT, sorted(stops))).encode())
    digest.update(f"{transformers.__version__} {tokenizers.__version__}".encode())
    found = {one for pattern in _TOKENIZER for one in tokenizer.glob(pattern)}
    for path in [data, *sorted(found)]:
        digest.update(f"\0{path.name if path != data else ''}\0".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def load(name: str, limit: int) -> Tokens | None:
    """Kept tokens, or None: there are none, they are damaged, or a row is over `limit` tokens."""
    path = _folder() / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            found = Tokens(kept["ids"], kept["trained"], kept["lengths"])
        if int(found.lengths.sum()) != len(found.ids) or len(found.ids) != len(found.trained):
            raise ValueError("lengths do not add up")
        os.utime(path)
    except FileNotFoundError:
        return None
    except _BROKEN:
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    return found if int(found.lengths.max(initial=0)) <= limit else None


def rows_of_run(
    plan: Plan, snapshot: Path, part: str, tokenizer: Any, stops: frozenset[int]
) -> list[Row]:
    """The rows of a part of a run: kept since its plan, or rendered from its snapshot.

    Raises:
        DataError: Rows that cannot be trained on.
    """
    from unift.data.rendering import render_all

    limit = plan.value("max_length")
    name = plan.payload.get("token_files", {}).get("data" if part == "train" else part)
    kept = load(name, limit) if name else None
    if kept is not None:
        return check_rows(kept.rows())
    return make_rows(render_all(tokenizer, read_snapshot(snapshot), limit, stop_ids=stops))


def save(name: str, tokens: Tokens) -> None:
    """Keep tokens; without room or permission nothing is kept, which is no error."""
    folder = _folder()
    draft = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
            draft = file.name
            np.savez(file, ids=tokens.ids, trained=tokens.trained, lengths=tokens.lengths)
        Path(draft).replace(folder / f"{name}.npz")
        _make_room(folder, name)
    except OSError:
        if draft:
            Path(draft).unlink(missing_ok=True)


def _make_room(folder: Path, newest: str) -> None:
    """Delete what was not used for longest, until the rest is within the bound; and old drafts."""
    for draft in folder.glob("*.part"):
        if time.time() - draft.stat().st_mtime > _DAY:
            draft.unlink(missing_ok=True)
    sizes = [(one.stat().st_mtime, one.stat().st_size, one) for one in folder.glob("*.npz")]
    total = sum(size for _, size, _ in sizes)
    for _, size, one in sorted(sizes, key=lambda entry: entry[0]):
        if total <= _BYTES:
            break
        if one.stem != newest:
            one.unlink(missing_ok=True)
            total -= size


def _folder() -> Path:
    return home() / "tokens"
