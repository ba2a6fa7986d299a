"""A loopback vendor, a clock that does not wait, and rows that the vendor accepts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vendors.clock import Clock, stopped_clock
from tests.vendors.openai_vendor import KEY, Vendor
from unift.provider import Provider, get_provider
from unift.spec import TrainSpec, make_spec

BASE = "gpt-4.1-mini-2025-04-14"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return stopped_clock(monkeypatch)


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    with Vendor() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield running
        assert not running.bad_bodies, "every request body fits the SDK's own types"


@pytest.fixture
def openai(vendor: Vendor, clock: Clock) -> Provider:
    vendor.books.clock = clock.now
    return get_provider("openai")


@pytest.fixture
def rows(chat_file: Callable[..., str]) -> str:
    return chat_file([(f"Capital of country {n}?", f"City {n}") for n in range(12)])


@pytest.fixture
def spec(rows: str) -> Callable[..., TrainSpec]:
    """A spec for the vendor, which keeps metadata unless told otherwise."""

    def make(provider: str = "openai", **settings: Any) -> TrainSpec:
        options = {"metadata": True, **settings.pop("options", {})}
        settings = {"model": BASE, "data": rows, **settings}
        return make_spec(provider=provider, options={provider: options}, **settings)

    return make


@pytest.fixture
def preferences(tmp_path: Path) -> str:
    path = tmp_path / "preferences.jsonl"
    with path.open("w") as file:
        for number in range(12):
            row = {
                "input": {"messages": [{"role": "user", "content": f"Question {number}?"}]},
                "preferred_output": [{"role": "assistant", "content": f"Good {number}"}],
                "non_preferred_output": [{"role": "assistant", "content": f"Bad {number}"}],
            }
            file.write(json.dumps(row) + "\n")
    return str(path)
