"""The golden set: prompts with the answers that the old model gave, in a file that outlives it.

One JSON object a line: ``id`` (sha256 of messages, tools and sampling), ``messages``, ``tools``,
``sampling``, ``model``, ``source`` (``file``, ``training``, ``validation``, ``stored``, ``proxy``),
``truth`` (the assistant's message of the file, if there was one) and ``draws``: each with
``message``, ``finish_reason``, ``logprobs``, ``usage``, ``latency_s`` and ``at``.
The evaluator reads it as the candidate ``recorded:FILE``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

from unift.evaluate import minimum_detectable_effect, rows_needed
from unift.migrate._files import write_text

Message = dict[str, Any]
# Of a request, what does not change the distribution of answers, or is kept elsewhere.
_NOT_SAMPLING = frozenset({
    "messages", "tools", "model", "stream", "stream_options", "store", "metadata", "user", "n",
    "logprobs", "top_logprobs", "safety_identifier", "prompt_cache_key", "prompt_cache_options",
    "prompt_cache_retention", "service_tier",
})  # fmt: skip


@dataclass
class Prompt:
    """One prompt, and the answers that are already known of it."""

    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    sampling: dict[str, Any] = field(default_factory=dict[str, Any])
    source: str = "file"
    model: str = ""
    truth: Message | None = None
    draws: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def id(self) -> str:
        """sha256 of what decides the answer."""
        return prompt_id(self.messages, self.tools, self.sampling)

    def line(self) -> dict[str, Any]:
        """As in the file."""
        optional: dict[str, Any] = {}
        if self.tools:
            optional["tools"] = self.tools
        if self.truth is not None:
            optional["truth"] = self.truth
        head = {"id": self.id, "messages": self.messages}
        about = {"sampling": self.sampling, "model": self.model, "source": self.source}
        return {**head, **optional, **about, "draws": self.draws}

    @classmethod
    def of_line(cls, line: Mapping[str, Any]) -> Prompt:
        """The inverse of `line`."""
        return cls(
            messages=line["messages"],
            tools=line.get("tools") or [],
            sampling=line.get("sampling") or {},
            source=line.get("source") or "file",
            model=line.get("model") or "",
            truth=line.get("truth"),
            draws=list(line.get("draws") or []),
        )


def prompt_id(
    messages: Iterable[Message], tools: Iterable[dict[str, Any]], sampling: Mapping[str, Any]
) -> str:
    """The name of a prompt: 64 hexadecimal digits. A temperature of 0 is one of 0.0."""
    settings = {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in sampling.items()
    }
    whole = {"messages": list(messages), "tools": list(tools), "sampling": settings}
    text = json.dumps(whole, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sampling_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """Of a chat request, what decides how answers are drawn."""
    return {k: v for k, v in request.items() if k not in _NOT_SAMPLING and v is not None}


def answer_of(draw: Mapping[str, Any]) -> str:
    """What a draw says, in a form that can be compared: its text and its tool calls."""
    message: dict[str, Any] = draw["message"]
    made: list[dict[str, Any]] = message.get("tool_calls") or []
    calls = [
        [call.get("function", {}).get("name"), _arguments(call.get("function", {}))]
        for call in made
    ]
    content = message.get("content") or message.get("refusal") or ""
    text = content if isinstance(content, str) else json.dumps(content, sort_keys=True)
    return json.dumps([text.strip(), calls], sort_keys=True, ensure_ascii=False)


def _arguments(function: Mapping[str, Any]) -> Any:
    try:
        return json.loads(function.get("arguments") or "{}")
    except (ValueError, TypeError):
        return function.get("arguments")


@dataclass(frozen=True)
class Noise:
    """How far the old model agrees with itself.

    Attributes:
        prompts: With at least two draws.
        agreement: Chance that two draws of one prompt say the same, letter by letter (tool calls by
            name and arguments), averaged over prompts; None without such prompts.
    """

    prompts: int
    agreement: float | None


def noise_of(prompts: Iterable[Prompt]) -> Noise:
    """From repeated draws; each pair of a prompt counts the same, and so does each prompt."""
    shares: list[float] = []
    for prompt in prompts:
        answers = [answer_of(draw) for draw in prompt.draws]
        count = len(answers)
        if count >= 2:
            same = sum(answers.count(one) - 1 for one in answers)
            shares.append(same / (count * (count - 1)))
    return Noise(len(shares), sum(shares) / len(shares) if shares else None)


@dataclass(frozen=True)
class Enough:
    """How many prompts a margin needs (see `unift.evaluate.minimum_detectable_effect`).

    `deviation` is of the per-prompt difference of a right/wrong metric: 0.5 while nothing is known.
    """

    margin: float
    needed: int
    have: int
    visible: float | None
    deviation: float

    def sentence(self) -> str:
        told = (
            f"To see that the new model is worse by {self.margin:.0%} it takes {self.needed:,} "
            f"prompts (80% power, 95% confidence); there are {self.have:,}"
        )
        if self.have >= self.needed:
            return f"{told}: enough."
        more = f"{self.needed - self.have:,} more are needed"
        seen = f", or a margin of {self.visible:.1%}" if self.visible is not None else ""
        return f"{told}: {more}{seen}."


def enough(have: int, margin: float, deviation: float = 0.5) -> Enough:
    """For a margin in units of a right/wrong metric, 0.05 is five percentage points."""
    needed = rows_needed(margin, deviation=deviation)
    visible = minimum_detectable_effect(have, deviation=deviation) if have else None
    return Enough(margin, needed, have, visible, deviation)


def deviation_of(noise: Noise) -> float:
    """The guess of 0.5, or more where the old model alone already differs from itself so often."""
    return 0.5 if noise.agreement is None else max(0.5, sqrt(1 - noise.agreement))


def write_golden(path: Path, prompts: Iterable[Prompt]) -> Path:
    """Replace the file by the prompts that have an answer.

    Raises:
        UsageError: It cannot be written.
    """
    lines = [json.dumps(one.line(), ensure_ascii=False) for one in prompts if one.draws]
    return write_text(path, "".join(line + "\n" for line in lines))
