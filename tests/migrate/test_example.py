"""The example, whole: `unift serve` is the vendor, the embedded model is trained on both sides."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

import unift
from unift.migrate import Migration, verify

EXAMPLE = Path(__file__).parents[2] / "examples" / "migrate_from_openai"


def example(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLE / "run.py"), str(folder), *flags],
        capture_output=True, text=True, timeout=580,
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trainings, once for the module: the vendor's and the new one."""
    folder = tmp_path_factory.mktemp("example")
    finished = example(folder)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "Switch" in finished.stdout
    return folder


@pytest.fixture
def migration(done: Path, monkeypatch: pytest.MonkeyPatch) -> Migration:
    monkeypatch.setenv("UNIFT_HOME", str(done / "home"))
    return unift.migrate(done / "migration.yaml")


def test_one_command_leads_from_inventory_to_the_page(migration: Migration) -> None:
    states = {step.name: step.state for step in migration.status()}
    assert set(states.values()) == {"done"}
    assert len(states) == 8
    story = json.loads((migration.folder / "report.json").read_text())
    assert story["word"] == "Switch"
    mapped = {line["setting"]: line for line in story["mapping"]}
    assert mapped["batch_size"]["certainty"] == "exact"
    assert mapped["epochs"]["certainty"] == "yours"
    page = (migration.folder / "report.html").read_text()
    assert "Owner of the support desk" in page
    golden = (migration.folder / "golden.jsonl").read_text().splitlines()
    assert all(len(json.loads(line)["draws"]) == 2 for line in golden)
    lineage = {run.id for run in unift.runs()}
    assert story["new"]["run"] in lineage


def test_the_script_finds_everything_done(done: Path, migration: Migration) -> None:
    before = [run.id for run in unift.runs()]
    finished = example(done, "--script")
    assert finished.returncode == 0, finished.stderr
    assert "Switch" in finished.stdout
    assert "unift serve --model demo --adapter support=run:" in finished.stdout
    assert [run.id for run in unift.runs()] == before, "nothing is trained twice"


def test_the_start_command_serves_what_was_trained(migration: Migration, tmp_path: Path) -> None:
    ready = migration.cutover()
    assert "--dtype float32" in ready.commands["vllm"]
    assert "+MODEL=support" in ready.environment
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ready.commands["unift"].split()[1:]
    flags[flags.index("--port") + 1] = str(port)
    flags[flags.index("--key-file") :] = ["--insecure-loopback"]
    process = subprocess.Popen([sys.executable, "-m", "unift", *flags], env=dict(os.environ))
    url = f"http://127.0.0.1:{port}/v1"
    try:
        until = time.monotonic() + 120
        while True:
            try:
                names = [one["id"] for one in httpx2.get(f"{url}/models").json()["data"]]
                break
            except httpx2.HTTPError:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.1)
        assert "support" in names
        checked = migration.cutover(server=url)
        assert checked.template is not None
        assert checked.template.same
        assert checked.template.served == url
    finally:
        process.terminate()
        process.wait(60)


def test_another_template_is_caught_at_the_token(migration: Migration, tmp_path: Path) -> None:
    from unift.demo import model_path
    from unift.migrate._template import check_template

    other = tmp_path / "base"
    shutil.copytree(model_path(), other)
    template = other / "chat_template.jinja"
    one_space_more = template.read_text().replace("'<|assistant|>'", "'<|assistant|> '")
    template.write_text(one_space_more)
    trained = unift.run(migration.train().run).artifact
    assert trained is not None
    found = check_template(
        trained.reference, str(other), str(migration.folder / "data" / "test.jsonl"), limit=3
    )
    assert not found.same
    assert found.difference is not None
    assert found.difference["trained"] != found.difference["served"]


def test_the_archive_can_be_verified_and_a_change_is_seen(
    migration: Migration, tmp_path: Path
) -> None:
    packed = Path(migration.cutover().archive["file"])
    assert verify(packed).ok
    copy = tmp_path / packed.name
    subprocess.run(["tar", "xzf", str(packed), "-C", str(tmp_path)], check=True)
    inside = tmp_path / "support"
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=inside, check=True)
    assert (inside / "model" / "adapter_model.safetensors").is_file()
    (inside / "golden.jsonl").write_text("{}\n")
    subprocess.run(["tar", "czf", str(copy), "-C", str(tmp_path), "support"], check=True)
    assert verify(copy).changed == ("golden.jsonl",)


def test_the_untrained_base_is_refused(migration: Migration) -> None:
    found = migration.compare(model="demo")
    assert found.verdict.code == "do_not"
    assert found.verdict.proven
    assert "Worst in" in found.verdict.sentence
    assert migration.compare().verdict.code == "switch", "the trained one is compared again"
