"""The rows that are tested with: the new model has never seen anything like them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unift.errors import DataError, MissingDependency, UniftError
from unift.migrate._files import write_json, write_text
from unift.migrate._spec import Data

# Findings about a held-out row that is in the training file: the row, its prompt, a near copy.
_LEAKS = ("UD602", "UD603", "UD609")
# A validation file with fewer clean rows than this tells too little to be the only test.
_ENOUGH = 30


@dataclass(frozen=True)
class HeldOut:
    """The three files of a migration, and how they came about.

    Attributes:
        train: Rows to learn.
        validation: Rows to watch and to choose by.
        test: Rows that neither the new model nor the choice of it has seen.
        rows: Part -> its rows.
        old_saw: Test rows that the old model was trained on, which flatters it.
        leaked: Rows of the old validation file that were left out, being in the training file too.
        near: True if nearly equal rows were kept on one side.
        notes: What a reader should know.
    """

    train: str
    validation: str
    test: str
    rows: dict[str, int]
    old_saw: int
    leaked: int
    near: bool
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def hold_out(
    folder: Path,
    train: str,
    validation: str | None,
    settings: Data,
) -> HeldOut:
    """Make ``data/train.jsonl``, ``validation.jsonl`` and ``test.jsonl``, as chat rows.

    A test file given by the user is taken as it is. Otherwise the old validation file is the test,
    less its rows that are in the training file; if that leaves too few, part of the training file
    is. The same input gives the same files.

    Raises:
        DataError: The data has errors, loses something in conversion, or a given test file shares
            rows with the training file.
    """
    target = folder / "data"
    target.mkdir(parents=True, exist_ok=True)
    notes: list[str] = []
    train = _as_chat(train, target / "old-train.jsonl", settings.drop, notes)
    if validation:
        validation = _as_chat(validation, target / "old-validation.jsonl", settings.drop, notes)
    near = _near()
    if not near:
        notes.append("nearly equal rows were not looked for: pip install 'unift[data]'")
    files = {part: target / f"{part}.jsonl" for part in ("train", "validation", "test")}
    old_saw = leaked = 0
    if settings.test:
        test = _as_chat(settings.test, target / "given-test.jsonl", settings.drop, notes)
        bad = _leaks(train, test, near)
        if bad:
            raise DataError(
                f"{len(bad)} rows of the test file are in the training file too (first: line "
                f"{min(bad)}), so the test would measure memory.",
                code="test_leaks",
                where=settings.test,
                fix="take them out of one of the two, or leave data.test out",
            )
        _copy(_lines(test), files["test"])
        _two(train, validation, target, files, settings, near)
    else:
        clean: list[bytes] = []
        if validation:
            bad = _leaks(train, validation, near)
            leaked = len(bad)
            clean = [row for line, row in _lines(validation) if line not in bad]
        if leaked:
            notes.append(
                f"{leaked} rows of the old validation file are in the training file too and were "
                "left out"
            )
        if len(clean) >= _ENOUGH:
            _copy(enumerate(clean, 1), files["test"])
            _two(train, None, target, files, settings, near)
        else:
            if validation:
                notes.append(
                    f"the old validation file has {len(clean)} rows of its own, too few for a "
                    f"test, so {settings.held_out:.0%} of the training file are held out instead"
                )
            watched = min(0.1, settings.held_out)
            parts = {
                "train": 1 - settings.held_out - watched,
                "validation": watched,
                "test": settings.held_out,
            }
            _split(train, target, files, parts, settings.seed, near)
            old_saw = _count(files["test"])
            notes.append(
                f"all {old_saw} test rows were in the old model's training file, so its score on "
                "them is flattered; the comparison is strict for the new model"
            )
    rows = {part: _count(file) for part, file in files.items()}
    found = HeldOut(
        **{part: str(file) for part, file in files.items()},
        rows=rows,
        old_saw=old_saw,
        leaked=leaked,
        near=near,
        notes=tuple(notes),
    )
    write_json(target / "split.json", found.as_dict())
    return found


def _two(
    train: str,
    validation: str | None,
    target: Path,
    files: dict[str, Path],
    settings: Data,
    near: bool,
) -> None:
    """Training and validation rows, where the test is known already."""
    if validation:
        _copy(_lines(train), files["train"])
        _copy(_lines(validation), files["validation"])
        return
    parts = {"train": 0.9, "validation": 0.1}
    _split(train, target, files, parts, settings.seed, near)


def _split(
    train: str,
    target: Path,
    files: dict[str, Path],
    parts: dict[str, float],
    seed: int,
    near: bool,
) -> None:
    from unift.data import split

    made = split(train, target / "parts", parts=parts, seed=seed, near=near, force=True)
    for part, file in made.files.items():
        Path(file).replace(files[part])
    (target / "parts").rmdir()


def _as_chat(source: str, out: Path, drop: tuple[str, ...], notes: list[str]) -> str:
    """The file in chat form; itself if it is that already. Errors in it are raised, all at once."""
    from unift.data import convert, validate

    report = validate(source)
    if report.format == "openai-chat":
        report.raise_if_bad()
        return source
    made = convert(source, out, to="openai-chat", drop=drop)
    lost = "".join(f", {count} rows lost {what}" for what, count in made.lost.items())
    notes.append(f"{Path(source).name} was converted from {made.source_format} to chat{lost}")
    return str(out)


def _near() -> bool:
    from importlib.util import find_spec

    return find_spec("rensa") is not None


def _leaks(train: str, held: str, near: bool) -> set[int]:
    """Lines of `held` that are in `train`, or nearly."""
    from unift.data import validate

    try:
        report = validate(train, validation=held, deep=near)
    except MissingDependency:  # rensa is there, another part of the deep look is not
        report = validate(train, validation=held)
    return {
        finding.line
        for finding in report.findings
        if finding.code in _LEAKS and finding.file == held
    }


def _lines(path: str) -> Iterable[tuple[int, bytes]]:
    from unift.data import read_examples

    for example in read_examples(path):
        row: dict[str, Any] = {"messages": example.messages}
        if example.tools:
            row["tools"] = example.tools
        row |= getattr(example, "extra", {})
        yield example.line, json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _copy(rows: Iterable[tuple[int, bytes]], out: Path) -> None:
    write_text(out, "".join(row.decode("utf-8", "surrogatepass") + "\n" for _, row in rows))


def _count(path: Path) -> int:
    from unift.data import count_rows

    return count_rows(path)


def read_held_out(folder: Path) -> HeldOut | None:
    """The split that was made before, or None."""
    try:
        document = json.loads((folder / "data" / "split.json").read_text("utf-8"))
        document["notes"] = tuple(document["notes"])
        return HeldOut(**document)
    except (OSError, ValueError, TypeError, UniftError):
        return None
