"""Split a file into parts that share nothing: deterministic, by groups, stratified by label."""

from __future__ import annotations

import filecmp
import hashlib
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unift.errors import UsageError

FileName = str | os.PathLike[str]
PARTS: Mapping[str, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}

# Answers that are labels: short, and each used several times on average.
_LABEL = 100
_USES = 5


@dataclass(frozen=True, slots=True)
class Split:
    """The outcome of `unift.data.split`.

    Attributes:
        files: Part -> the file that was written.
        rows: Part -> its rows.
        groups: Groups of rows that were kept together, single rows included.
        largest_group: Rows of the largest of them.
        near: True if nearly equal rows were kept together as well.
        labels: Label -> part -> rows; empty if the answers are no labels.
        left_out: Always 0: every row is compared for nearness. It once counted those that were not.
    """

    files: dict[str, str]
    rows: dict[str, int]
    groups: int
    largest_group: int
    near: bool
    labels: dict[str, dict[str, int]]
    left_out: int = 0  # kept since names of a document are never taken away

    def as_dict(self) -> dict[str, Any]:
        """The ``--json`` document of ``unift data split``."""
        return {
            "files": self.files,
            "rows": self.rows,
            "groups": self.groups,
            "largest_group": self.largest_group,
            "near": self.near,
            "labels": self.labels,
            "left_out": self.left_out,
        }


def split(
    path: FileName,
    folder: FileName,
    *,
    parts: Mapping[str, float] = PARTS,
    seed: int = 0,
    near: bool = True,
    force: bool = False,
) -> Split:
    """Split training data into files that can be trained on and tested with.

    Rows with the same prompt, and rows that are nearly the same, stay together, so nothing that is
    tested was learnt. Where answers are labels (at most 100 characters, five uses each on average)
    every part gets its share of each. The same rows, parts and seed give the same parts, whatever
    the order of the rows and the spelling of their JSON.

    Args:
        path: As for `unift.validate`; any format, no errors.
        folder: Gets ``<name>.<part>.jsonl`` for each part; rows as they are, in file order.
        parts: Name -> share; shares are scaled to a sum of 1.
        seed: Another seed, another split.
        near: Look for nearly equal rows too (needs ``unift[data]``).
        force: Replace files of the same names that have something else in them.

    Raises:
        UsageError: Fewer than two parts, a share that is not positive, more parts than groups, a
            folder that cannot be written, or without `force` an earlier part that would change.
        MissingDependency: `near`, and rensa is not installed.
        DataError: A row has an error.
    """
    from unift.data._lines import find_file

    shares = _shares(parts)
    found, shown = find_file(path), str(path)
    rows = _Rows(found, shown, seed, near)
    members = rows.groups()
    if len(members) < len(shares):
        raise UsageError(
            f"The file has {len(members)} groups of rows that belong together, fewer than parts.",
            code="too_few_groups",
            where=shown,
            fix="ask for fewer parts, or add rows",
        )
    labels = rows.labels()
    chosen = _assign(members, rows.keys, labels, shares)
    stem = found.name.removesuffix(found.suffix if found.suffix in (".gz", ".zst") else "")
    stem = stem.removesuffix(".jsonl").removesuffix(".parquet")
    target = Path(folder)
    files = {part: target / f"{stem}.{part}.jsonl" for part in shares}
    _write(found, shown, files, chosen, force)
    table: dict[str, dict[str, int]] = {}
    for label, part in zip(labels or (), chosen, strict=False):
        table.setdefault(label, dict.fromkeys(shares, 0))[part] += 1
    counts = Counter(chosen)
    return Split(
        files={part: str(file) for part, file in files.items()},
        rows={part: counts[part] for part in shares},
        groups=len(members),
        largest_group=max(map(len, members)),
        near=near,
        labels=dict(sorted(table.items())),
    )


def _shares(parts: Mapping[str, float]) -> dict[str, float]:
    total = sum(parts.values())
    if len(parts) < 2 or min(parts.values()) <= 0 or not total < float("inf"):
        raise UsageError(
            "A split needs two parts or more, each with a share above 0.",
            code="bad_parts",
            where="parts",
            fix="for example train=0.8 validation=0.1 test=0.1",
        )
    for name in parts:
        if not name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(
                f"The part {name!r} cannot be part of a file name.",
                code="bad_parts",
                where="parts",
                fix="use letters, digits, - and _",
            )
    return {name: share / total for name, share in parts.items()}


