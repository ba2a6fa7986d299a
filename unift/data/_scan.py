"""One pass over one file: lines to rows, faults to the sink, texts to the token counter."""

from __future__ import annotations

import json
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from unift.data._deep import Deep
from unift.data._finding import Path as JsonPath
from unift.data._layout import layout
from unift.data._lines import blocks
from unift.data._other import check_other
from unift.data._parse import parse
from unift.data._parts import images_in, text_of_parts
from unift.data._row import check_row
from unift.data._rows import plain
from unift.data._sink import Sink
from unift.data._tokens import Counter
from unift.data._whole import Signatures
from unift.data.formats import Format, detect

# Blocks whose tokens may be under way while the next ones are read; bounds the memory.
_AHEAD = 4


CHAT = "openai-chat"
# So many lines are looked at to find out the format.
_LOOK = 50


@dataclass(slots=True)
class Scanned:
    """What one pass found out, besides findings."""

    signatures: Signatures
    rows: int = 0
    good: int = 0
    images: int = 0
    characters: int = 0
    format: str = CHAT
    format_reason: str = ""
    tokens: array[int] = field(default_factory=lambda: array("I"))


@dataclass(frozen=True, slots=True)
class Content:
    """The part of a good row that is read and learnt."""

    roles: tuple[str, ...]
    texts: Sequence[str]
    extra: str = ""
    images: int = 0


class Scan:
    """Reads one file.

    Args:
        path: The file, found.
        shown: Its name in findings.
        seen: Called with the bytes read so far, a block at a time.
        counted: Called with (file, line, tokens) of rows with more tokens than `watched`.
        watched: The lowest limit that anybody has; None for no limit.
        on_images: Called with (file, line, images) of rows that have images.
        form: Format of the rows; None to look.
        deep: What takes a closer look at every good row, if anything does.
    """

    def __init__(
        self,
        path: Path,
        shown: str,
        sink: Sink,
        counter: Counter,
        pool: ThreadPoolExecutor | None,
        *,
        seen: Callable[[int], None],
        counted: Callable[[str, int, int], None],
        on_images: Callable[[str, int, int], None],
        watched: int | None = None,
        form: Format | None = None,
        deep: Deep | None = None,
    ) -> None:
        self._path = path
        self._shown = shown
        self._sink = sink
        self._counter = counter
        self._pool = pool
        self._seen = seen
        self._counted = counted
        self._on_images = on_images
        self._watched = watched
        self._form = form
        self._deep = deep
        self._waiting: deque[tuple[list[int], list[int], Future[list[int]] | list[int]]] = deque()
        self.result = Scanned(Signatures(shown))

    def run(self) -> Scanned:
        """Read it all."""
        stopped = False
        for block in blocks(self._path, self._report):
            if block.first == 1 and self._other_layout(block.lines):
                stopped = True
                break
            if block.first == 1:
                self._recognise(block.lines)
            self._block(block.first, block.lines)
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

    def _block(self, first: int, lines: list[bytes]) -> None:
        result = self.result
        texts: list[str] = []
        sizes: list[int] = []
        numbers: list[int] = []
        signed = result.signatures.add
        fast_way = self._form is None
        for number, line in enumerate(lines, first):
            fast = plain(line) if fast_way else None
            if fast is not None:
                # Written out, without an object for the row: most rows of most files come here.
                roles, said = fast
                result.rows += 1
                signed(number, roles, said, "")
                texts += said
                sizes.append(len(said))
                if self._deep is not None:
                    self._deep.add(number, roles, said)
            else:
                if not line or line.isspace():
                    self._report("UD005", number, "The line is blank.", None)
                    continue
                result.rows += 1
                content = self._look(number, line)
                if content is None:
                    continue
                signed(number, content.roles, content.texts, content.extra)
                texts += content.texts
                sizes.append(len(content.texts))
                if content.extra:
                    # Counted as tokens, but nobody says it.
                    texts.append(content.extra)
                    sizes[-1] += 1
                    result.characters -= len(content.extra)
                if self._deep is not None:
                    self._deep.add(number, content.roles, content.texts)
                if content.images:
                    result.images += 1
                    self._on_images(self._shown, number, content.images)
            result.good += 1
            numbers.append(number)
        result.characters += sum(map(len, texts))
        self._count(texts, sizes, numbers)

    def _look(self, number: int, line: bytes) -> Content | None:
        """The slow way. None if the row has an error."""
        bad = False
        text: str | None = None

        def note(
            code: str,
            path: JsonPath,
            message: str,
            fix: str | None = None,
            at: int | None = None,
        ) -> None:
            nonlocal bad
            severity = self._sink.add(
                code,
                file=self._shown,
                line=number,
                path=path,
                message=message,
                fix=fix,
                text=text if text is not None else line.decode("utf-8", "replace"),
                at=at,
            )
            bad = bad or severity == "error"

        text, row = parse(line, note)
        if row is None and (text is None or bad):
            return None
        if self._form is None:
            check_row(row, note)
        else:
            row = check_other(row, self._form, note)
        return None if bad or row is None else content_of(cast("dict[str, Any]", row))

    def _count(self, texts: list[str], sizes: list[int], numbers: list[int]) -> None:
        if self._pool is None:
            self._waiting.append((sizes, numbers, self._counter.count(texts)))
        else:
            self._waiting.append((sizes, numbers, self._pool.submit(self._counter.count, texts)))
        while len(self._waiting) > _AHEAD:
            self._collect()

    def _collect(self) -> None:
        sizes, numbers, future = self._waiting.popleft()
        counts = future.result() if isinstance(future, Future) else future
        per_message, per_row = self._counter.per_message, self._counter.per_row
        at = 0
        add, watched = self.result.tokens.append, self._watched
        for size, number in zip(sizes, numbers, strict=True):
            tokens = sum(counts[at : at + size]) + size * per_message + per_row
            at += size
            add(tokens)
            if watched is not None and tokens > watched:
                self._counted(self._shown, number, tokens)


def first_values(lines: list[bytes]) -> Iterator[Any]:
    """The first rows of a file that are JSON, to tell the format from."""
    for line in lines[:_LOOK]:
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
    return Content(
        roles=tuple(str(message["role"]) for message in messages),
        texts=texts,
        extra=canonical(tools) if tools else "",
        images=images_in(messages),
    )


def canonical(value: object) -> str:
    """JSON that does not depend on key order or white space."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
