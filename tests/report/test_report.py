"""The page: what it shows, that it is safe, and that it stands alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.evaluate.fakes import Fake
from unift.errors import UsageError
from unift.evaluate import Evaluation, diagnose, evaluate
from unift.provider import Artifact, Event, Plan, Setting
from unift.report import read_curves, write_report
from unift.spec import make_spec

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'&"
VOID = {"meta", "link", "br", "hr", "img", "input", "!doctype"}


class Page(HTMLParser):
    """Collects what the tests look at, and checks that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.words.setdefault(self.open[-1], []).append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def seen(self) -> str:
        """All text outside the style sheet."""
        return " ".join(
            word for tag, words in self.words.items() if tag != "style" for word in words
        )


class FakeRun:
    """A finished run as the report reads it."""

    id, provider, status, model = "7kd2m9xq4c", "local-lora", "succeeded", "run:7kd2m9xq4c"

    def __init__(self, base: str = "demo", loss: float = 1.0, rows: int = 120) -> None:
        self.plan = Plan(
            spec=make_spec(provider="local-lora", model=base, data="train.jsonl"),
            settings=(
                Setting(name="epochs", value=3.0, origin="user"),
                Setting(name="rank", value=16, origin="provider default", why=f"why {base}"),
            ),
            estimate={"hours": 0.05, "price_usd": 1.5, "memory": {"reserved_gib": 2.5}},
            fingerprints={"data": "sha256:" + "ab" * 32},
        )
        self.artifact = Artifact(
            kind="adapter",
            reference="/somewhere",
            base=base,
            sha256={"adapter_model.safetensors": "ef" * 32},
            metrics={"seconds": 200.0},
        )
        self._events = list(_events(loss, rows))

    def events(self, follow: bool = True) -> Iterator[Event]:
        assert not follow
        return iter(self._events)


def _events(scale: float, steps: int) -> Iterator[Event]:
    at = datetime(2026, 11, 24, tzinfo=UTC)
    for step in range(1, steps + 1):
        loss = scale * (0.2 + 2 * math.exp(-step / 20))
        data = {"step": step, "total_steps": 200, "loss": loss, "learning_rate": 2e-4}
        yield Event(id=f"m{step}", at=at + timedelta(seconds=step), kind="metrics", data=data)
        if step % 20 == 0:
            held_out = loss + scale * max(0, step - 60) * 0.01
            yield Event(
                id=f"e{step}", at=at, kind="evaluation",
                data={"step": step, "validation_loss": held_out},
            )  # fmt: skip


VALIDATION: dict[str, Any] = {
    "ok": True,
    "rows": 1200,
    "tokens": 45678,
    "findings": [
        {
            "code": "UD021", "severity": "warning", "file": "train.jsonl", "line": line, "path": "",
            "message": "Occurs twice.", "fix": "drop one", "providers": [],
        }
        for line in (4, 9, 12, 30)
    ],
}  # fmt: skip


@pytest.fixture
def evaluation(chat_file: Callable[..., str]) -> Evaluation:
    rows = [(f"Question {i}?", f"answer {i}") for i in range(40)]
    answers = dict(rows)
    return evaluate(
        Fake("fake:tuned", lambda m: answers[m[-1]["content"]]),
        chat_file(rows, "test.jsonl"),
        base=Fake("fake:base", lambda m: "no idea"),
        report=False,
    )


def page(tmp_path: Path, **parts: Any) -> Page:
    path = write_report(tmp_path / "deep" / "report.html", **parts)
    return Page(path.read_text("utf-8"))


