"""Preference by a judge model, asked through the vendor's real SDK at a loopback vendor."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.fakes import Fake, question
from tests.vendors.openai_vendor import KEY, Vendor
from unift.errors import LimitError, UniftError, UsageError
from unift.evaluate import Judge, evaluate

Write = Callable[..., str]
JUDGE = "openai:gpt-4.1-mini-2025-04-14"
N = 60
ROWS = [(f"Why is order {i} late?", f"Because of the snow in region {i}, sorry.") for i in range(N)]


def number(messages: Any) -> int:
    return int(re.findall(r"\d+", question(messages))[0])


def good() -> Fake:
    return Fake("fake:good", lambda m: f"GOOD snow in region {number(m)}")


def poor() -> Fake:
    return Fake("fake:poor", lambda m: f"no idea about {number(m)}")


class Court:
    """The vendor's judge, which answers by a rule on the two answers that it is shown."""

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor
        self.rule: Callable[[str, str], str] = lambda one, two: "[[tie]]"
        vendor.books.answer = self._answer  # type: ignore[method-assign]

    def _answer(self, model: str, prompt: str) -> str:
        parts = re.split(r"===== (?:ANSWER 1|ANSWER 2|END) =====\n?", prompt)
        return self.rule(parts[1].strip(), parts[2].strip())


def right(one: str, two: str) -> str:
    """Prefers GOOD answers, wherever they stand."""
    first, second = "GOOD" in one, "GOOD" in two
    return f"It is so.\n**[[{'1' if first > second else '2' if second > first else 'tie'}]]**"


