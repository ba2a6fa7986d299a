"""An evaluation as logs of Inspect AI, so that its viewer shows every question and answer.

A log of Inspect holds one model, so each candidate gets one; those of an evaluation share the run
id. Inspect's own types write the files (``pip install 'unift[inspect]'``).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from unift.errors import MissingDependency, UsageError
from unift.evaluate._code import PASSED, Runs, tests_of
from unift.evaluate._metrics import Metric
from unift.evaluate._preference import PREFERENCE
from unift.evaluate._recorded import reply_text
from unift.evaluate._result import Evaluation, Result
from unift.evaluate._rows import Message, answer_text
from unift.provider import Reply

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample, EvalScore
    from inspect_ai.model import ChatMessage, ModelOutput


def write_inspect(evaluation: Evaluation, folder: str | Path) -> list[Path]:
    """Write ``CANDIDATE-ID.eval`` for every candidate; ``inspect view start --log-dir`` opens them.

    Args:
        evaluation: What to write.
        folder: Where the files go; missing folders are made, files of the same evaluation replaced.

    Raises:
        MissingDependency: inspect_ai is not installed.
        UsageError: The folder cannot be written.
    """
    try:
        from inspect_ai.log import write_eval_log
    except ImportError as error:
        raise MissingDependency(
            "Logs for Inspect are written by inspect_ai, which is not installed.",
            where="inspect",
            fix="pip install 'unift[inspect]'",
        ) from error
    target = Path(folder).expanduser().absolute()
    written: list[Path] = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        for one in evaluation.candidates:
            name = re.sub(r"[^A-Za-z0-9.+-]+", "-", one.name).strip("-.") or "model"
            path = target / f"{name[:60]}-{_mark(one)}-{evaluation.id}.eval"
            write_eval_log(_log(evaluation, one), str(path))
            written.append(path)
    except OSError as error:
        raise UsageError(
            f"The logs cannot be written: {error.strerror}.",
            code="report_unwritable",
            where=str(target),
            fix="give another folder with --inspect FOLDER",
        ) from error
    return written


def _log(evaluation: Evaluation, result: Result) -> EvalLog:
    from inspect_ai.log import (
        EvalConfig,
        EvalDataset,
        EvalLog,
        EvalPlan,
        EvalResults,
        EvalSpec,
        EvalStats,
    )
    from inspect_ai.model import GenerateConfig

    sampling = evaluation.details["sampling"]
    config = GenerateConfig(
        temperature=sampling["temperature"],
        top_p=sampling["top_p"],
        max_tokens=sampling["max_tokens"],
        seed=sampling.get("seed"),
    )
    n, now = result.n, datetime.now(UTC).isoformat(timespec="seconds")
    compared = [one for one in evaluation.as_dict()["comparisons"] if one["b"] == result.name]
    return EvalLog(
        status="success",
        eval=EvalSpec(
            run_id=evaluation.id,
            created=now,
            task=f"unift {evaluation.details['lineage']['data']}",
            # The viewer takes logs of one task id for repetitions, and shows the last alone.
            task_id=f"{evaluation.id}-{_mark(result)}",
            dataset=EvalDataset(
                name=str(evaluation.details["lineage"]["data"]),
                samples=n,
                sample_ids=list(range(1, n + 1)),
                shuffled=False,
            ),
            model=_model_name(result),
            model_generate_config=config,
            config=EvalConfig(epochs=1),
            packages={"unift": version("unift")},
            tags=["unift", result.name],
            metadata={
                "candidate": result.name,
                "about": result.about,
                "verdict": evaluation.verdict.sentence,
                "verdict_code": evaluation.verdict.code,
                "compared": compared,
            },
        ),
        plan=EvalPlan(config=config),
        results=EvalResults(
            total_samples=n,
            completed_samples=n,
            scores=[_totals(result, one) for one in evaluation.metrics],
        ),
        stats=EvalStats(started_at=now, completed_at=now),
        samples=[_sample(evaluation, result, index) for index in range(n)],
    )


def _mark(result: Result) -> str:
    """Tells candidates apart whose names differ only in what a file name cannot hold."""
    return hashlib.sha256(result.name.encode("utf-8", "surrogatepass")).hexdigest()[:4]


def _model_name(result: Result) -> str:
    """Inspect names models ``API/MODEL``."""
    scheme, colon, rest = result.model.partition(":")
    return f"{scheme}/{rest}" if colon and rest else f"unift/{result.model}"


def _totals(result: Result, metric: Metric) -> EvalScore:
    from inspect_ai.log import EvalMetric, EvalScore

    scores = result.scores[metric.name]
    mean = result.metrics[metric.name]
    n = len(scores)
    spread = math.sqrt(sum((one - mean) ** 2 for one in scores) / (n - 1) / n) if n > 1 else 0.0
    return EvalScore(
        name=metric.name,
        scorer=metric.name,
        scored_samples=n,
        unscored_samples=0,
        metrics={
            "mean": EvalMetric(name="mean", value=mean),
            "stderr": EvalMetric(name="stderr", value=spread),
        },
        metadata={"about": metric.about},
    )


def _sample(evaluation: Evaluation, result: Result, index: int) -> EvalSample:
    from inspect_ai.log import EvalSample
    from inspect_ai.scorer import Score

    row, reply = evaluation.rows[index], result.replies[index]
    text = reply_text(reply)
    asked = _messages(row.prompt)
    output = _output(result, reply)
    return EvalSample(
        id=index + 1,
        epoch=1,
        input=asked,
        target=row.target,
        messages=[*asked, output.choices[0].message],
        output=output,
        scores={
            one.name: Score(
                value=result.scores[one.name][index],
                answer=text,
                explanation=_why(evaluation, result, one, index),
                metadata=None
                if one.right is None
                else {"right": result.scores[one.name][index] >= one.right},
            )
            for one in evaluation.metrics
        },
        metadata={"line": row.line, **row.extra},
        total_time=reply.seconds,
        working_time=reply.seconds,
    )


def _why(evaluation: Evaluation, result: Result, metric: Metric, index: int) -> str | None:
    """What stands behind a score that its number does not say."""
    if isinstance(metric.score, Runs):
        ends = metric.score.why(reply_text(result.replies[index]), tests_of(evaluation.rows[index]))
        return f"The code {'passed its tests' if ends == PASSED else f'ended with: {ends}'}."
    if metric is not PREFERENCE:
        return None
    own, value = evaluation.candidates[0].name, result.scores[metric.name][index]
    other = own if result.name != own else evaluation.verdict.against
    told = {0.0: "not preferred to", 0.5: "tied with", 1.0: "preferred to"}
    return f"{told.get(value, f'preferred by {value:.0%} to')} the answer of {other}"


def _messages(prompt: Sequence[Message]) -> list[ChatMessage]:
    """The messages as Inspect has them. Tool calls stand in the text, as `answer_text` has them."""
    from inspect_ai.model import (
        ChatMessageAssistant,
        ChatMessageSystem,
        ChatMessageTool,
        ChatMessageUser,
    )

    kinds = {
        "system": ChatMessageSystem,
        "developer": ChatMessageSystem,
        "assistant": ChatMessageAssistant,
        "tool": ChatMessageTool,
    }
    return [
        kinds.get(str(one.get("role")), ChatMessageUser)(content=answer_text(one)) for one in prompt
    ]


def _output(result: Result, reply: Reply) -> ModelOutput:
    from inspect_ai.model import ModelOutput, ModelUsage

    output = ModelOutput.from_content(
        _model_name(result),
        reply_text(reply),
        stop_reason={"length": "max_tokens", "tool_calls": "tool_calls"}.get(
            reply.finish_reason, "stop"
        ),  # pyright: ignore[reportArgumentType]  # one of its literals
    )
    into, out = reply.prompt_tokens, reply.completion_tokens
    if into is not None and out is not None:
        output.usage = ModelUsage(input_tokens=into, output_tokens=out, total_tokens=into + out)
    output.time = reply.seconds
    return output
