"""Tokens are kept by what they were made from, and made again when anything is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unift_local import LocalLora, tokens

from tests.unift_local.conftest import chat, write_rows
from unift._home import home
from unift.provider import Plan

QUESTIONS = ["one", "two and more", "three"]


@pytest.fixture
def plan(spec: Callable[..., Any], tmp_path: Path) -> Callable[..., Plan]:
    """A plan over a file of those questions, and a count of how often rows were rendered."""

    def make(questions: list[str] = QUESTIONS, **options: Any) -> Plan:
        data = write_rows(tmp_path / "rows.jsonl", [chat(one, "yes") for one in questions])
        return LocalLora().plan(spec(data=str(data), validation=None, options=options))

    return make


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one each time that rows are tokenised."""
    from unift.data import rendering

    times: list[int] = []
    plain = rendering.render_all

    def counting(*args: Any, **kwargs: Any) -> Any:
        times.append(1)
        return plain(*args, **kwargs)

    monkeypatch.setattr(rendering, "render_all", counting)
    return times


def facts(plan: Plan) -> tuple[Any, ...]:
    keys = ("rows", "tokens", "trained_tokens", "longest_row")
    return tuple(plan.payload[key] for key in keys)


def test_the_same_file_is_tokenised_once(plan: Callable[..., Plan], rendered: list[int]) -> None:
    first = plan()
    second = plan()
    assert facts(first) == facts(second)
    assert len(rendered) == 1
    assert first.value("cache_tokens") is True
    assert facts(plan(["other", *QUESTIONS[1:]])) != facts(first)
    assert len(rendered) == 2


def test_switched_off_nothing_is_kept(plan: Callable[..., Plan], rendered: list[int]) -> None:
    assert facts(plan(cache_tokens=False)) == facts(plan(cache_tokens=False))
    assert len(rendered) == 2
    assert not list(home().glob("tokens/*"))


@pytest.mark.parametrize("damage", [b"", b"not a zip", None])
def test_damaged_tokens_are_made_again(
    plan: Callable[..., Plan], rendered: list[int], damage: bytes | None
) -> None:
    first = plan()
    (kept,) = home().glob("tokens/*.npz")
    content = kept.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    kept.write_bytes(flipped if damage is None else damage)
    assert facts(plan()) == facts(first)
    assert len(rendered) == 2
    assert kept.read_bytes() == content


def test_a_run_takes_the_rows_of_its_plan(
    plan: Callable[..., Plan], rendered: list[int], tokenizer: Any, tmp_path: Path
) -> None:
    from unift_local.snapshot import write_snapshot

    from unift.data import read_examples

    made = plan()
    snapshot = tmp_path / "snapshot.jsonl"
    write_snapshot(snapshot, read_examples(made.payload["files"]["data"]))
    stops = frozenset({tokenizer.eos_token_id})
    kept = tokens.rows_of_run(made, snapshot, "train", tokenizer, stops)
    assert len(rendered) == 1
    (file,) = home().glob("tokens/*.npz")
    file.unlink()
    assert tokens.rows_of_run(made, snapshot, "train", tokenizer, stops) == kept
    assert len(rendered) == 2


def test_what_was_not_used_for_longest_goes_first(
    plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept() -> set[Path]:
        return set(home().glob("tokens/*.npz"))

    plan(["a"])
    (oldest,) = kept()
    plan(["b"])
    (middle,) = kept() - {oldest}
    for age, file in ((20, oldest), (10, middle)):
        stamp = file.stat().st_mtime - age
        os.utime(file, (stamp, stamp))
    plan(["a"])  # used again
    monkeypatch.setattr(tokens, "_BYTES", 2 * oldest.stat().st_size + 10)
    plan(["c"])
    assert middle not in kept()
    assert oldest in kept()
    assert len(kept()) == 2