def test_all_parts_are_there(tmp_path: Path, evaluation: Evaluation) -> None:
    run = FakeRun()
    found = page(
        tmp_path,
        run=run,
        evaluation=evaluation,
        validation=VALIDATION,
        diagnosis=diagnose(run.events(follow=False), run.plan),
    )
    assert len(found.all("h1")) == 1
    assert found.words["h2"] == [
        "Compared with what you could have had without training",
        "How the training went",
        "Answers side by side",
        "The data",
        "Settings, and why",
        "Estimated and actual",
        "Where it comes from",
    ]
    seen = found.seen
    for expected in (
        "Worth it", "100.0 points above base", "+100.0", "< 0.001",  # verdict and table
        "Overfitting.", "best:", "stopped early at 120 of 200",  # training
        "UD021", "line 4, line 9, line 12", "1,200 rows", "45,678 tokens",  # data
        "provider default", "why demo", "3 min 00 s", "3 min 20 s", "1.11 x", "$1.50",
        "sha256:" + "ab" * 32, "adapter_model.safetensors", evaluation.id,  # lineage
        "✓ right", "✗ wrong", "no idea", "Python",
    ):  # fmt: skip
        assert expected in seen, expected


@pytest.mark.parametrize("part", ["run", "evaluation", "validation", "estimate", "nothing"])
def test_any_part_may_be_missing(tmp_path: Path, evaluation: Evaluation, part: str) -> None:
    parts: dict[str, Any] = {
        "run": FakeRun(),
        "evaluation": evaluation,
        "validation": VALIDATION,
        "estimate": {"rows": [{"provider": "local-lora", "model": "demo", "fits": True}]},
    }
    found = page(tmp_path, **{part: parts[part]} if part in parts else {})
    assert len(found.all("h1")) == 1
    assert "None" not in found.seen


def test_a_run_without_events_has_no_chart(tmp_path: Path) -> None:
    assert not page(tmp_path, run=FakeRun(rows=0)).all("svg")


def test_nothing_is_loaded_and_nothing_is_run(tmp_path: Path, evaluation: Evaluation) -> None:
    found = page(tmp_path, run=FakeRun(), evaluation=evaluation, validation=VALIDATION)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in found.tags}
    for tag, attributes in found.tags:
        assert not {"src", "srcset", "xlink:href"} & set(attributes), tag
        assert str(attributes.get("href", "#")).startswith("#")
    assert not re.search(r"url\(|@import|https?://", found.text)
    policy = [one["content"] for one in found.all("meta") if "http-equiv" in one]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_everything_from_outside_is_escaped(tmp_path: Path, chat_file: Callable[..., str]) -> None:
    rows = [(f"{EVIL} {i}", f"{EVIL} {i % 2}") for i in range(8)]
    evil_json = {"code": EVIL, "severity": "error", "line": 1, "message": EVIL, "fix": EVIL}
    document = evaluate(
        Fake(EVIL, lambda m: EVIL),
        chat_file(rows),
        against=[Fake(f"other {EVIL}", lambda m: "x")],
        report=False,
    ).as_dict()
    found = page(
        tmp_path,
        run=FakeRun(base=EVIL),
        evaluation=document,
        validation={"ok": False, "rows": 8, "tokens": None, "findings": [evil_json]},
        estimate={"rows": [{"provider": EVIL, "model": EVIL}, {"provider": "b", "model": EVIL}]},
        diagnosis={
            "code": EVIL, "sentence": EVIL, "advice": [{"text": EVIL, "flags": EVIL}],
            "best_step": 1, "evidence": {},
        },
    )  # fmt: skip
    assert "<script" not in found.text.lower()
    assert "<img" not in found.text.lower()
    assert not any(name.startswith("on") for _, attrs in found.tags for name in attrs)
    assert "<script>alert('x')</script>" in found.seen  # shown, as text


def test_numbers_of_json_tasks_and_labels(tmp_path: Path, chat_file: Callable[..., str]) -> None:
    rows = [(f"Row {i}", json.dumps({"kind": "a", "deep": {"id": i}})) for i in range(10)]
    model = Fake("fake:j", lambda m: '{"kind": "a", "deep": {"id": 0}}')
    tables = page(tmp_path, evaluation=evaluate(model, chat_file(rows), against=[], report=False))
    assert "Field by field" in tables.seen
    assert "deep.id" in tables.words["code"]
    assert "10.0%" in tables.words["span"]
    labels = [(f"Row {i}", "ham" if i % 3 else "spam") for i in range(12)]
    model = Fake("fake:l", lambda m: "ham")
    tables = page(tmp_path, evaluation=evaluate(model, chat_file(labels), against=[], report=False))
    assert "Label by label" in tables.seen
    assert "Macro F1" in tables.seen


