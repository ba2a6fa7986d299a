"""The files that are measured: rows of one task in every format."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