@pytest.fixture
def court(monkeypatch: pytest.MonkeyPatch) -> Iterator[Court]:
    with Vendor() as vendor:
        monkeypatch.setenv("OPENAI_BASE_URL", vendor.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield Court(vendor)
        assert vendor.bad_bodies == []


@pytest.fixture
def data(chat_file: Write) -> str:
    return chat_file(ROWS, "test.jsonl")


def judged(data: str, **settings: Any) -> Any:
    wanted = {"against": [poor()], "judge": JUDGE, "report": False, **settings}
    return evaluate(good(), data, **wanted)


def test_a_better_model_wins_and_the_verdict_says_by_how_much(court: Court, data: str) -> None:
    court.rule = right
    said: list[str] = []
    found = judged(data, notice=said.append)
    assert found.verdict.code == "better"
    assert "reaches 100.0% win rate" in str(found.verdict)
    document = found.as_dict()
    [against] = document["preference"]["against"]
    assert against["win_rate"] == 1.0
    assert (against["wins"], against["ties"], against["losses"]) == (N, 0, 0)
    assert against["position"]["changed"] == 0
    # None of 60 changed: Wilson's upper end is z² / (n + z²) = 0.0602.
    assert against["position"]["high"] == pytest.approx(0.0602, abs=1e-3)
    assert document["comparisons"][0]["metric"] == document["metric"] == "preference"
    assert [one["metrics"]["preference"] for one in document["candidates"]] == [1.0, 0.0]
    assert len(court.vendor.chats) == 2 * N
    # The most that it can cost is said before the first answer of a candidate.
    assert re.search(r"decides 60 pairs in both orders, for at most 0\.\d+ USD", said[0])


def test_both_orders_are_asked_and_equal_answers_cost_nothing(court: Court, data: str) -> None:
    court.rule = right
    half = Fake("fake:half", lambda m: f"{'GOOD snow in region' if number(m) % 2 else 'no'} "
                f"{number(m)}")  # fmt: skip
    found = judged(data, against=[half])
    assert found.details["preference"]["against"][0]["identical"] == N // 2
    assert len(court.vendor.chats) == N
    asked = [one["messages"][-1]["content"] for one in court.vendor.chats]
    firsts = sum("ANSWER 1 =====\nGOOD" in one for one in asked)
    assert firsts == N // 2
    assert found.details["preference"]["against"][0]["win_rate"] == pytest.approx(0.75)


def test_a_judge_that_follows_the_order_shows_nothing_and_is_found_out(
    court: Court, chat_file: Write
) -> None:
    court.rule = lambda one, two: "[[1]]"
    found = judged(chat_file([(f"Q {i}?", f"answer to {i} it is, at length") for i in range(200)]))
    [against] = found.details["preference"]["against"]
    assert against["win_rate"] == 0.5
    place = against["position"]
    assert (place["share"], place["first"], place["second"]) == (1.0, 200, 0)
    # Without looking at the order, 200 ties would rule out any gain.
    assert found.verdict.code == "inconclusive"
    assert "followed the order" in str(found.verdict)
    assert any("favours the first answer" in one for one in found.warnings)


def test_a_judge_that_always_ties_shows_equality(court: Court, chat_file: Write) -> None:
    court.rule = lambda one, two: "Both are fine.\n[[TIE]]"
    found = judged(chat_file([(f"Q {i}?", f"answer to {i} it is, at length") for i in range(200)]))
    assert found.verdict.code == "no_better"
    assert found.details["preference"]["against"][0]["ties"] == 200


def test_rubbish_is_counted_and_shown(court: Court, data: str, tmp_path: Path) -> None:
    court.rule = lambda one, two: "I choose [[1]] or maybe [[2]], who knows <b>"
    found = judged(data, report=tmp_path / "page.html")
    document = found.details["preference"]
    assert document["unreadable"] == document["verdicts"] == 2 * N
    assert "who knows" in document["unreadable_example"]
    assert found.verdict.code == "inconclusive"
    assert any("120 of 120 verdicts" in one for one in found.warnings)
    page = (tmp_path / "page.html").read_text()
    assert "who knows &lt;b&gt;" in page
    assert "Changed with the order" in page


def test_what_was_judged_is_not_paid_for_again(court: Court, data: str) -> None:
    court.rule = right
    court.vendor.fault("chat", *["fine"] * 30, *["no credit"] * 20)
    with pytest.raises(UniftError):
        judged(data, concurrency=2)
    paid = len(court.vendor.chats)
    assert 0 < paid < 2 * N
    court.vendor.faults.clear()
    judged(data)
    assert len(court.vendor.chats) == 2 * N
    judged(data)
    assert len(court.vendor.chats) == 2 * N


def test_the_budget_holds_for_the_judge_and_unknown_prices_are_said_first(
    court: Court, data: str
) -> None:
    court.rule = right
    with pytest.raises(LimitError):
        judged(data, budget_usd=0.002)
    assert len(court.vendor.chats) < 2 * N
    asked = good()
    with pytest.raises(UsageError) as caught:
        evaluate(asked, data, against=[poor()], judge=f"{court.vendor.url}#m", budget_usd=1)
    assert caught.value.code == "unknown_price"
    assert asked.asked == []


def test_the_strongest_of_several_is_the_one_that_loses_least(court: Court, data: str) -> None:
    rank = {"GOOD": 2, "fair": 1}

    def rule(one: str, two: str) -> str:
        left, right = rank.get(one.split()[0], 0), rank.get(two.split()[0], 0)
        if 1 in (left, right) and one[-1] in "02468":
            return "[[tie]]"
        return f"[[{'1' if left > right else '2'}]]"

    court.rule = rule
    fair = Fake("fake:fair", lambda m: f"fair {number(m)}")
    found = judged(data, against=[poor(), fair], metric=None)
    assert found.verdict.against == "fake:fair"
    rates = {one["b"]: one["win_rate"] for one in found.details["preference"]["against"]}
    assert rates == {"fake:poor": 1.0, "fake:fair": 0.75}
    assert found.candidates[0].metrics["preference"] == 0.75
    by_name = {one.b: one.difference for one in found.comparisons if one.metric == "preference"}
    assert by_name == {"fake:poor": 1.0, "fake:fair": 0.5}


def test_a_metric_of_the_user_decides_and_the_preference_is_shown(court: Court, data: str) -> None:
    court.rule = right
    found = judged(data, metric="token_f1")
    assert [one.name for one in found.metrics] == ["token_f1", "preference"]
    assert found.verdict.code == "better"
    assert "win rate" not in str(found.verdict)


def test_a_prompt_of_the_user_is_asked(court: Court, data: str, tmp_path: Path) -> None:
    file = tmp_path / "judge.txt"
    file.write_text(
        "Politeness only. {{question}}\n===== ANSWER 1 =====\n{{answer_1}}\n===== ANSWER 2 =====\n"
        "{{ answer_2 }}\n===== END ====="
    )
    court.rule = right
    judged(data, judge=Judge(JUDGE, prompt=file, max_tokens=99), limit=3)
    body = court.vendor.chats[0]
    assert body["messages"][-1]["content"].startswith("Politeness only. Why is order")
    assert "[[tie]]" in body["messages"][-1]["content"]
    assert body["max_tokens"] == 99
    file.write_text("Which? {{ question }} {{ answer_1 }}")
    with pytest.raises(UsageError, match="answer_2"):
        judged(data, judge=Judge(JUDGE, prompt=file))


@pytest.mark.parametrize(
    ("settings", "code"),
    [({"judge": None, "metric": "preference"}, "no_judge"), ({"against": []}, "nothing_to_prefer")],
)
def test_a_preference_needs_a_judge_and_two_candidates(
    court: Court, data: str, settings: dict[str, Any], code: str
) -> None:
    with pytest.raises(UsageError) as caught:
        judged(data, **settings)
    assert caught.value.code == code


def test_groups_and_a_margin_work_as_with_any_metric(court: Court, tmp_path: Path) -> None:
    file = tmp_path / "grouped.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": asked},
                {"role": "assistant", "content": answer},
            ],
            "customer": f"c{i % 12}",
        }
        for i, (asked, answer) in enumerate(ROWS)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    court.rule = right
    found = judged(str(file), group="customer", margin=0.1)
    assert found.verdict.code == "better"
    assert found.comparisons[0].test == "sign-flip permutation of groups"
