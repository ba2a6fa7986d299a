"""Newer facts take the place of the shipped ones, and bad ones change nothing."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from unift import catalog
from unift.errors import UsageError

CARD = {
    "id": "toaster-1",
    "memory_gb": 8,
    "memory_mib": 8192,
    "memory_source": ["its box"],
    "bf16_tflops": 1.5,
}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNIFT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("UNIFT_CATALOG", raising=False)
    return tmp_path / "home"


def facts(tmp_path: Path, content: object) -> str:
    path = tmp_path / "new.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_a_new_card_is_known_and_a_later_update_keeps_it(tmp_path: Path) -> None:
    done = catalog.update(facts(tmp_path, {"gpus": [CARD]}))
    assert done.entries == {"gpus": 1}
    assert catalog.gpu("toaster-1").bf16_tflops == 1.5
    assert catalog.gpu("toaster-1").origin == "user"
    again = facts(tmp_path, {"gpus": [{**CARD, "id": "toaster-2", "as_of": "2026-11-01"}]})
    assert catalog.update(again).newest == "2026-11-01"
    assert catalog.gpu("toaster-1").memory_mib == 8192
    assert catalog.gpu("h100").memory_gb == 80


@pytest.mark.parametrize(
    "content",
    [
        {"gpus": [{**CARD, "bf16_tflops": -1}]},
        {"gpus": [{**CARD, "as_of": "2999-01-01"}]},
        {"gpus": [{**CARD, "currency": "EUR"}]},
        {"gpu": [CARD]},
        [],
        {},
        {"gpus": []},
    ],
)
def test_what_does_not_fit_changes_nothing(tmp_path: Path, own_home: Path, content: object) -> None:
    with pytest.raises(UsageError):
        catalog.update(facts(tmp_path, content))
    assert not (own_home / "catalog.json").exists()


def test_from_an_address_on_this_machine() -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"gpus": [{**CARD, "id": "toaster-3"}]}).encode())

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    catalog.update(f"http://127.0.0.1:{server.server_port}/catalog.json")
    thread.join()
    server.server_close()
    assert catalog.gpu("toaster-3").memory_mib == 8192


def test_plain_http_is_refused() -> None:
    with pytest.raises(UsageError, match="https"):
        catalog.update("http://example.org/catalog.json")
