"""How fast the validator is, beside its peers; writes benchmarks/results/validator.md.

    python benchmarks/validator/measure.py            # about 5 minutes
    python benchmarks/validator/measure.py --quick    # smaller files, for a look

Each figure is the best of five runs in a process of its own, on one core (sched_setaffinity,
processor time) unless it says two (wall time), after a run on 20 rows that loads what has to be
loaded; peak memory is VmHWM of that process. The runs of all peers take turns, and a ratio is the
median of the ratios of the rounds, so that other work on the machine bears on all alike. All peers
read the same file: the checks of OpenAI's published data preparation notebook over `json`, written
plainly; the form checks of mistral-finetune's validator, which is not on PyPI, written plainly (all
lines at once, `json`, pydantic objects, order of roles; without its token counts); pydantic's
`model_validate_json`; msgspec's typed decode alone; `datasets.load_dataset("json")`, which reads
and checks nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results" / "validator.md"
DOCS = Path(__file__).parents[2] / "docs"


def write_rows(
    path: Path, megabytes: float, form: str = "OpenAI chat", *, bad: bool = False
) -> None:
    """Rows of 1.1 KB on average, all different; with a fault in every one if `bad`."""
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
            made = FORMATS[form]("You are a helpful assistant.", f"{row} {question}", answer)
            if bad:
                made["messages"][-1]["weight"] = 7  # that is the fault
            size += file.write(json.dumps(made) + "\n")
            row += 1


def write_long(path: Path) -> None:
    """Twenty short rows, one of 55 MB, and a short one."""
    short = json.dumps(as_chat("You are a helpful assistant.", "Hello?", "Hello!"))
    long = json.dumps(as_chat("You are a helpful assistant.", "word " * 11_000_000, "Words."))
    path.write_text("\n".join((*[short] * 20, long, short, "")))


def as_chat(system: str, question: str, answer: str) -> dict[str, Any]:
    """A row of OpenAI chat."""
    said = zip(("system", "user", "assistant"), (system, question, answer), strict=True)
    return {"messages": [{"role": role, "content": text} for role, text in said]}


def as_gemini(system: str, question: str, answer: str) -> dict[str, Any]:
    """A row of Gemini."""
    return {
        "systemInstruction": {"role": "system", "parts": [{"text": system}]},
        "contents": [
            {"role": role, "parts": [{"text": text}]}
            for role, text in (("user", question), ("model", answer))
        ],
    }


def as_preference(system: str, question: str, answer: str) -> dict[str, Any]:
    """A row of OpenAI preference; the other answer is the first half of the preferred one."""
    row = as_chat(system, question, answer)["messages"]
    other = {"role": "assistant", "content": answer[: len(answer) // 2].strip() + "."}
    return {
        "input": {"messages": row[:2]},
        "preferred_output": row[2:],
        "non_preferred_output": [other],
    }


def as_gemini_preference(system: str, question: str, answer: str) -> dict[str, Any]:
    """A row of Gemini preference, likewise."""
    *contents, last = as_gemini(system, question, answer)["contents"]
    half = answer[: len(answer) // 2].strip() + "."
    other = {"role": "model", "parts": [{"text": half}]}
    scored = [{"score": score, "completion": one} for score, one in ((1, last), (0, other))]
    return {"contents": contents, "completions": scored}


def as_completion(_: str, question: str, answer: str) -> dict[str, Any]:
    """A row of prompt and completion."""
    return {"prompt": question, "completion": answer}


def as_alpaca(_: str, question: str, answer: str) -> dict[str, Any]:
    """A row of Alpaca."""
    return {"instruction": question, "input": "", "output": answer}


def as_trl(_: str, question: str, answer: str) -> dict[str, Any]:
    """A row of TRL preference, in texts."""
    half = answer[: len(answer) // 2].strip() + "."
    return {"prompt": question, "chosen": answer, "rejected": half}


def as_chat_with_notes(system: str, question: str, answer: str) -> dict[str, Any]:
    """A row of OpenAI chat with what people keep beside it."""
    notes = {"id": question.split()[0], "metadata": {"author": "Jane", "turns": 3}}
    return {**notes, **as_chat(system, question, answer), "source": "desk"}


def as_sharegpt(system: str, question: str, answer: str) -> dict[str, Any]:
    """A row of ShareGPT."""
    said = zip(("system", "human", "gpt"), (system, question, answer), strict=True)
    return {"conversations": [{"from": who, "value": text} for who, text in said]}


FORMATS: dict[str, Callable[[str, str, str], dict[str, Any]]] = {
    "OpenAI chat": as_chat,
    "OpenAI preference": as_preference,
    "Gemini": as_gemini,
    "Gemini preference": as_gemini_preference,
    "prompt and completion": as_completion,
    "Alpaca": as_alpaca,
    "ShareGPT": as_sharegpt,
    "TRL preference": as_trl,
    "OpenAI chat with id, metadata, source": as_chat_with_notes,
}


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


def mistral(path: str) -> int:
    """What mistral-finetune's validator checks of the form of a conversation."""
    from pydantic import BaseModel, ConfigDict

    class Said(BaseModel):
        model_config = ConfigDict(extra="forbid")
        role: str
        content: str
        weight: float | None = None

    errors = 0
    with open(path, encoding="utf-8") as file:
        rows = file.readlines()
    for row in rows:
        try:
            value = json.loads(row)
            if ("messages" in value) == ("interactions" in value):
                raise ValueError("one of messages and interactions")
            said: list[Said] = []
            system = None
            for message in value.get("messages", value.get("interactions")):
                if "role" not in message or ("content" in message) == ("text" in message):
                    raise ValueError("role and content")
                role = message["role"]
                if role not in ("system", "user", "assistant", "tool"):
                    raise ValueError("role")
                text = message.get("content", message.get("text"))
                if role == "system":
                    if system is not None:
                        raise ValueError("two system prompts")
                    system = text
                else:
                    said.append(Said(role=role, content=text, weight=message.get("weight")))
            wanted = ["user", "assistant"] * len(said)
            if [one.role for one in said] != wanted[: len(said)] or said[-1].role != "assistant":
                raise ValueError("order")
        except ValueError:
            errors += 1
    return len(rows)


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
    from unift.data._shapes import CHAT  # type: ignore[reportPrivateUsage]  # the very same decoder

    decode, rows = CHAT.decoder.decode, 0
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
        notebook, mistral, pydantic_typed, msgspec_typed, hf_datasets, unift_form, unift_tokens,
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


