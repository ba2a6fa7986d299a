"""The suite that every provider passes, against the loopback Google in its several moods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conformance.suite import ProviderConformance
from tests.unift_google.conftest import GEMINI, OPEN, Use
from tests.vendors.google_vendor import Vendor
from unift import demo
from unift.provider import Provider, get_provider
from unift.spec import TrainSpec

MOODS: dict[str, dict[str, Any]] = {
    "as documented": {},
    "strange word, wrong clock": {"strange_word": "JOB_STATE_WARMING_UP", "clock_offset": -32_400},
    "pages that change, no metrics": {"shifting_pages": True, "experiment": "forbidden"},
    "partly, rows left out": {
        "end": "JOB_STATE_PARTIALLY_SUCCEEDED",
        "dropped": ((3, "too many tokens"),),
        "experiment": "none",
    },
}


class Suite(ProviderConformance):
    prompt = "Capital of country 3?"

    @pytest.fixture
    def provider(self, vendor: Vendor) -> Provider:
        return get_provider("google")


@pytest.mark.parametrize("mood", MOODS)
class TestGemini(Suite):
    @pytest.fixture
    def vendor(self, mood: str, use: Use) -> Iterator[Vendor]:
        with Vendor(**MOODS[mood]) as running:
            yield use(running)

    @pytest.fixture
    def spec(self, spec: Callable[..., TrainSpec]) -> TrainSpec:  # type: ignore[override]
        return spec(model=GEMINI)


class TestOpenModel(Suite):
    """The weights that the job leaves are those of the embedded model: they answer here."""

    @pytest.fixture
    def vendor(self, use: Use) -> Iterator[Vendor]:
        files = {path.name: path.read_bytes() for path in demo.model_path().iterdir()}
        with Vendor(weights=files) as running:
            yield use(running)

    @pytest.fixture
    def spec(self, spec: Callable[..., TrainSpec]) -> TrainSpec:  # type: ignore[override]
        return spec(model=OPEN)
