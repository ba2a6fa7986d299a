"""64 chat streams and 8 queued jobs at one server: nothing lost, nothing mixed up, memory flat?

    .venv/bin/python benchmarks/serve/load.py --minutes 10

Starts `unift serve` on the embedded model in a folder of its own and writes
benchmarks/results/serve.md. Every answer is greedy, so one model gives one answer to one prompt; an
answer that differs from the first one of the same model and prompt counts as mixed up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import psutil

from unift.demo import resolve

STREAMS, JOBS, ROWS, TOKENS, PROMPTS = 64, 8, 40, 48, 20
RESULTS = Path(__file__).parents[1] / "results" / "serve.md"


class Load:
    """What was seen."""

    def __init__(self, url: str, minutes: float) -> None:
        self.client = openai.AsyncOpenAI(base_url=url, api_key="none", timeout=600, max_retries=0)
        self.until = time.monotonic() + minutes * 60
        self.models = ["demo"]
        lines = resolve("demo:test").read_text().splitlines()[:PROMPTS]
        self.prompts = [json.loads(line)["messages"][:-1] for line in lines]
        self.expected: dict[tuple[str, int], str] = {}
        self.first: list[float] = []
        self.whole: list[float] = []
        self.tokens = self.broken = self.mixed = 0
        self.memory: list[tuple[float, float]] = []  # seconds, MiB
        self.cpu = 0.0  # seconds of the server, this load alone
        self.busy: list[float] = []  # load average of the machine

    async def stream(self, seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < self.until:
            model, number = chance.choice(self.models), chance.randrange(PROMPTS)
            began, text, finish = time.perf_counter(), "", None
            try:
                answer: Any = await self.client.chat.completions.create(
                    model=model,
                    messages=self.prompts[number],
                    max_tokens=TOKENS,
                    temperature=0,
                    stream=True,
                    stream_options={"include_usage": True},
                )
                async for chunk in answer:
                    if chunk.usage:
                        self.tokens += chunk.usage.completion_tokens
                    for choice in chunk.choices:
                        if choice.delta.content and not text:
                            self.first.append(time.perf_counter() - began)
                        text += choice.delta.content or ""
                        finish = choice.finish_reason or finish
            except openai.OpenAIError as error:
                print("broken:", error)
                self.broken += 1
                continue
            self.broken += finish is None
            self.whole.append(time.perf_counter() - began)
            if self.expected.setdefault((model, number), text) != text:
                self.mixed += 1

    async def train(self) -> list[str]:
        """Queue all jobs at once; returns their ends. Their models are asked as they come."""
        lines = resolve("demo:train").read_text().splitlines(True)
        ids: list[str] = []
        for number in range(JOBS):
            rows = "".join(lines[number * ROWS : (number + 1) * ROWS])
            file = await self.client.files.create(
                file=(f"{number}.jsonl", rows.encode()), purpose="fine-tune"
            )
            job = await self.client.fine_tuning.jobs.create(
                model="demo", training_file=file.id, metadata={"number": str(number)}
            )
            ids.append(job.id)
        ends: dict[str, str] = {}
        while len(ends) < JOBS:
            await asyncio.sleep(2)
            for job_id in set(ids) - set(ends):
                job = await self.client.fine_tuning.jobs.retrieve(job_id)
                assert job.metadata == {"number": str(ids.index(job_id))}
                if job.status in ("succeeded", "failed", "cancelled"):
                    ends[job_id] = job.status
                    if job.fine_tuned_model:
                        self.models.append(job.fine_tuned_model)
        return [ends[job_id] for job_id in ids]

    async def watch(self, process: psutil.Process) -> None:
        began = time.monotonic()
        before = process.cpu_times()
        while time.monotonic() < self.until:
            now = process.cpu_times()
            self.cpu = now.user + now.system - before.user - before.system
            self.busy.append(os.getloadavg()[0])
            self.memory.append((time.monotonic() - began, process.memory_info().rss / 2**20))
            await asyncio.sleep(2)

    async def run(self, process: psutil.Process) -> list[str]:
        training = asyncio.create_task(self.train())
        streams = [self.stream(seed) for seed in range(STREAMS)]
        await asyncio.gather(self.watch(process), *streams)
        return await training


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--port", type=int, default=8791)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        variables = {**os.environ, "UNIFT_HOME": home}
        command = [sys.executable, "-m", "unift", "serve", "--port", str(given.port)]
        server = subprocess.Popen([*command, "--insecure-loopback"], env=variables)
        url = f"http://127.0.0.1:{given.port}/v1"
        with openai.OpenAI(base_url=url, api_key="none", max_retries=60) as waiting:
            waiting.models.list()
        load = Load(url, given.minutes)
        began = time.monotonic()
        ends = asyncio.run(load.run(psutil.Process(server.pid)))
        seconds = time.monotonic() - began
        server.send_signal(signal.SIGTERM)
        status = server.wait(120)
    report = table(load, ends, given.minutes, seconds, status)
    RESULTS.write_text(report)
    print(report)


def table(load: Load, ends: list[str], minutes: float, seconds: float, status: int) -> str:
    half = [mib for at, mib in load.memory if at > load.memory[-1][0] / 2]
    slope = statistics.linear_regression(
        [at / 60 for at, _ in load.memory[-len(half) :]], half
    ).slope

    def quantiles(values: list[float]) -> str:
        cuts = statistics.quantiles(values, n=100)
        return f"{cuts[49]:.2f} / {cuts[94]:.2f} / {cuts[98]:.2f} s"

    rows = [
        ("streams at once, jobs queued at once", f"{STREAMS}, {JOBS}"),
        ("answers", f"{len(load.whole):,} ({load.tokens:,} tokens)"),
        ("tokens per second, all streams", f"{load.tokens / (minutes * 60):,.0f}"),
        ("tokens per CPU second of the server", f"{load.tokens / max(load.cpu, 1e-9):,.0f}"),
        ("load average of the machine, median", f"{statistics.median(load.busy):.1f}"),
        ("answers broken off or lost", load.broken),
        ("answers that differ from the first of that model and prompt", load.mixed),
        ("pairs of model and prompt asked", len(load.expected)),
        ("jobs", ", ".join(f"{ends.count(end)} {end}" for end in sorted(set(ends)))),
        ("models that answered", len({model for model, _ in load.expected})),
        ("first text, median / 95 % / 99 %", quantiles(load.first)),
        ("whole answer, median / 95 % / 99 %", quantiles(load.whole)),
        (
            "memory of the server, first / half time / last",
            f"{load.memory[0][1]:.0f} / {half[0]:.0f} / {load.memory[-1][1]:.0f} MiB",
        ),
        ("memory, highest", f"{max(mib for _, mib in load.memory):.0f} MiB"),
        ("slope of memory over the second half", f"{slope:+.2f} MiB a minute"),
        ("exit status after SIGTERM", status),
    ]
    lines = [f"| {name} | {value} |" for name, value in rows]
    day = datetime.now(UTC).date().isoformat()
    cores = len(os.sched_getaffinity(0))
    return "\n".join(
        [
            "# unift serve under load",
            "",
            f"`benchmarks/serve/load.py --minutes {minutes:g}`, {day}, {cores} cores, no GPU, the",
            f"embedded `demo` model, greedy, up to {TOKENS} tokens an answer; clients, server and",
            "trainings share the cores with whatever else runs on the machine (see its load",
            f"average: wall times mean little far above {cores}). Jobs have {ROWS} rows",
            f"each and run one after another; all was over after {seconds / 60:.1f} minutes.",
            "",
            "| | |",
            "| --- | --- |",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
