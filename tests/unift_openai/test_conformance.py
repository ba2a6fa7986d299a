"""The suite that every provider passes, against the loopback vendor in its several moods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conformance.suite import ProviderConformance
from tests.vendors.clock import Clock
from tests.vendors.openai_vendor import KEY, Vendor
from unift.provider import Provider, get_provider
from unift.spec import TrainSpec

MOODS: dict[str, dict[str, Any]] = {
    "as documented": {},
    "forgets metadata": {"metadata": False},
    "shuffled events, plain results": {"events": "shuffled", "csv": "plain"},
    "repeated events, cut results": {"events": "repeated", "csv": "truncated"},
    "strange word, wrong clock": {"strange_word": "warming_up", "clock_offset": -9 * 3600},
    "pages that change": {"shifting_pages": True},
}


@pytest.mark.parametrize("mood", MOODS)
class TestOpenAI(ProviderConformance):
    prompt = "Capital of country 3?"

    @pytest.fixture(autouse=True)
    def vendor(self, mood: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
        with Vendor(**MOODS[mood]) as running:
            monkeypatch.setenv("OPENAI_BASE_URL", running.url)
            monkeypatch.setenv("OPENAI_API_KEY", KEY)
            yield running
            assert not running.bad_bodies

    @pytest.fixture
    def provider(self) -> Provider:
        return get_provider("openai")

    @pytest.fixture
    def spec(self, mood: str, spec: Callable[..., TrainSpec]) -> TrainSpec:  # type: ignore[override]
        return spec(options={"metadata": mood != "forgets metadata"})
