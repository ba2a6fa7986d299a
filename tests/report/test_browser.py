"""The page in a real browser: nothing complains, nothing is out of reach, axe finds nothing.

Skipped with a message where there is no Chromium; ``.ci/run`` installs it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.fakes import Fake, question
from tests.report.test_report import VALIDATION, FakeRun
from unift.evaluate import diagnose, evaluate
from unift.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(not BROWSER, reason="no Chromium here: apt install chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(tmp_path: Path, chat_file: Callable[..., str]) -> str:
    """Every section at once: labels with a lost minority, a margin, a run, data and settings."""
    labels = ("refund", "parcel", "login")
    truth = {f"Mail {i}": labels[0 if i % 10 == 0 else 1 + i % 2] for i in range(200)}
    old = Fake("fake:old", lambda m: truth[question(m)] if int(question(m)[5:]) % 7 else "?")
    new = Fake(
        "fake:new", lambda m: "parcel" if truth[question(m)] == "refund" else truth[question(m)]
    )
    run = FakeRun()
    return write_report(
        tmp_path / "page.html",
        run=run,
        evaluation=evaluate(
            new, chat_file(list(truth.items())), against=[old], margin=0.05, report=False
        ),
        validation=VALIDATION,
        diagnosis=diagnose(run.events(follow=False), run.plan),
    ).as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_complains_and_axe_finds_nothing(chromium: Any, page: str, scheme: str) -> None:
    axe = files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    # The page's own policy lets no script run, axe included.
    context = chromium.new_context(bypass_csp=True, color_scheme=scheme)
    said: list[str] = []
    for width in (1100, 375):
        view = context.new_page()
        view.on("console", lambda message: said.append(message.text))
        view.on("pageerror", lambda error: said.append(str(error)))
        view.on("requestfailed", lambda request: said.append(request.url))
        view.set_viewport_size({"width": width, "height": 900})
        view.goto(page)
        view.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        view.evaluate(axe)
        found = view.evaluate("axe.run().then(result => result.violations)")
        told = [(one["id"], [n["html"][:160] for n in one["nodes"]][:3]) for one in found]
        assert told == [], (width, json.dumps(told, indent=1))
        content = view.evaluate("document.documentElement.scrollWidth")
        assert content <= width, f"the page scrolls sideways at {width}"
    context.close()
    assert said == []


def test_the_keyboard_reaches_everything(chromium: Any, page: str) -> None:
    """From the top: the link that skips, then every table that scrolls and every detail."""
    view = chromium.new_page(viewport={"width": 375, "height": 900})
    view.goto(page)
    seen: list[str] = []
    for _ in range(60):
        view.keyboard.press("Tab")
        tag, name = view.evaluate(
            "(e => [e.tagName, e.getAttribute('aria-label') || e.textContent.trim()])"
            "(document.activeElement)"
        )
        if tag == "BODY":
            break
        seen.append(name)
        if len(seen) == 1:
            assert view.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
        if tag == "SUMMARY":
            view.keyboard.press("Enter")
            assert view.evaluate("document.activeElement.parentElement.open")
    assert "skip" in seen[0].lower()
    for region in ("Candidates and metrics", "Scores on parts of the rows", "Confusion matrix"):
        assert region in seen
    view.close()


def test_it_prints_whole(chromium: Any, page: str) -> None:
    view = chromium.new_page()
    view.goto(page)
    pdf = view.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 3 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 30
    view.close()
