"""One pass over one file: lines to rows, faults to the sink, texts to the token counter."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from unift.data._batch import Batch, Content
from unift.data._deep import Deep
from unift.data._finding import Path as JsonPath
from unift.data._fit import Fit
from unift.data._layout import layout
from unift.data._lengths import Lengths
from unift.data._lines import Block, blocks
from unift.data._other import REFERENCES, check_other
from unift.data._parse import LONG, parse, too_heavy
from unift.data._parts import images_in, text_of_parts
from unift.data._plain import PlainRows
from unift.data._row import check_row, note_key
from unift.data._rows import plain_rows
from unift.data._shapes import SHAPES
from unift.data._sink import Sink
from unift.data._tokens import Counter, Counts
from unift.data._whole import Signatures
from unift.data.codes import explain
from unift.data.formats import Format, detect

# Blocks whose tokens may be under way while the next ones are read; bounds the memory.
_AHEAD = 8
_AHEAD_CHARACTERS = 16 << 20

CHAT = "openai-chat"
# So many lines are looked at to find out the format.
_LOOK = 50


@dataclass(slots=True)
class Scanned:
    """What one pass found out, besides findings."""

    signatures: Signatures
    rows: int = 0
    images: int = 0
    characters: int = 0
    format: str = CHAT
    format_reason: str = ""
    lengths: Lengths = field(default_factory=Lengths)


class Scan:
    """Reads one file.

    Args:
        path: The file, found.
        signatures: Take in the good rows; know the name of the file in findings.
        seen: Called with the bytes read so far, a block at a time.
        counted: Called with (file, line, tokens) of rows with more tokens than `watched`.
        watched: The lowest limit that anybody has; None for no limit.
        on_images: Called with (file, line, images) of rows that have images.
        form: Format of the rows; None to look.
        fit: Made for the format of the rows: what they lose on their way to a vendor.
        deep: What takes a closer look at every good row, if anything does.
    """

    def __init__(
        self,
        path: Path,
        signatures: Signatures,
        sink: Sink,
        counter: Counter,
        pool: ThreadPoolExecutor | None,
        *,
        seen: Callable[[int], None],
        counted: Callable[[str, int, int], None],
        on_images: Callable[[str, int, int], None],
        watched: int | None = None,
        form: Format | None = None,
        fit: Callable[[Format], Fit] | None = None,
        deep: Deep | None = None,
    ) -> None:
        self._path = path
        self._shown = signatures.file
        self._sink = sink
        self._counter = counter
        self._pool = pool
        self._seen = seen
        self._counted = counted
        self._on_images = on_images
        self._watched = watched
        self._form = form
        self._make_fit = fit
        self._fit: Fit | None = None
        self._rewritten = False
        self._deep = deep
        self._waiting: deque[_Counting] = deque()
        self.result = Scanned(signatures)

    def run(self) -> Scanned:
        """Read it all."""
        stopped = False
        for block in blocks(self._path, self._report):
            if block.first == 1 and self._other_layout(block.lines):
                stopped = True
                break
            if block.first == 1:
                self._recognise(block.lines)
            self._block(block)
            self._seen(block.position)
        while self._waiting:
            self._collect()
        if not stopped and not self.result.rows and not self._sink.counts.keys() & _NOT_EMPTY:
            self._report("UD001", 0, "The file has no rows.", None)
        return self.result

    def _report(self, code: str, line: int, message: str, fix: str | None) -> None:
        self._sink.add(code, file=self._shown, line=line, message=message, fix=fix)

    def _other_layout(self, lines: list[bytes]) -> bool:
        """Look at the start of the file; say so if it is no JSON Lines at all."""
        found = layout(lines)
        if found is None:
            return False
        code, message = found
        self._report(code, 1, message, None)
        return True

    def _recognise(self, lines: list[bytes]) -> None:
        """Which format the rows are in: as the caller said, else by looking at the first ones."""
        if self._form is not None:
            found, reason = self._form, "as given"
        else:
            found, reason = detect(first_values(lines))
        self.result.format, self.result.format_reason = found.name, reason
        self._form = None if found.name == CHAT else found
        # What nobody reads does not get into the chat rows that are made of others.
        self._rewritten = not found.name.startswith("openai")
        self._fit = (self._make_fit(found) or None) if self._make_fit is not None else None

    def _block(self, block: Block) -> None:
        shape = SHAPES.get(self.result.format)
        weighted = self._fit is None or not self._fit.weights
        fast = plain_rows(block, shape, weighted) if shape is not None else PlainRows()
        slow: list[tuple[int, Content]] = []
        if len(fast.lines) < block.count:
            quick = frozenset(fast.lines)
            for index, line in enumerate(block.lines):
                if fast.notes and index == fast.noted:
                    self._tell_notes(block, fast)
                if index in quick:
                    continue
                if not line or line.isspace():
                    self._report("UD005", block.first + index, "The line is blank.", None)
                    continue
                self.result.rows += 1
                content = self._look(block.first + index, line)
                if content is not None:
                    slow.append((block.first + index, content))
        elif fast.notes:
            self._tell_notes(block, fast)
        self.result.rows += len(fast.lines)
        batch = Batch(block.first, fast)
        batch.take(slow)
        if batch.numbers:
            self._sign(batch)

    def _tell_notes(self, block: Block, fast: PlainRows) -> None:
        """Of notes in rows of the fast way, as the slow way tells of them: once a file."""
        line = block.lines[fast.noted]

        def note(code: str, path: JsonPath, message: str, fix: str | None = None) -> None:
            self._sink.add(
                code,
                file=self._shown,
                line=block.first + fast.noted,
                path=path,
                message=message,
                fix=fix,
                text=line.decode("utf-8", "replace"),
            )

        for key in fast.notes:
            note_key(key, (), note)

    def _sign(self, batch: Batch) -> None:
        """Everything that is done with good rows."""
        result = self.result
        result.signatures.add(
            batch.numbers, batch.prompts, batch.answers, batch.last, batch.systems
        )
        result.characters += int(batch.lengths.sum()) - batch.unsaid
        for number, images in batch.images:
            result.images += 1
            self._on_images(self._shown, number, images)
        if self._deep is not None:
            for number, roles, texts in sorted(batch.rows()):
                self._deep.add(number, roles, texts)
        self._count(batch)

    def _look(self, number: int, line: bytes) -> Content | None:
        """The slow way. None if the row has an error, for whoever it is one."""
        bad = broken = False
        text: str | None = None

        def note(
            code: str,
            path: JsonPath,
            message: str,
            fix: str | None = None,
            at: int | None = None,
        ) -> None:
            nonlocal bad, broken
            shown = text
            if len(line) > LONG and at is None:
                shown = None  # to find the place would take the memory again
            elif shown is None and len(line) <= LONG:
                shown = line.decode("utf-8", "replace")
            severity = self._sink.add(
                code,
                file=self._shown,
                line=number,
                path=path,
                message=message,
                fix=fix,
                text=shown,
                at=at,
                severity="warning" if code == "UD216" and self._rewritten else None,
            )
            bad = bad or severity == "error"
            broken = broken or explain(code).severity == "error"

        text, row = parse(line, note)
        if row is None and (text is None or bad):
            return None
        given = row
        if self._form is None:
            check_row(row, note)
        else:
            row = check_other(row, self._form, note)
        if broken or row is None:
            return None
        if self._fit is not None:
            bad = self._loses(number, given) or bad
        content = content_of(cast("dict[str, Any]", row))
        if bad and content.images:
            self._on_images(self._shown, number, content.images)
        return None if bad else content

    def _loses(self, number: int, row: Any) -> bool:
        """Tell what has no place where the row goes; True if there is anything."""
        assert self._fit is not None
        losses = self._fit.losses(row)
        for message, fix, providers in losses:
            self._sink.add(
                "UD907",
                file=self._shown,
                line=number,
                message=message,
                fix=fix,
                providers=providers,
            )
        return bool(losses)

    def _count(self, batch: Batch) -> None:
        self._waiting.append(_Counting(self._counter, batch, self._pool))
        ahead = _AHEAD if self._pool is not None else 0
        while len(self._waiting) > ahead or (
            self._waiting and sum(one.characters for one in self._waiting) > _AHEAD_CHARACTERS
        ):
            self._collect()

    def _collect(self) -> None:
        """Take the oldest counts; while they are not there, count what no thread has begun."""
        oldest = self._waiting.popleft()
        for other in (oldest, *reversed(self._waiting)):
            if oldest.done():
                break
            other.take_over()
        counts = oldest.result()
        per_message, per_row = self._counter.per_message, self._counter.per_row
        starts = np.cumsum(oldest.sizes) - oldest.sizes
        tokens = np.add.reduceat(counts, starts)
        tokens += oldest.sizes * per_message + per_row
        self.result.lengths.add(tokens, oldest.numbers)
        if self._watched is not None:
            for at in np.flatnonzero(tokens > self._watched).tolist():
                self._counted(self._shown, oldest.numbers[at], int(tokens[at]))


class _Counting:
    """The tokens of a batch, counted by a thread of the pool or by whoever asks for them."""

    def __init__(self, counter: Counter, batch: Batch, pool: ThreadPoolExecutor | None) -> None:
        self.sizes, self.numbers = batch.sizes, batch.numbers
        self.characters = int(batch.lengths.sum())
        self._count = partial(counter.count, batch.texts, batch.lengths, batch.ascii)
        self._counts: Counts | None = None
        self._future = pool.submit(self._count) if pool is not None else None

    def done(self) -> bool:
        """True if `result` would not wait."""
        return self._counts is not None or (self._future is not None and self._future.done())

    def take_over(self) -> None:
        """Count here and now, if no thread has begun."""
        if self._counts is None and (self._future is None or self._future.cancel()):
            self._counts = self._count()

    def result(self) -> Counts:
        """The tokens of each text."""
        if self._counts is None:
            assert self._future is not None
            self._counts = self._future.result()
        return self._counts


def first_values(lines: list[bytes]) -> Iterator[Any]:
    """The first rows of a file that are JSON, to tell the format from."""
    for line in lines[:_LOOK]:
        if too_heavy(line):
            continue
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            continue


# Findings that already explain why a file has no rows.
_NOT_EMPTY = frozenset({"UD002", "UD006", "UD007", "UD008"})


def content_of(row: dict[str, Any]) -> Content:
    """Roles and texts of a checked row. What is no plain text is kept as canonical JSON."""
    messages = cast("list[dict[str, Any]]", row["messages"])
    texts: list[str] = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            parts = cast("list[Any]", content)
            text = text_of_parts(parts)
        else:
            text = content if isinstance(content, str) else ""
        calls = message.get("tool_calls")
        if calls:
            text += canonical(calls)
        texts.append(text)
    tools = row.get("tools")
    roles = [str(message["role"]) for message in messages]
    if REFERENCES in row:
        # In place of the answer, so that equal prompts are equal rows only with equal references.
        roles.append("reference")
        texts.append(canonical(row[REFERENCES]))
    return Content(
        roles=tuple(roles),
        texts=texts,
        extra=canonical(tools) if tools else "",
        images=images_in(messages),
    )


def canonical(value: object) -> str:
    """JSON that does not depend on key order or white space."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
