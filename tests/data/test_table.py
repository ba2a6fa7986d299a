"""Hashes of rows on disk give the findings that hashes in memory give."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest

from unift.data._whole import Signatures
from unift.errors import UniftError

Told = list[tuple[str, str, int, str]]


class Heard:
    """Keeps what is told."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.told: Told = []
        self.rest: dict[str, int] = {}

    def say(self, code: str, file: str, line: int, message: str) -> None:
        self.told.append((code, file, line, message))

    def more(self, code: str, count: int) -> None:
        self.rest[code] = self.rest.get(code, 0) + count


def signatures(file: str, rows: list[tuple[int, int]], kept: int) -> Signatures:
    made = Signatures(file, kept)
    for at in range(0, len(rows), 70):
        block = rows[at : at + 70]
        prompts = [hash(("prompt", prompt)) for prompt, _ in block]
        answers = [hash(("answer", answer)) for _, answer in block]
        lines = list(range(at + 1, at + 1 + len(block)))
        made.add(lines, prompts, answers, [str(answer) for _, answer in block], [""] * len(block))
    return made


def told(kept: int, most: int = 10_000) -> tuple[Heard, list[int], list[int]]:
    picked = random.Random(0)
    rows, held = (
        [(picked.randrange(900), picked.randrange(3)) for _ in range(count)]
        for count in (1200, 300)
    )
    train, test = signatures("{train}", rows, kept), signatures("test", held, kept)
    heard = Heard(most)
    repeats = train.report(heard)
    leaks = train.report_leaks(test, heard)
    train.table.close()
    test.table.close()
    return heard, repeats.tolist(), leaks.tolist()


def test_on_disk_or_in_memory_the_findings_are_the_same() -> None:
    in_memory, on_disk = told(10_000), told(100)
    assert in_memory[0].told == on_disk[0].told
    assert in_memory[1:] == on_disk[1:]
    assert {code for code, *_ in on_disk[0].told} == {"UD600", "UD601", "UD602", "UD603"}
    assert "of {train}." in on_disk[0].told[-1][3]


def test_the_first_lines_are_told_and_the_rest_is_counted() -> None:
    everything, some = told(10_000)[0], told(100, most=5)[0]
    for code in ("UD600", "UD601", "UD602", "UD603"):
        whole = [one for one in everything.told if one[0] == code]
        part = [one for one in some.told if one[0] == code]
        assert part == whole[:5]
        assert some.rest[code] == len(whole) - 5


def test_a_disk_without_room_is_an_error_in_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryDirectory", lambda prefix: Gone(tmp_path / prefix))
    with pytest.raises(UniftError, match="put down") as caught:
        told(100)
    assert "TMPDIR" in caught.value.fix


class Gone:
    """A folder that does not exist any more."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)

    def cleanup(self) -> None:
        pass
