"""An evaluation leaves this house: as Markdown, and as logs that Inspect AI reads back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.fakes import Fake, question
from unift.errors import UsageError
from unift.evaluate import Evaluation, evaluate

HOSTILE = "par|cel `rm` @everyone <img src=x>"


@pytest.fixture
def found(chat_file: Callable[..., str]) -> Evaluation:
    """Three labels; the model under test loses the rare one, and one answer is hostile."""
    labels = ("refund", "parcel", "login")
    truth = {f"Mail {i}": labels[0 if i % 10 == 0 else 1 + i % 2] for i in range(120)}
    old = Fake("fake:old", lambda m: truth[question(m)] if int(question(m)[5:]) % 3 else "?")
    new = Fake(
        "fake:new", lambda m: HOSTILE if truth[question(m)] == "refund" else truth[question(m)]
    )
    return evaluate(new, chat_file(list(truth.items())), against=[old], report=False)


def test_markdown_says_the_verdict_first_and_names_what_broke(
    found: Evaluation, tmp_path: Path
) -> None:
    text = found.write_markdown(tmp_path / "new" / "pr.md").read_text("utf-8")
    assert text.startswith("## Worth it\n")
    assert "refund" in text.split("<details>")[0], "the verdict names the part that got worse"
    assert re.search(r"\| label `refund` \| 12 \| −[\d.]+ \| \*\*worse\*\* \|", text)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in rows]
    heads = [i for i, line in enumerate(rows) if set(line) <= set("|-: ")]
    for head in heads:  # a row of another width would not be a table any more
        assert widths[head - 1] == widths[head] == widths[head + 1]
    shown = re.sub(r"`[^`]*`", "", text)
    assert "everyone" in text
    assert "everyone" not in shown, "what models wrote stands in code spans only"
    assert "<img" not in shown
    assert text.count("<details>") == text.count("</details>")


def test_a_place_that_cannot_be_written_is_said(found: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written") as caught:
        found.write_markdown(tmp_path / "file" / "pr.md")
    assert "--markdown" in caught.value.fix


def test_inspect_reads_back_what_was_written(found: Evaluation, tmp_path: Path) -> None:
    log: Any = pytest.importorskip("inspect_ai.log", reason="pip install 'unift[inspect]'")
    files = found.write_inspect(tmp_path / "logs")
    assert len(files) == 2
    assert files == found.write_inspect(tmp_path / "logs"), "the same evaluation, the same files"
    assert len(list((tmp_path / "logs").iterdir())) == 2
    for path, result in zip(files, found.candidates, strict=True):
        read = log.read_eval_log(str(path))
        assert read.status == "success"
        assert read.eval.model == result.model.replace(":", "/", 1)
        assert read.eval.metadata["verdict"] == found.verdict.sentence
        (scores,) = [one for one in read.results.scores if one.name == "accuracy"]
        assert scores.metrics["mean"].value == pytest.approx(result.metrics["accuracy"])
        assert len(read.samples) == result.n
        for sample, row, reply, score in zip(
            read.samples, found.rows, result.replies, result.scores["accuracy"], strict=True
        ):
            assert sample.target == row.target
            assert sample.output.completion == reply.text
            assert sample.scores["accuracy"].value == score
            assert sample.messages[0].text == row.prompt[0]["content"]
    ids = {log.read_eval_log(str(path), header_only=True).eval.task_id for path in files}
    assert len(ids) == 2, "the viewer shows one log a task id"
    json.dumps(found.as_dict())  # what was written left the evaluation as it was


@pytest.fixture
def preferred(chat_file: Callable[..., str], tmp_path: Path) -> Evaluation:
    """Against `poor` each answer is preferred; `alike` gives the same answer to every other row."""
    rows = chat_file([(f"Why {i}?", f"because it snowed on day {i}, sorry") for i in range(40)])
    good = Fake("fake:good", lambda m: f"GOOD snow {question(m)}")
    alike = Fake(
        "fake:alike",
        lambda m: f"GOOD snow {question(m)}" if int(question(m)[4:-1]) % 2 else "no | idea",
    )

    def judge(messages: Any) -> str:
        first = question(messages).index("GOOD") < question(messages).index("= ANSWER 2")
        return "[[1]]" if first else "[[2]]"

    return evaluate(
        good, rows, against=[Fake("fake:poor", lambda m: "none"), alike],
        judge=Fake("fake:judge", judge), report=tmp_path / "page.html",
    )  # fmt: skip


def test_a_preference_is_told_in_full(preferred: Evaluation, tmp_path: Path) -> None:
    text = preferred.write_markdown(tmp_path / "pr.md").read_text()
    assert "Preferred by: `fake:judge`, in both orders." in text
    assert "that against its strongest rival" in text
    assert re.search(
        r"\| `fake:poor` \| 40 \| 100.0% \| [\d.]+% to 100.0% \| 40 \| 0 \| 0 \| 0 \|", text
    )
    assert re.search(
        r"\| `fake:alike` \| 40 \| 75.0% \| .* \| 20 \| 20 \| 0 \| 20 \| 0.0% \| 0 \|", text
    )
    assert "Unchanged, wrong" not in text, "an answer as good as the other is not wrong"
    assert "As good" in text
    page = (tmp_path / "page.html").read_text()
    assert "that against its strongest rival" in page


def test_a_preference_is_explained_row_by_row_in_inspect(
    preferred: Evaluation, tmp_path: Path
) -> None:
    log: Any = pytest.importorskip("inspect_ai.log", reason="pip install 'unift[inspect]'")
    own, poor, alike = [
        log.read_eval_log(str(path)).samples for path in preferred.write_inspect(tmp_path / "logs")
    ]
    told = [[one.scores["preference"].explanation for one in some[:2]] for some in (own, alike)]
    assert told[0] == [
        "preferred to the answer of fake:alike", "tied with the answer of fake:alike",
    ]  # fmt: skip
    assert told[1] == ["not preferred to the answer of model", "tied with the answer of model"]
    assert [one.scores["preference"].value for one in poor[:2]] == [0.0, 0.0]
