"""The providers that train on this machine, held against the suite on the embedded model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.suite import ProviderConformance
from unift.demo import resolve
from unift.provider import Provider, get_provider
from unift.spec import TrainSpec, make_spec


@pytest.mark.slow
class TestLocalLora(ProviderConformance):
    prompt = "Is the Alder picture frame sold out?"

    @pytest.fixture
    def provider(self) -> Provider:
        return get_provider("local-lora")

    @pytest.fixture
    def spec(self, tmp_path: Path) -> TrainSpec:
        path = tmp_path / "small.jsonl"
        path.write_text("".join(resolve("demo:train").read_text().splitlines(True)[:16]))
        options = {"local-lora": {"threads": 1}}
        return make_spec(
            provider="local-lora", model="demo", data=str(path), max_steps=6, options=options
        )