def test_pictures_are_well_formed_and_named(tmp_path: Path, evaluation: Evaluation) -> None:
    found = page(tmp_path, run=FakeRun(), evaluation=evaluation)
    pictures = re.findall(r"<svg.*?</svg>", found.text, re.DOTALL)
    assert len(pictures) == 4  # two charts, each for wide and narrow screens
    for text in pictures:
        root = ElementTree.fromstring(text)
        assert root.get("role") == "img"
        ids = {one.get("id") for one in root.iter() if one.get("id")}
        assert set(str(root.get("aria-labelledby")).split()) == ids
        width, height = map(float, str(root.get("viewBox")).split()[2:])
        for one in root.iter():
            for key, most in (("x", width), ("x1", width), ("cx", width), ("y", height)):
                value = one.get(key)
                assert value is None or 0 <= float(value) <= most + 0.1, (one.tag, key, value)
    every_id = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(every_id) == len(set(every_id))


def test_accessible_structure(tmp_path: Path, evaluation: Evaluation) -> None:
    found = page(tmp_path, run=FakeRun(), evaluation=evaluation, validation=VALIDATION)
    assert found.all("html")[0]["lang"] == "en"
    assert len(found.all("table")) == len(found.all("caption"))
    assert all(one.get("scope") in ("col", "row") for one in found.all("th"))
    ids = {attrs["id"] for _, attrs in found.tags if "id" in attrs}
    assert all(one["aria-labelledby"] in ids for one in found.all("section"))
    scrolled = [a for _, a in found.tags if a.get("class") == "scroll"]
    assert scrolled
    assert all(a["tabindex"] == "0" and a["role"] == "region" for a in scrolled)
    assert found.all("a")[0]["href"] == "#main"


def test_same_input_same_page(tmp_path: Path, evaluation: Evaluation) -> None:
    def text() -> str:
        made = page(tmp_path, run=FakeRun(), evaluation=evaluation, validation=VALIDATION).text
        return re.sub(r"written \d{4}-\d\d-\d\d \d\d:\d\d UTC", "", made)

    assert text() == text()


def test_curves_that_are_flat_huge_or_broken_still_draw(tmp_path: Path) -> None:
    for scale in (0.0, 1e-9, 1e12):
        assert len(page(tmp_path, run=FakeRun(loss=scale)).all("svg")) == 2
    run = FakeRun()
    run._events[50].data["loss"] = "NaN"
    run._events[60].data["loss"] = math.inf
    found = page(tmp_path, run=run)
    assert "nan" not in found.text.split("<main")[1].lower()


def test_long_runs_give_small_pages(tmp_path: Path) -> None:
    assert len(page(tmp_path, run=FakeRun(rows=20_000)).text) < 150_000


def test_read_curves_takes_the_last_of_repeated_steps() -> None:
    at = datetime(2026, 11, 24, tzinfo=UTC)
    pairs = [(1, 2.0), (2, 1.5), (2, 1.0)]
    found = read_curves(
        Event(id=str(i), at=at, kind="metrics", data={"step": step, "loss": loss})
        for i, (step, loss) in enumerate(pairs)
    )
    assert found.train == ((1, 2.0), (2, 1.0))


def test_a_place_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError) as caught:
        write_report(tmp_path / "file" / "report.html")
    assert caught.value.code == "report_unwritable"
    assert caught.value.fix


def test_a_page_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path)
    assert path.read_text().startswith("<!doctype html>")
    assert [one.name for one in tmp_path.iterdir() if "report" in one.name] == ["report.html"]
