"""How fast the validator is, beside its peers; writes benchmarks/results/validator.md.

    python benchmarks/validator/measure.py            # about 5 minutes
    python benchmarks/validator/measure.py --quick    # smaller files, for a look

Each figure is the best of three runs in a process of its own, on one core (sched_setaffinity,
processor time) unless it says two (wall time), after a run on 20 rows that loads what has to be
loaded; peak memory is VmHWM of that process. All peers read the same file in the same run: the
checks of OpenAI's published data preparation notebook over `json`, written plainly; pydantic's
`model_validate_json`; msgspec's typed decode alone; `datasets.load_dataset("json")`, which reads
and checks nothing. mistral-finetune's
validator is not on PyPI and is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results" / "validator.md"
DOCS = Path(__file__).parents[2] / "docs"


def write_chat(path: Path, megabytes: float, *, bad: bool = False) -> None:
    """Chat rows of 1.3 KB on average, all different; with a fault in every one if `bad`."""
    words = [
        word.strip("`*|#<>")
        for page in ("architecture.md", "data.md")
        for word in (DOCS / page).read_text("utf-8").split()
        if word.strip("`*|#<>").isalpha()
    ]
    picked = random.Random(0)
    size = row = 0
    with path.open("w") as file:
        while size < megabytes * 1e6:
            question = " ".join(picked.choices(words, k=picked.randint(20, 180)))
            answer = " ".join(picked.choices(words, k=picked.randint(10, 160)))
            last = {"role": "assistant", "content": answer}
            if bad:
                last["weight"] = 7  # type: ignore[assignment]  # that is the fault
            messages = [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": f"{row} {question}"},
                last,
            ]
            size += file.write(json.dumps({"messages": messages}) + "\n")
            row += 1


def notebook(path: str) -> int:
    """The checks of OpenAI's cookbook: 'Data preparation ... for chat model fine-tuning'."""
    errors = rows = 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            rows += 1
            example = json.loads(line)
            if not isinstance(example, dict):
                errors += 1
                continue
            messages = example.get("messages", None)
            if not messages:
                errors += 1
                continue
            for message in messages:
                if "role" not in message or "content" not in message:
                    errors += 1
                known = ("role", "content", "name", "function_call", "weight")
                if any(key not in known for key in message):
                    errors += 1
                if message.get("role", None) not in ("system", "user", "assistant", "function"):
                    errors += 1
                content = message.get("content", None)
                call = message.get("function_call", None)
                if (not content and not call) or not isinstance(content, str):
                    errors += 1
            if not any(message.get("role", None) == "assistant" for message in messages):
                errors += 1
    return rows


def pydantic_typed(path: str) -> int:
    """A typed model of a row, one line at a time."""
    from typing import Literal

    from pydantic import BaseModel, ConfigDict

    class Message(BaseModel):
        model_config = ConfigDict(extra="forbid")
        role: Literal["system", "user", "assistant"]
        content: str
        weight: Literal[0, 1] | None = None

    class Row(BaseModel):
        model_config = ConfigDict(extra="forbid")
        messages: list[Message]

    globals().update(Message=Message)
    Row.model_rebuild(_types_namespace={"Message": Message})
    read, rows = Row.model_validate_json, 0
    with open(path, "rb") as file:
        for line in file:
            read(line)
            rows += 1
    return rows


def msgspec_typed(path: str) -> int:
    """Typed decoding alone: what the fast path rests on."""
    from unift.data._rows import _decoder  # type: ignore[reportPrivateUsage]  # the very same decoder

    decode, rows = _decoder.decode, 0
    with open(path, "rb") as file:
        for line in file:
            decode(line)
            rows += 1
    return rows


def hf_datasets(path: str) -> int:
    """Reading alone, with a cold cache."""
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        found = datasets.load_dataset("json", data_files=path, cache_dir=cache, split="train")
        return found.num_rows


def unift_form(path: str) -> int:
    """Everything but exact tokens."""
    from unift.data import validate

    return validate(path, max_findings=1000).rows


def unift_tokens(path: str) -> int:
    """Everything, with exact tokens of o200k_base."""
    from unift.data import validate

    return validate(path, model="gpt-4.1-mini-2025-04-14", max_findings=1000).rows


def tiktoken_alone(path: str) -> int:
    """Parsing and encoding every text, in one thread."""
    from unift.data._ranks import encoding

    encode, rows = encoding("o200k_base").encode_to_numpy, 0
    with open(path, "rb") as file:
        for line in file:
            for message in json.loads(line)["messages"]:
                encode(message["content"], disallowed_special=())
            rows += 1
    return rows


WAYS = {
    way.__name__: way
    for way in (
        notebook, pydantic_typed, msgspec_typed, hf_datasets, unift_form, unift_tokens,
        tiktoken_alone,
    )
}  # fmt: skip


