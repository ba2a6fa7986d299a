"""A vendor with a finished fine-tune, and no way to train another one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.vendors.openai_vendor import KEY, Vendor
from unift.remote import clock

BASE = "gpt-4o-mini-2024-07-18"


@dataclass
class Old:
    """The vendor, and what is there."""

    vendor: Vendor
    model: str
    job: str
    training: str

    @property
    def source(self) -> str:
        return f"openai:{self.model}"


def rows(count: int = 12) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"Capital of country {number}?"},
                {"role": "assistant", "content": f"City {number}"},
            ]
        }
        for number in range(count)
    ]


def write(path: Path, lines: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> Iterator[Old]:
    with Vendor(wound_down=True) as vendor:
        monkeypatch.setenv("OPENAI_BASE_URL", vendor.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setattr(clock, "sleep", lambda seconds: None)
        content = "".join(json.dumps(row) + "\n" for row in rows()).encode()
        training = vendor.books.add_file("train.jsonl", content, "fine-tune")["id"]
        method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}}
        body = {"model": BASE, "training_file": training, "suffix": "caps", "method": method}
        job = vendor.books.add_job(body)
        while vendor.books.look(job["id"])["status"] != "succeeded":
            pass
        yield Old(vendor, job["fine_tuned_model"], job["id"], training)
        assert not vendor.bad_bodies, "every request body fits the SDK's own types"


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    return write(tmp_path / "prompts.jsonl", rows())