class _Rows:
    """What is needed of every row: a key of its content, its group, its answer."""

    def __init__(self, path: Path, shown: str, seed: int, near: bool) -> None:
        from unift.data._content import contents
        from unift.data._near import NearRows
        from unift.data._scan import canonical

        self.keys: list[bytes] = []
        self._parent = array("q")
        self._answers: list[str] | None = []
        prompts: dict[bytes, int] = {}
        with ExitStack() as stack:
            sketches = stack.enter_context(closing(NearRows(shown))) if near else None
            for index, row in enumerate(contents(path, shown)):
                said = row.content
                self._parent.append(index)
                self.keys.append(_digest(str(seed), canonical(row.value)))
                prompt = _digest(repr(said.roles[:-1]), *said.texts[:-1], said.extra)
                self._join(index, prompts.setdefault(prompt, index))
                if sketches is not None:
                    pairs = zip(said.roles, said.texts, strict=True)
                    texts = [text for role, text in pairs if role not in ("system", "developer")]
                    sketches.add(index, texts)
                self._note_answer(said.texts[-1])
            for found, before, _ in sketches.pairs() if sketches is not None else ():
                for pair in set(zip(found.tolist(), before.tolist(), strict=True)):
                    self._join(*pair)

    def _note_answer(self, answer: str) -> None:
        if self._answers is not None:
            if len(answer) > _LABEL:
                self._answers = None
            else:
                self._answers.append(answer)

    def labels(self) -> list[str] | None:
        """The label of each row, or None if the answers are none."""
        if not self._answers or len(set(self._answers)) * _USES > len(self._answers):
            return None
        return self._answers

    def groups(self) -> list[list[int]]:
        """Rows that belong together, by the smallest key among them."""
        found: dict[int, list[int]] = defaultdict(list)
        for index in range(len(self._parent)):
            found[self._root(index)].append(index)
        return sorted(found.values(), key=lambda rows: min(self.keys[row] for row in rows))

    def _root(self, index: int) -> int:
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def _join(self, one: int, other: int) -> None:
        one, other = self._root(one), self._root(other)
        self._parent[max(one, other)] = min(one, other)


def _digest(*texts: str) -> bytes:
    joined = "\0".join(f"{len(text)}:{text}" for text in texts)
    return hashlib.blake2b(joined.encode("utf-8", "replace"), digest_size=16).digest()


def _assign(
    members: list[list[int]],
    keys: list[bytes],
    labels: list[str] | None,
    shares: Mapping[str, float],
) -> list[str]:
    """The part of each row: large groups first, each to where most of its label is missing."""
    totals: Counter[str] = Counter()
    for rows in members:
        totals[_label(rows, labels)] += len(rows)
    missing = {
        label: {part: share * total for part, share in shares.items()}
        for label, total in totals.items()
    }
    overall = {part: share * len(keys) for part, share in shares.items()}
    chosen = [""] * len(keys)
    # `members` is in the order of the keys, which is a shuffle by the seed.
    for rows in sorted(members, key=len, reverse=True):
        here, size = missing[_label(rows, labels)], len(rows)
        # Whole rows go where most of their label is missing; what is left of a label after that
        # (with few rows: all of it) goes where most rows are missing, so that the shares come out.
        part = max(
            shares,
            key=lambda name: (
                here[name] if here[name] >= size else 0,
                here[name] > 0,
                overall[name],
            ),
        )
        for row in rows:
            chosen[row] = part
        here[part] -= size
        overall[part] -= size
    empty = [part for part in shares if part not in chosen]
    for part in empty:  # shares too small for a group of their own
        held = Counter(chosen[rows[0]] for rows in members)
        # The smallest group of the part with most rows that can spare one.
        most = next(name for name, _ in Counter(chosen).most_common() if held[name] > 1)
        for row in min((rows for rows in members if chosen[rows[0]] == most), key=len):
            chosen[row] = part
    return chosen


def _label(rows: list[int], labels: list[str] | None) -> str:
    if labels is None:
        return ""
    counts = Counter(labels[row] for row in rows)
    return min(counts, key=lambda label: (-counts[label], label))


def _write(
    source: Path, shown: str, files: Mapping[str, Path], chosen: list[str], force: bool
) -> None:
    from unift.data._content import contents

    drafts = {part: file.with_name(f".{file.name}.{os.getpid()}") for part, file in files.items()}
    try:
        for file in files.values():
            file.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            out = {part: stack.enter_context(draft.open("wb")) for part, draft in drafts.items()}
            for part, row in zip(chosen, contents(source, shown), strict=True):
                out[part].write(row.raw + b"\n")
        for part, draft in drafts.items():
            _check_same(draft, files[part], force)
        for part, draft in drafts.items():
            draft.replace(files[part])
    except OSError as error:
        raise UsageError(
            f"The parts cannot be written: {error.strerror}.",
            code="split_unwritable",
            where=str(next(iter(files.values())).parent),
            fix="give another folder with --out FOLDER",
        ) from error
    finally:
        for draft in drafts.values():
            with suppress(OSError):
                draft.unlink(missing_ok=True)


def _check_same(draft: Path, file: Path, force: bool) -> None:
    """A part that somebody may have trained on is not replaced by another without a word."""
    if force or not file.exists() or filecmp.cmp(draft, file, shallow=False):
        return
    raise UsageError(
        "A part of this name is there already, and has other rows.",
        code="split_exists",
        where=str(file),
        fix="give another folder with --out FOLDER, or replace all parts with --force",
    )
