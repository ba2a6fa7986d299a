"""A vendor to leave, on this machine: `unift serve` with one fine-tune of the embedded model.

    python vendor.py            starts it, trains, prints what to export, waits for Ctrl-C

It speaks the vendor's API, so nothing in a migration can tell it from the real one.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from openai import OpenAI

from unift.demo import resolve

# The embedded model is so small that it wants a far higher rate than the server's 2e-4.
EPOCHS, BATCH, MULTIPLIER = 1, 4, 25.0


@dataclass(frozen=True)
class Vendor:
    """Where it answers, and the name of the fine-tune there."""

    url: str
    model: str

    @property
    def environment(self) -> dict[str, str]:
        """What has to be exported for `openai:...` to mean this vendor."""
        return {"OPENAI_BASE_URL": self.url, "OPENAI_API_KEY": "none"}


@contextmanager
def vendor(folder: Path, rows: int = 160, held_back: int = 40) -> Iterator[Vendor]:
    """Start the server in `folder`, fine-tune through its API, and stop it at the end.

    Args:
        folder: Of the vendor alone; a second start with the same one trains nothing again.
        rows: Of the demo's training file that the fine-tune has learnt.
        held_back: Of its validation file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "unift", "serve", "--insecure-loopback", "--port", str(port)]
    environment = {**os.environ, "UNIFT_HOME": str(folder / "home")}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        _wait(process, url)
        yield Vendor(url, _fine_tune(url, folder, rows, held_back))
    finally:
        process.terminate()
        process.wait(60)


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        try:
            httpx2.get(f"{url.removesuffix('/v1')}/healthz").raise_for_status()
            return
        except httpx2.HTTPError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def _fine_tune(url: str, folder: Path, rows: int, held_back: int) -> str:
    client = OpenAI(base_url=url, api_key="none")
    for done in client.fine_tuning.jobs.list().data:
        if done.status == "succeeded" and done.fine_tuned_model:
            return done.fine_tuned_model
    files: list[str] = []
    for name, count in (("train", rows), ("validation", held_back)):
        lines = resolve(f"demo:{name}").read_text().splitlines(keepends=True)[:count]
        path = folder / f"support-{name}.jsonl"
        path.write_text("".join(lines))
        with path.open("rb") as file:
            files.append(client.files.create(file=file, purpose="fine-tune").id)
    job = client.fine_tuning.jobs.create(
        model="demo",
        training_file=files[0],
        validation_file=files[1],
        suffix="support",
        seed=7,
        method={
            "type": "supervised",
            "supervised": {
                "hyperparameters": {
                    "n_epochs": EPOCHS,
                    "batch_size": BATCH,
                    "learning_rate_multiplier": MULTIPLIER,
                }
            },
        },
    )
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.5)
        job = client.fine_tuning.jobs.retrieve(job.id)
    if job.fine_tuned_model is None:
        raise SystemExit(f"the vendor's training {job.status}: {job.error}")
    return job.fine_tuned_model


if __name__ == "__main__":
    with vendor(Path("vendor")) as running:
        print("the old model is", f"openai:{running.model}")
        for key, value in running.environment.items():
            print(f"export {key}={value}")
        print("Ctrl-C ends the vendor", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass
