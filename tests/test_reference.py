"""Who answers for a reference is what providers claim, not what the core knows."""

from __future__ import annotations

import pytest
from unift_echo import Echo

from unift.errors import UsageError
from unift.provider import claimant
from unift.reference import load


def test_the_built_in_claims() -> None:
    assert [claimant(one).name for one in ("demo", "path", "hf", "http")] == [
        "local-lora",
        "local-lora",
        "local-lora",
        "openai",
    ]


def test_a_scheme_that_nobody_claims() -> None:
    with pytest.raises(UsageError) as caught:
        claimant("gopher")
    assert caught.value.code == "no_claimant"


def test_a_plug_in_may_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    from unift_openai import OpenAI

    monkeypatch.setattr(OpenAI, "schemes", ())
    monkeypatch.setattr(Echo, "schemes", ("http",), raising=False)
    assert claimant("http").name == "echo"
    monkeypatch.setattr(Echo, "model", lambda self, reference: f"asked for {reference}")
    assert load("http://127.0.0.1:1/v1#x") == "asked for http://127.0.0.1:1/v1#x"
