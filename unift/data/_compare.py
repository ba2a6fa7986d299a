"""What is in a file, and what is different in another one."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unift.data._content import RowContent

FileName = str | os.PathLike[str]

_LISTED = 1000
_LABEL = 100
_USES = 5


@dataclass(frozen=True, slots=True)
class Stats:
    """The outcome of `unift.data.stats`.

    Attributes:
        file: As the user named it.
        format: Of the rows (`unift.data.formats`).
        fingerprint: See `unift.data.fingerprint`.
        rows: How many.
        distinct_rows: Without exact repeats.
        distinct_prompts: Conversations up to the answer.
        roles: Role -> messages.
        messages: Share (50, 90, 100 percent) -> messages in a row.
        characters: Share -> characters in a row.
        answers: Share -> characters in an answer (the last message).
        systems: How many different system prompts there are; "none" counts as one.
        with_tools: Rows that declare tools.
        with_images: Rows with an image.
        labels: Answer -> rows, the frequent ones first; empty if answers are no labels.
    """

    file: str
    format: str
    fingerprint: str
    rows: int
    distinct_rows: int
    distinct_prompts: int
    roles: dict[str, int]
    messages: dict[int, int]
    characters: dict[int, int]
    answers: dict[int, int]
    systems: int
    with_tools: int
    with_images: int
    labels: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """The ``--json`` document of ``unift data stats``."""
        spread = {"messages": self.messages, "characters": self.characters, "answers": self.answers}
        return {
            "file": self.file,
            "format": self.format,
            "fingerprint": self.fingerprint,
            "rows": self.rows,
            "distinct_rows": self.distinct_rows,
            "distinct_prompts": self.distinct_prompts,
            "roles": self.roles,
            **{
                name: {f"p{share}": value for share, value in one.items()}
                for name, one in spread.items()
            },
            "systems": self.systems,
            "with_tools": self.with_tools,
            "with_images": self.with_images,
            "labels": self.labels,
        }


@dataclass(frozen=True, slots=True)
class Diff:
    """The outcome of `unift.data.diff`. Lines are those of the first 1,000 rows of each kind.

    Attributes:
        same: Rows that are in both files.
        removed: Rows that only the first file has.
        added: Rows that only the second one has.
        changed: Rows whose prompt is in both files, with another answer.
        reordered: True if the files have the same rows in another order.
        removed_lines: In the first file.
        added_lines: In the second file.
        changed_lines: (in the first file, in the second file).
    """

    same: int
    removed: int
    added: int
    changed: int
    reordered: bool
    removed_lines: tuple[int, ...]
    added_lines: tuple[int, ...]
    changed_lines: tuple[tuple[int, int], ...]

    @property
    def equal(self) -> bool:
        """True if both files say the same, in the same order."""
        return not (self.removed or self.added or self.changed or self.reordered)

    def as_dict(self) -> dict[str, Any]:
        """The ``--json`` document of ``unift data diff``."""
        return {
            "equal": self.equal,
            "same": self.same,
            "removed": self.removed,
            "added": self.added,
            "changed": self.changed,
            "reordered": self.reordered,
            "removed_lines": list(self.removed_lines),
            "added_lines": list(self.added_lines),
            "changed_lines": [list(pair) for pair in self.changed_lines],
        }


def stats(path: FileName) -> Stats:
    """Count what is in a file, in whatever format it is.

    Raises:
        UsageError: The file is missing or is a folder.
        DataError: A row has an error; file and line are in `where`.
    """
    from unift.data._content import contents
    from unift.data._examples import fingerprint
    from unift.data._lines import find_file

    roles: Counter[str] = Counter()
    labels: Counter[str] | None = Counter()
    systems: set[int] = set()
    rows: set[bytes] = set()
    prompts: set[bytes] = set()
    messages: list[int] = []
    characters: list[int] = []
    answers: list[int] = []
    tools = images = 0
    name = ""
    for row in contents(find_file(path), str(path)):
        said, name = row.content, row.format
        roles.update(said.roles)
        first = said.texts[0] if said.roles[0] in ("system", "developer") else ""
        systems.add(hash(first))
        prompt, whole = _identity(row.value, row)
        rows.add(whole)
        prompts.add(prompt)
        messages.append(len(said.roles))
        characters.append(sum(map(len, said.texts)))
        answers.append(len(said.texts[-1]))
        tools += bool(said.extra)
        images += bool(said.images)
        if labels is not None:
            labels[said.texts[-1]] += 1
            if len(said.texts[-1]) > _LABEL:
                labels = None
    if labels is not None and len(labels) * _USES > len(messages):
        labels = None
    return Stats(
        file=str(path),
        format=name,
        fingerprint=fingerprint(path),
        rows=len(messages),
        distinct_rows=len(rows),
        distinct_prompts=len(prompts),
        roles=dict(roles.most_common()),
        messages=_spread(messages),
        characters=_spread(characters),
        answers=_spread(answers),
        systems=len(systems),
        with_tools=tools,
        with_images=images,
        labels=dict(labels.most_common()) if labels is not None else {},
    )


def diff(first: FileName, second: FileName) -> Diff:
    """Compare two files by what their rows say; spelling, compression and notes do not count.

    Files in different formats are compared by what their rows mean.

    Raises:
        UsageError: A file is missing or is a folder.
        DataError: A row has an error; file and line are in `where`.
    """
    one, other = _Side(first), _Side(second)
    if one.format != other.format:
        one, other = _Side(first, meant=True), _Side(second, meant=True)
    common = one.rows & other.rows
    mine, theirs = one.left(common), other.left(common)
    by_prompt: dict[bytes, list[int]] = {}
    for line, prompt in theirs:
        by_prompt.setdefault(prompt, []).append(line)
    changed: list[tuple[int, int]] = []
    removed: list[int] = []
    for line, prompt in mine:
        waiting = by_prompt.get(prompt)
        if waiting:
            changed.append((line, waiting.pop(0)))
        else:
            removed.append(line)
    added = sorted(line for waiting in by_prompt.values() for line in waiting)
    return Diff(
        same=common.total(),
        removed=len(removed),
        added=len(added),
        changed=len(changed),
        reordered=not (removed or added or changed) and one.order != other.order,
        removed_lines=tuple(removed[:_LISTED]),
        added_lines=tuple(added[:_LISTED]),
        changed_lines=tuple(changed[:_LISTED]),
    )


class _Side:
    """The rows of one file: (line, prompt, whole), 40 bytes of digests each."""

    def __init__(self, path: FileName, *, meant: bool = False) -> None:
        from unift.data._content import contents
        from unift.data._lines import find_file
        from unift.data._meaning import meaning

        found: Path = find_file(path)
        self.format = ""
        self._all: list[tuple[int, bytes, bytes]] = []
        for row in contents(found, str(path)):
            self.format = row.format
            value = meaning(row) if meant else row.value
            self._all.append((row.line, *_identity(value, row)))
        self.rows: Counter[bytes] = Counter(whole for _, _, whole in self._all)
        self.order = [whole for _, _, whole in self._all]

    def left(self, common: Counter[bytes]) -> list[tuple[int, bytes]]:
        """(line, prompt) of rows that the other file has not."""
        rest = Counter(common)
        left: list[tuple[int, bytes]] = []
        for line, prompt, whole in self._all:
            if rest[whole] > 0:
                rest[whole] -= 1
            else:
                left.append((line, prompt))
        return left


def _identity(value: dict[str, Any], row: RowContent) -> tuple[bytes, bytes]:
    """Digests of the prompt and of the whole row, without the notes beside what is said."""
    from unift.data._row import NOTES
    from unift.data._scan import canonical
    from unift.data.formats import FORMATS

    content = row.content
    prompt = "\0".join((repr(content.roles[:-1]), *content.texts[:-1], content.extra))
    if FORMATS[row.format].kind != "reinforcement":  # there they may be for the grader
        value = {key: one for key, one in value.items() if key not in NOTES}
    return _digest(prompt), _digest(canonical(value))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def _spread(values: list[int]) -> dict[int, int]:
    ordered = sorted(values)
    return {share: ordered[min(len(ordered) - 1, len(ordered) * share // 100)] for share in _SHARES}


_SHARES = (50, 90, 100)
