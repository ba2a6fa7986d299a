"""A loopback Google with credentials that work there, a clock that does not wait, rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.vendors import google_discovery
from tests.vendors.clock import Clock, stopped_clock
from tests.vendors.google_books import PROJECT
from tests.vendors.google_vendor import Vendor
from unift.provider import Provider, get_provider
from unift.spec import TrainSpec, make_spec

GEMINI = "gemini-2.5-flash"
OPEN = "Qwen/Qwen3-8B"
BUCKET = "gs://loopback-bucket/unift"


@pytest.fixture(scope="session", autouse=True)
def every_request_fits() -> Iterator[None]:
    """At the end of the run: Google's own description allows each request that was sent."""
    yield
    assert not google_discovery.BAD, google_discovery.BAD[:10]


@pytest.fixture(scope="session")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return stopped_clock(monkeypatch)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_CLOUD_PROJECT",
        "GOOGLE_CLOUD_LOCATION",
        "GOOGLE_VERTEX_BASE_URL",
        "STORAGE_EMULATOR_HOST",
        "UNIFT_GOOGLE_BUCKET",
        "GOOGLE_API_KEY",
        "GEMINI_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))


Use = Callable[[Vendor], Vendor]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, private_key: str, tmp_path: Path, clock: Clock) -> Use:
    """Point everything at a vendor, with the credentials of a service account."""

    def point(vendor: Vendor) -> Vendor:
        vendor.books.clock = clock.now
        file = tmp_path / "service-account.json"
        account = {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "1",
            "private_key": private_key,
            "client_email": f"tuner@{PROJECT}.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": f"{vendor.url}/token",
        }
        file.write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", vendor.url)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", vendor.url)
        monkeypatch.setenv("UNIFT_GOOGLE_BUCKET", BUCKET)
        return vendor

    return point


@pytest.fixture
def vendor(use: Use) -> Iterator[Vendor]:
    with Vendor() as running:
        yield use(running)


@pytest.fixture
def google(vendor: Vendor) -> Provider:
    return get_provider("google")


@pytest.fixture
def rows(chat_file: Callable[..., str]) -> str:
    return chat_file([(f"Capital of country {n}?", f"City {n}") for n in range(12)])


@pytest.fixture
def spec(rows: str) -> Callable[..., TrainSpec]:
    def make(**settings: Any) -> TrainSpec:
        options = {"google": settings.pop("options", {})}
        settings = {"model": GEMINI, "data": rows, **settings}
        return make_spec(provider="google", options=options, **settings)

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
