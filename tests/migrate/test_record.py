"""Golden answers: the right prompts, nothing paid twice, within the budget, secrets out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.migrate.conftest import BASE, Old, rows, write
from unift.errors import DataError, ProviderError, RunError, UsageError
from unift.migrate import Golden, record


def lines(golden: Golden) -> list[dict[str, Any]]:
    return [json.loads(line) for line in golden.path.read_text().splitlines()]


def asked(old: Old) -> Counter[str]:
    return Counter(chat["messages"][-1]["content"] for chat in old.vendor.chats)


def test_assistant_turns_become_prompts_and_are_asked_once(old: Old, tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Short."},
        {"role": "user", "content": "Capital of country 1?"},
        {"role": "assistant", "content": "City 1"},
        {"role": "user", "content": "Capital of country 2?"},
        {"role": "assistant", "content": "not trained", "weight": 0},
        {"role": "user", "content": "Capital of country 3?"},
        {"role": "assistant", "content": "City 3"},
    ]
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    row = {"messages": turns, "tools": [tool]}
    file = write(tmp_path / "p.jsonl", [row, row, *rows(1), {"prompt": "Capital of country 4?"}])
    found = record(old.source, file, out=tmp_path / "golden.jsonl", draws=2)
    assert (found.prompts, found.draws, found.duplicates) == (4, 8, 2)
    first = lines(found)[0]
    assert [m["role"] for m in first["messages"]] == ["system", "user"]
    assert first["truth"] == {"role": "assistant", "content": "City 1"}
    assert first["draws"][0]["message"]["content"] == "City 1"
    assert first["draws"][0]["usage"]["prompt_tokens"] == 5
    assert first["tools"] == [tool]
    assert "weight" not in json.dumps(lines(found))
    assert set(asked(old).values()) == {2}
    assert all(chat["temperature"] == 0 for chat in old.vendor.chats)
    assert found.noise.agreement == 1.0
    # Again: everything is there.
    assert record(old.source, file, out=found.path, draws=2).draws == 8
    assert len(old.vendor.chats) == 8


def test_killed_at_any_moment_no_paid_call_is_repeated(
    old: Old, tmp_path: Path, prompts: str
) -> None:
    out = tmp_path / "golden.jsonl"
    command = [sys.executable, "-m", "unift", "migrate", "record", prompts, "--source", old.source,
               "--out", str(out), "--draws", "2", "--json"]  # fmt: skip
    for moment, at_once in ((1, 1), (5, 1), (6, 4)):
        before = len(old.vendor.chats)
        process = subprocess.Popen(
            [*command, "--at-once", str(at_once)], stdout=subprocess.PIPE, env={**os.environ}
        )
        seen = 0

        def strike(
            name: str, process: subprocess.Popen[bytes] = process, moment: int = moment
        ) -> None:
            nonlocal seen
            seen += name == "chat"
            if seen == moment:
                process.send_signal(signal.SIGKILL)

        old.vendor.hook = strike
        assert process.wait(60) == -signal.SIGKILL
        assert process.stdout is not None
        process.stdout.close()
        assert len(old.vendor.chats) > before
    old.vendor.hook = lambda name: None
    found = record(old.source, prompts, out=out, draws=2)
    # What was under way when it was killed was paid or not: it is told, and not asked again.
    assert 3 <= found.doubtful <= 1 + 1 + 4
    assert max(asked(old).values()) <= 2
    assert found.draws == 24 - found.doubtful == 24 - found.missing
    whole = record(old.source, prompts, out=out, draws=2, ask_doubtful=True)
    assert (whole.draws, whole.missing) == (24, 0)


def test_a_connection_that_breaks_is_a_doubt_and_a_refusal_is_none(
    old: Old, tmp_path: Path, prompts: str
) -> None:
    old.vendor.fault("chat", "429 0", "500", "cut after")
    found = record(old.source, prompts, out=tmp_path / "golden.jsonl", at_once=1)
    assert (found.draws, found.doubtful, found.missing) == (11, 1, 1)


def test_the_budget_is_never_passed_and_a_larger_one_goes_on(
    old: Old, tmp_path: Path, prompts: str
) -> None:
    out = tmp_path / "golden.jsonl"
    settings = {"temperature": 0, "max_tokens": 10}
    # Dearest call: some 20 tokens at 1000 and 10 at 10,000 dollars per million.
    budget, price = 0.5, (1000.0, 10_000.0)
    part = record(old.source, prompts, out=out, sampling=settings, budget=budget, price=price)
    assert part.stopped == "budget"
    assert 0 < part.prompts < 12
    assert part.usd is not None
    assert part.usd <= budget
    # 5 tokens read and 1 written of each, as the vendor said.
    assert part.usd == pytest.approx(part.prompts * (5 * 1000 + 10_000) / 1e6)
    whole = record(old.source, prompts, out=out, sampling=settings, budget=9, price=price)
    assert (whole.prompts, len(old.vendor.chats)) == (12, 12)
    assert whole.usd == pytest.approx(12 * 0.015)


def test_prices_come_from_the_catalogue_or_a_budget_is_refused(
    old: Old, tmp_path: Path, prompts: str
) -> None:
    found = record(old.source, prompts, out=tmp_path / "a.jsonl", budget=1)
    assert found.usd == pytest.approx(12 * (5 * 0.30 + 1.20) / 1e6)
    assert found.price_source.startswith("catalogue")
    with pytest.raises(UsageError, match="price"):
        record("openai:open-8b", prompts, out=tmp_path / "b.jsonl", budget=1)


def test_answers_that_are_there_already_are_not_paid(old: Old, tmp_path: Path) -> None:
    request = {"model": old.model, "temperature": 0.7, "messages": rows(1)[0]["messages"][:1]}
    answer = {"model": old.model, "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Kept"}}
    ]}  # fmt: skip
    log = write(tmp_path / "log.jsonl", [{"request": request, "response": answer, "at": "2026"}])
    alone = record(None, log, out=tmp_path / "golden.jsonl")
    assert (alone.prompts, alone.draws) == (1, 1)
    assert lines(alone)[0]["sampling"] == {"temperature": 0.7}
    both = record(old.source, log, out=alone.path, draws=2)
    assert [draw["message"]["content"] for draw in lines(both)[0]["draws"]] == ["Kept", "City 0"]
    assert len(old.vendor.chats) == 1
    assert old.vendor.chats[0]["temperature"] == 0.7
    other = write(tmp_path / "o.jsonl", [
        {"request": request, "response": answer},
        {"request": {**request, "model": "another"}, "response": {**answer, "model": "another"}},
    ])  # fmt: skip
    assert record(old.source, other, out=tmp_path / "o-golden.jsonl").prompts == 1


def test_stored_completions_are_listed_at_the_vendor(old: Old, tmp_path: Path) -> None:
    for number in range(6):
        old.vendor.books.stored.append({
            "id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1_790_000_000,
            "model": old.model if number else BASE, "temperature": 0.2,
            "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None,
                         "message": {"role": "assistant", "content": f"City {number}"}}],
            "_messages": [{"id": f"m-{number}", "role": "user", "content": f"Country {number}?"}],
        })  # fmt: skip
    found = record(old.source, "stored", out=tmp_path / "golden.jsonl")
    assert (found.prompts, found.draws) == (5, 5)
    assert lines(found)[0]["source"] == "stored"
    assert lines(found)[0]["sampling"] == {"temperature": 0.2}
    assert lines(found)[0]["messages"] == [{"role": "user", "content": "Country 1?"}]
    assert not old.vendor.chats


def test_secrets_never_reach_the_files_nor_the_vendor(old: Old, tmp_path: Path) -> None:
    key = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"
    text = f"Use {key}, write to ann@corp.io or +49 30 901820."
    file = write(tmp_path / "p.jsonl", [{"messages": [{"role": "user", "content": text}]}])
    found = record(old.source, file, out=tmp_path / "golden.jsonl", scrub=True)
    assert found.scrubbed == 3
    kept = "".join(path.read_text() for path in tmp_path.glob("golden*"))
    for secret in (key, "ann@corp.io", "901820"):
        assert secret not in kept
        assert secret not in json.dumps(old.vendor.chats)
    assert "[mail address]" in kept


def test_logprobs_and_seeds_are_asked_for(old: Old, tmp_path: Path) -> None:
    file = write(tmp_path / "p.jsonl", rows(1))
    settings = {"temperature": 1, "seed": 5}
    record(old.source, file, out=tmp_path / "g.jsonl", draws=2, sampling=settings, logprobs=3)
    assert {chat["seed"] for chat in old.vendor.chats} == {5, 6}
    assert {chat["top_logprobs"] for chat in old.vendor.chats} == {3}


def test_a_refused_prompt_is_named_and_the_rest_goes_on(old: Old, tmp_path: Path) -> None:
    bad = {"messages": [{"role": "user", "content": "x"}], "model": "any", "verbosity": "loud"}
    file = write(tmp_path / "p.jsonl", [*rows(3), bad])
    found = record(old.source, file, out=tmp_path / "golden.jsonl")
    old.vendor.bad_bodies.clear()
    assert (found.prompts, len(found.refused)) == (3, 1)
    calls = len(old.vendor.chats)
    record(old.source, file, out=found.path)
    assert len(old.vendor.chats) == calls
    many = [{**bad, "messages": [{"role": "user", "content": str(n)}]} for n in range(20)]
    with pytest.raises(RunError, match="all refused"):
        record(old.source, write(tmp_path / "q.jsonl", many), out=tmp_path / "q-golden.jsonl")
    assert len(old.vendor.chats) < calls + 20
    old.vendor.bad_bodies.clear()


def test_wrong_input_is_told_where(old: Old, tmp_path: Path, prompts: str) -> None:
    out = tmp_path / "golden.jsonl"
    with pytest.raises(UsageError, match="many models"):
        record("openai", prompts, out=out)
    with pytest.raises(ProviderError, match="404"):
        record("openai:ft:nobody", prompts, out=out)
    with pytest.raises(DataError) as caught:
        record(old.source, write(tmp_path / "bad.jsonl", [*rows(1), {"text": "?"}]), out=out)
    assert caught.value.where.endswith("bad.jsonl:2")
    with pytest.raises(UsageError):
        record(old.source, str(tmp_path / "none.jsonl"), out=out)
    with pytest.raises(UsageError):
        record(old.source, prompts, out=out, draws=0)
    with pytest.raises(UsageError):
        record(old.source, prompts, out=tmp_path / "bad.jsonl" / "golden.jsonl")


def test_how_many_prompts_are_enough(old: Old, tmp_path: Path, prompts: str) -> None:
    found = record(old.source, prompts, out=tmp_path / "golden.jsonl", margin=0.05)
    # (1.96 + 0.8416) * 0.5 / 0.05, squared.
    assert found.enough.needed == 785
    assert "773 more" in found.enough.sentence()
    assert record(old.source, prompts, out=found.path, margin=0.5).enough.have == 12
    assert "enough" in record(old.source, prompts, out=found.path, margin=0.5).enough.sentence()
