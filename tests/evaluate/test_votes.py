"""Votes of people: the local page, what it refuses, and what comes of the votes."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.evaluate.fakes import Fake, question
from unift.errors import UsageError
from unift.evaluate import Votes, evaluate

Write = Callable[..., str]
N = 12
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def good() -> Fake:
    return Fake("fake:good", lambda m: f"GOOD <b>answer</b> to {question(m)}")


def poor() -> Fake:
    # The last question gets the same answer from both, which nobody has to vote on.
    return Fake(
        "fake:poor",
        lambda m: (
            f"GOOD <b>answer</b> to {question(m)}"
            if question(m).endswith(f" {N - 1}?")
            else f"poor answer to {question(m)}"
        ),
    )


@pytest.fixture
def data(chat_file: Write) -> str:
    return chat_file([(f"Long question {i}?", f"a wanted answer to {i} & co") for i in range(N)])


class Sitting:
    """An evaluation that waits for votes in a thread of its own."""

    def __init__(self, data: str, **settings: Any) -> None:
        told: Queue[str] = Queue()
        self.result: Any = None

        def work() -> None:
            try:
                self.result = evaluate(
                    good(), data, against=[poor()], report=False, notice=told.put,
                    **{"judge": Votes(), **settings},
                )  # fmt: skip
            except Exception as error:  # noqa: BLE001  # the test looks at it
                self.result = error

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()
        text = ""
        while "Vote at" not in text:
            text = told.get(timeout=60)
        self.said = text
        found = re.search(r"http://\S+", text)
        assert found is not None
        self.url = found[0]
        self.parts = urlsplit(self.url)

    def send(
        self, verb: str, path: str = "", form: dict[str, Any] | None = None, **headers: str
    ) -> tuple[int, str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.parts.port or 0, timeout=30)
        sent = {"Host": self.parts.netloc, **headers}
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        where = path if path.startswith("/") else self.parts.path + path
        connection.request(verb, where, urlencode(form) if form is not None else None, sent)
        reply = connection.getresponse()
        found = reply.status, reply.read().decode(), reply.headers
        connection.close()
        return found

    def vote_all(self, most: int = N) -> None:
        """For GOOD, whichever side it is on."""
        for _ in range(most):
            page = self.send("GET")[1]
            if "Every pair has a vote" in page:
                break
            number = int(re.findall(r'name="n" value="(\d+)"', page)[0])
            left = page.index("GOOD") < page.index("poor")
            form = {"n": number, "side": "left" if left else "right"}
            assert self.send("POST", "vote", form)[0] == 303

    def finish(self) -> Any:
        with suppress(OSError):  # the browser may have done so
            self.send("POST", "finish", {})
        self._thread.join(60)
        return self.result


def test_votes_give_the_verdict_and_are_not_asked_for_again(data: str, home: Path) -> None:
    sitting = Sitting(data)
    assert f"({N - 1} of {N - 1} pairs" in sitting.said
    sitting.vote_all()
    found = sitting.finish()
    assert found.verdict.code == "better"
    [against] = found.details["preference"]["against"]
    assert (against["wins"], against["ties"], against["identical"]) == (N - 1, 1, 1)
    assert found.details["preference"]["by"] == "votes"
    kept = [json.loads(line) for line in (home / "votes.jsonl").read_text().splitlines()]
    assert len(kept) == N - 1
    assert {one["left"] for one in kept} == {"own", "other"}  # the sides are mixed
    # Everything has a vote: no page is opened, in whichever role the two come.
    again = evaluate(poor(), data, against=[good()], judge=Votes(), report=False)
    assert again.verdict.code == "worse"


def test_whoever_stops_early_gets_a_verdict_on_those_rows_and_goes_on_later(
    data: str, tmp_path: Path
) -> None:
    file = tmp_path / "votes.jsonl"
    sitting = Sitting(data, judge=Votes(file))
    sitting.vote_all(5)
    found = sitting.finish()
    assert len(found.rows) in (5, 6)  # six if the row that needs no vote came among the first
    assert all(one.n == len(found.rows) for one in found.comparisons)
    assert any("Votes cover" in one for one in found.warnings)
    # A kill in the middle of a line costs that line and nothing else.
    with file.open("ab") as handle:
        handle.write(b'{"pair": "12')
    sitting = Sitting(data, judge=Votes(file))
    assert f"({N - 6} of {N - 1} pairs" in sitting.said
    sitting.vote_all()
    assert len(sitting.finish().rows) == N
    assert len(file.read_text().splitlines()) == N


def test_a_later_vote_on_a_pair_counts(data: str) -> None:
    sitting = Sitting(data)
    sitting.vote_all()
    for number in range(N - 1):
        sitting.send("POST", "vote", {"n": number, "side": "tie"})
    assert sitting.finish().details["preference"]["against"][0]["ties"] == N


def test_without_a_vote_nothing_is_said(data: str) -> None:
    found = Sitting(data).finish()
    assert isinstance(found, UsageError)
    assert found.code == "no_votes"
    with pytest.raises(UsageError):
        evaluate(good(), data, against=[poor()], judge=Votes(page=False), report=False)


def test_nobody_else_can_look_or_vote(data: str, home: Path) -> None:
    sitting = Sitting(data)
    form = {"n": 0, "side": "left"}
    token = sitting.parts.path
    refused = [
        sitting.send("GET", "/"),
        sitting.send("GET", "/wrong-token/"),
        sitting.send("GET", Host="evil.example"),  # DNS rebinding
        sitting.send("POST", "vote", form, Host=f"evil.example:{sitting.parts.port}"),
        sitting.send("POST", "/vote", form),
        sitting.send("POST", "vote", form, Origin="http://127.0.0.1:1"),  # another local page
        sitting.send("POST", "vote", form, Origin="null"),
    ]
    assert [one[0] for one in refused] == [403] * len(refused)
    assert not any("GOOD" in one[1] or token in one[1] for one in refused)
    wrong = [{"n": N, "side": "left"}, {"n": 0, "side": "up"}, {"n": "-1", "side": "left"}, {}]
    assert [sitting.send("POST", "vote", one)[0] for one in wrong] == [400] * 4
    assert sitting.send("POST", "vote", {"n": 0, "side": "x" * 2000})[0] == 400
    assert not (home / "votes.jsonl").exists()
    status, page, headers = sitting.send("GET")
    assert status == 200
    assert "&lt;b&gt;answer" in page
    assert "fake:" not in page  # blind
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    # A form of the page itself names its origin.
    assert sitting.send("POST", "vote", form, Origin=f"http://{sitting.parts.netloc}")[0] == 303
    sitting.finish()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not BROWSER:
        pytest.skip("no Chromium here: apt install chromium")
    from playwright.sync_api import sync_playwright

    from tests.report.test_browser import FLAGS

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


def test_the_page_is_usable_by_keyboard_and_on_a_phone(chromium: Any, data: str) -> None:
    axe = files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    sitting = Sitting(data)
    said: list[str] = []
    for scheme, width in (("light", 1100), ("dark", 375)):
        context = chromium.new_context(
            bypass_csp=True, color_scheme=scheme, viewport={"width": width, "height": 740}
        )
        view = context.new_page()
        view.on("console", lambda message: said.append(message.text))
        view.goto(sitting.url)
        view.evaluate("document.querySelector('details').open = true")
        view.evaluate(axe)
        found = view.evaluate("axe.run().then(result => result.violations)")
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        context.close()
    # With the page's own policy: keys vote, and do not once they are switched off.
    view = chromium.new_page()
    view.on("console", lambda message: said.append(message.text))
    view.goto(sitting.url)
    view.keyboard.press("2")
    view.wait_for_url("**/?n=1")
    view.uncheck("#keys")
    view.keyboard.press("1")
    # Tab and Enter always work.
    view.focus(".choose button >> nth=0")
    view.keyboard.press("Enter")
    view.wait_for_url("**/?n=2")
    for number in range(2, N - 1):
        view.click(".choose button >> nth=0")
        view.wait_for_url("**/" if number == N - 2 else f"**/?n={number + 1}")
    view.click("button:has-text('Finish')")
    view.wait_for_selector("text=The voting is over")
    view.close()
    found = sitting.finish()
    assert found.details["preference"]["against"][0]["n"] == N
    # A favicon that nobody has is no complaint of the page's.
    assert [one for one in said if "403" not in one and "favicon" not in one] == []
