"""The suite itself works: the smallest provider passes it."""

from __future__ import annotations

import pytest

from tests.conformance.suite import ProviderConformance
from unift.provider import Provider, get_provider
from unift.spec import TrainSpec, make_spec


class TestEcho(ProviderConformance):
    @pytest.fixture
    def provider(self) -> Provider:
        return get_provider("echo")

    @pytest.fixture
    def spec(self, capitals: str) -> TrainSpec:
        return make_spec(provider="echo", model="base", data=capitals)