Found = dict[str, float]


def measure(path: Path, *ways: tuple[str, int], runs: int = 5) -> list[tuple[Found, float]]:
    """(best run, ratio of speeds to the first one) of each (way, cores); the runs take turns."""
    rounds: list[list[Found]] = []
    for _ in range(runs):
        rounds.append([])
        for way, cores in ways:
            done = subprocess.run(
                [sys.executable, __file__, "--worker", way, str(path)],
                check=True,
                capture_output=True,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
                preexec_fn=lambda cores=cores: os.sched_setaffinity(0, range(cores)),
            )
            rounds[-1].append(json.loads(done.stdout.splitlines()[-1]))
    found: list[tuple[Found, float]] = []
    for at in range(len(ways)):
        best = min((each[at] for each in rounds), key=lambda run: run["seconds"])
        ratio = statistics.median(each[0]["seconds"] / each[at]["seconds"] for each in rounds)
        found.append(({**best, "mb_s": path.stat().st_size / 1e6 / best["seconds"]}, ratio))
    return found


def line(name: str, found: Found, *ratios: float) -> str:
    """One row of the table."""
    rows = found["rows"] / found["seconds"]
    shown = " | ".join(f"{ratio:.2f}" for ratio in ratios)
    return f"| {name} | {found['mb_s']:.1f} | {rows:,.0f} | {found['mib']:.0f} | {shown} |"


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
        write_rows(good, size)
        write_rows(bad, size / 5, bad=True)
        write_rows(some, size / 5)
        names = {
            "pydantic_typed": "pydantic `model_validate_json`",
            "unift_form": "`unift validate`, all checks but exact tokens",
            "notebook": "json + the notebook's checks",
            "mistral": "mistral-finetune's form checks",
            "msgspec_typed": "msgspec typed decode alone",
            "hf_datasets": '`datasets.load_dataset("json")`, reads only',
        }
        forms = measure(good, *((way, 1) for way in names))
        ours = forms[1][1]
        table = [
            line(name, found, ratio, ratio / ours)
            for name, (found, ratio) in zip(names.values(), forms, strict=True)
        ]
        counted = {
            "json + tiktoken, one thread": ("tiktoken_alone", 1),
            "`unift validate`, exact tokens, 1 core": ("unift_tokens", 1),
            "json + tiktoken, one thread, wall time": ("tiktoken_alone", 2),
            "`unift validate`, exact tokens, 2 cores": ("unift_tokens", 2),
        }
        found = measure(some, *counted.values())
        wall = found[2][1]
        tokens = [
            line(name, each, ratio / (wall if at > 1 else 1))
            for at, (name, (each, ratio)) in enumerate(zip(counted, found, strict=True))
        ]
        long = Path(folder) / "long.jsonl"
        write_long(long)
        worst = [
            line(f"`unift validate`, {name}", measure(path, ("unift_form", 1))[0][0])
            for name, path in (("a fault in every row", bad), ("a line of 55 MB", long))
        ]
        formats: list[str] = []
        for form in FORMATS:
            path = Path(folder) / "form.jsonl"
            write_rows(path, size / 5, form)
            formats.append(line(form, measure(path, ("unift_form", 1), runs=3)[0][0]))
        grown: list[str] = []
        for megabytes in growth:
            path = Path(folder) / "grown.jsonl"
            write_rows(path, megabytes)
            [(each, _)] = measure(path, ("unift_form", 1), runs=1)
            grown.append(line(f"{megabytes} MB", each))
            path.unlink()
    text = "\n".join(
        (
            "# Validator",
            "",
            f"`python benchmarks/validator/measure.py{' --quick' if given.quick else ''}`, "
            f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, Python {platform.python_version()}; "
            f"load average {os.getloadavg()[0]:.1f} at its end on {os.cpu_count()} cores. "
            f"Chat rows of 1.3 KB, {size} MB, one core (processor time; "
            "two cores: wall time, which other work lengthens), best of five, ratios taken "
            "round by round.",
            "",
            "## Form (speed relative to pydantic and to unift)",
            "",
            head.replace("ratio |", "to pydantic | to unift |").replace(
                "---: |", "---: | ---: |", 1
            ),
            *table,
            "",
            f"## Exact tokens, {size // 5} MB (ratio to one tiktoken thread)",
            "",
            head,
            *tokens,
            "",
            f"## Formats (form, {size // 5} MB, best of three)",
            "",
            head,
            *formats,
            "",
            f"## Worst cases, {size // 5} MB and 55 MB",
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