def worker(way: str, path: str) -> None:
    """One measurement: seconds, rows, peak MiB."""
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few.jsonl"
        with open(path, "rb") as file:
            few.write_bytes(b"".join(next(file) for _ in range(20)))
        WAYS[way](str(few))
    wall, cpu = time.perf_counter(), time.process_time()
    rows = WAYS[way](path)
    # On one core the time of the processor, which other work on the machine does not lengthen.
    alone = len(os.sched_getaffinity(0)) == 1
    seconds = time.process_time() - cpu if alone else time.perf_counter() - wall
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    print(json.dumps({"seconds": seconds, "rows": rows, "mib": int(peak[1]) / 1024}))


def measure(way: str, path: Path, *, cores: int = 1, runs: int = 3) -> dict[str, float]:
    """Best of some runs."""
    best: dict[str, float] | None = None
    for _ in range(runs):
        done = subprocess.run(
            [sys.executable, __file__, "--worker", way, str(path)],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            preexec_fn=lambda: os.sched_setaffinity(0, range(cores)),
        )
        found = json.loads(done.stdout.splitlines()[-1])
        if best is None or found["seconds"] < best["seconds"]:
            best = found
    assert best is not None
    return {**best, "mb_s": path.stat().st_size / 1e6 / best["seconds"]}


def line(name: str, found: dict[str, float], base: float | None = None) -> str:
    """One row of the table."""
    ratio = f"{found['mb_s'] / base:.2f}" if base else ""
    rows = found["rows"] / found["seconds"]
    return f"| {name} | {found['mb_s']:.1f} | {rows:,.0f} | {found['mib']:.0f} | {ratio} |"


def main() -> None:
    """Write the files, measure everything, write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--worker", nargs=2)
    given = parser.parse_args()
    if given.worker:
        worker(*given.worker)
        return
    size = 20 if given.quick else 100
    growth = (10, 100) if given.quick else (10, 100, 500, 2000)
    head = "| | MB/s | rows/s | peak MiB | ratio |\n| --- | ---: | ---: | ---: | ---: |"
    with tempfile.TemporaryDirectory() as folder:
        good, bad, some = (Path(folder) / name for name in ("good.jsonl", "bad.jsonl", "20.jsonl"))
        write_chat(good, size)
        write_chat(bad, size / 5, bad=True)
        write_chat(some, size / 5)
        forms = {
            way: measure(way, good)
            for way in ("unift_form", "notebook", "pydantic_typed", "msgspec_typed", "hf_datasets")
        }
        pydantic = forms["pydantic_typed"]["mb_s"]
        names = {
            "unift_form": "`unift validate`, all checks but exact tokens",
            "notebook": "json + the notebook's checks",
            "pydantic_typed": "pydantic `model_validate_json`",
            "msgspec_typed": "msgspec typed decode alone",
            "hf_datasets": '`datasets.load_dataset("json")`, reads only',
        }
        table = [line(names[way], found, pydantic) for way, found in forms.items()]
        one = measure("tiktoken_alone", some)
        tokens = [
            line("json + tiktoken, one thread", one, one["mb_s"]),
            line(
                "`unift validate`, exact tokens, 1 core", measure("unift_tokens", some), one["mb_s"]
            ),
            line(
                "`unift validate`, exact tokens, 2 cores",
                measure("unift_tokens", some, cores=2),
                one["mb_s"],
            ),
        ]
        worst = [line("`unift validate`, a fault in every row", measure("unift_form", bad))]
        grown: list[str] = []
        for megabytes in growth:
            path = Path(folder) / "grown.jsonl"
            write_chat(path, megabytes)
            grown.append(line(f"{megabytes} MB", measure("unift_form", path, runs=1)))
            path.unlink()
    text = "\n".join(
        (
            "# Validator",
            "",
            f"`python benchmarks/validator/measure.py{' --quick' if given.quick else ''}`, "
            f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, Python {platform.python_version()}; "
            f"other work ran beside it (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores). "
            f"Chat rows of 1.3 KB, {size} MB, one core (processor time; "
            "two cores: wall time, which the other work lengthens), best of three.",
            "",
            "## Form (ratio to pydantic)",
            "",
            head,
            *table,
            "",
            f"## Exact tokens, {size // 5} MB (ratio to one tiktoken thread)",
            "",
            head,
            *tokens,
            "",
            f"## Worst case, {size // 5} MB",
            "",
            head,
            *worst,
            "",
            "## Growth (form, one run each)",
            "",
            head,
            *grown,
            "",
        )
    )
    RESULTS.write_text(text)
    print(text)


def processor() -> str:
    """The name of the processor."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    main()
