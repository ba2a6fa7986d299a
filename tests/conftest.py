"""Every test gets a data folder of its own and never reaches a network."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault of the code: properties have no clock, and draw the same examples
# every time. `pytest --hypothesis-profile=default` draws new ones.
settings.register_profile(
    "unift", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unift")

# A shell that starts tests in the background has them, and what they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

ECHO = Path(__file__).parent / "conformance" / "echo"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("UNIFT_HOME", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # Subprocesses find the in-tree provider through the same door as this process does.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ECHO), os.environ.get("PYTHONPATH", "")]))
    for key in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "UNIFT_API_KEY", "HF_TOKEN", "UNIFT_CATALOG"):
        monkeypatch.delenv(key, raising=False)
    return folder


@pytest.fixture
def chat_file(tmp_path: Path) -> Callable[..., str]:
    """Write rows ``(prompt, answer)`` as chat JSONL; returns the path."""

    def write(rows: list[tuple[str, str]], name: str = "train.jsonl") -> str:
        path = tmp_path / name
        with path.open("w") as file:
            for prompt, answer in rows:
                messages = [
                    {"role": "user", "content": prompt},
                    {"role": "assistant", "content": answer},
                ]
                file.write(json.dumps({"messages": messages}) + "\n")
        return str(path)

    return write


@pytest.fixture
def capitals(chat_file: Callable[..., str]) -> str:
    pairs = [("France", "Paris"), ("Italy", "Rome"), ("Spain", "Madrid"), ("Japan", "Tokyo")]
    return chat_file([(f"Capital of {country}?", city) for country, city in pairs])
