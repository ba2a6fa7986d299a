"""Step 6: is the new model as good as the old one, on truth and on the old one's own answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unift.errors import DataError
from unift.migrate._checks import ANSWERED, refuses, tool_calls
from unift.migrate._costs import latency, price_per_1000
from unift.migrate._files import write_text
from unift.migrate._spec import MigrationSpec
from unift.migrate._switch import Switch, decide, read_switch

if TYPE_CHECKING:
    from unift.evaluate import Evaluation

Progress = Callable[[int, int], None]
# Fewer prompts without a known truth than this cannot carry a judgement of their own.
_ENOUGH = 30


@dataclass(frozen=True)
class Compared:
    """The outcome of the comparison.

    Attributes:
        verdict: ``switch``, ``switch_with_exceptions`` or ``do_not``; prints as a sentence.
        truth: The evaluation on held-out rows, None where nothing is known to be right.
        agreement: The evaluation against the old model's own answers, None where none are recorded.
        document: Everything, as JSON.
    """

    verdict: Switch
    truth: Mapping[str, Any] | None
    agreement: Mapping[str, Any] | None
    document: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return dict(self.document)


def compare_models(
    spec: MigrationSpec,
    plan: Mapping[str, Any],
    model: str,
    folder: Path,
    *,
    progress: Progress | None = None,
) -> Compared:
    """Ask the new model what the old one was asked, and judge by the user's margin.

    Answers are kept as they come, so that a comparison that was interrupted asks nothing twice.

    Raises:
        DataError: There is neither a test row nor a recorded answer to compare with.
        ProviderError: A model refuses to answer.
    """
    golden = folder / "golden.jsonl"
    recorded = f"recorded:{golden}" if golden.is_file() and golden.stat().st_size else None
    test = Path(plan["data"]["test"])
    truth = agreement = None
    if test.is_file() and test.stat().st_size:
        truth = _on_truth(spec, plan, model, folder, recorded, progress)
    if recorded:
        agreement = _on_answers(spec, plan, model, folder, golden, progress)
    if truth is None and agreement is None:
        raise DataError(
            "There is nothing to compare with: no test rows and no recorded answers.",
            code="nothing_to_compare",
            where=str(folder),
            fix="unift migrate record, or give data.test",
        )
    old = None if recorded is None else recorded
    documents = (
        None if truth is None else truth.as_dict(),
        None if agreement is None else agreement[0].as_dict(),
    )
    unproven = agreement is not None and agreement[1]
    verdict = decide(documents[0], documents[1], old, spec.compare, by_answers=unproven)
    document: dict[str, Any] = {
        "model": model,
        "old": plan["old"]["reference"],
        "margin": spec.compare.margin,
        "confidence": spec.compare.confidence,
        "verdict": verdict.as_dict(),
        "truth": documents[0],
        "agreement": documents[1],
        "agreement_prompts": "without a known right answer" if unproven else "held out",
        "behaviour": _behaviour(truth or (agreement[0] if agreement else None), old),
        "latency": latency(truth or (agreement[0] if agreement else None), model, old),
        "price_per_1000_answers": price_per_1000(
            plan, truth or (agreement[0] if agreement else None), old
        ),
        "successor": _successor(spec, documents[0], old),
        "notes": _notes(plan, truth, recorded),
    }
    return Compared(verdict, documents[0], documents[1], document)


def _on_truth(
    spec: MigrationSpec,
    plan: Mapping[str, Any],
    model: str,
    folder: Path,
    recorded: str | None,
    progress: Progress | None,
) -> Evaluation:
    import unift
    from unift.evaluate._rows import read_rows
    from unift.evaluate._task import find_task

    test = plan["data"]["test"]
    wanted = spec.compare
    targets = [row.target for row in read_rows(test)[0]]
    metrics: list[Any] = [*find_task(targets, wanted.metric).metrics]
    calls = tool_calls(targets)
    metrics += [one for one in (ANSWERED, calls) if one is not None]
    against = [recorded] if recorded else []
    successor = spec.source.successor
    if successor:
        against.append("base")
        if wanted.few_shot:
            against.append(f"base+few-shot:{wanted.few_shot}")
        if spec.source.successor_prompt:
            against.append(f"prompt:{spec.source.successor_prompt}")
    return unift.evaluate(
        model,
        data=test,
        metric=metrics,
        against=against,
        base=successor,
        train=plan["data"]["train"],
        limit=wanted.limit,
        confidence=wanted.confidence,
        margin=wanted.margin if recorded else None,
        reference=recorded,
        slices=list(wanted.slices),
        report=folder / "comparison.html",
        progress=progress,
    )


def _on_answers(
    spec: MigrationSpec,
    plan: Mapping[str, Any],
    model: str,
    folder: Path,
    golden: Path,
    progress: Progress | None,
) -> tuple[Evaluation, bool] | None:
    """Against what the old model said to prompts that the new one has not learnt; True where
    nobody knows the right answers to them. None where no such prompt was recorded."""
    import unift

    unseen, unknown = _unseen(plan, golden)
    by_answers = len(unknown) >= _ENOUGH or not Path(plan["data"]["test"]).stat().st_size
    lines = unknown if by_answers and unknown else unseen
    if not lines:
        return None
    file = write_text(folder / "data" / "golden-compared.jsonl", "".join(lines))
    reference = f"recorded:{file}"
    wanted = spec.compare
    found = unift.evaluate(
        model,
        data=reference,
        metric=wanted.metric,
        against=[reference],
        reference=reference,
        margin=wanted.margin,
        confidence=wanted.confidence,
        limit=wanted.limit,
        report=False,
        progress=progress,
    )
    return found, bool(by_answers and unknown)


def _unseen(plan: Mapping[str, Any], golden: Path) -> tuple[list[str], list[str]]:
    """Golden lines whose prompt the new model has not learnt, and those of them without a truth."""
    from unift.data import read_examples
    from unift.evaluate._rows import prompt_key

    def keys(name: str) -> set[str]:
        path = Path(plan["data"][name])
        if not path.is_file() or not path.stat().st_size:
            return set()
        return {prompt_key(one.messages[:-1]) for one in read_examples(path)}

    learnt = keys("train") | keys("validation")
    known = keys("test")
    unseen: list[str] = []
    unknown: list[str] = []
    for line in golden.read_text("utf-8").splitlines():
        if not line.strip():
            continue
        row = json.loads(line)
        key = prompt_key(row["messages"])
        if key in learnt or not row.get("draws"):
            continue
        unseen.append(line + "\n")
        if key not in known and not row.get("truth"):
            unknown.append(line + "\n")
    return unseen, unknown


def _behaviour(found: Evaluation | None, old: str | None) -> list[dict[str, Any]]:
    """How often each candidate declines, is cut off, and how long its answers are."""
    rows: list[dict[str, Any]] = []
    if found is None:
        return rows
    for one in found.candidates:
        texts = [reply.text for reply in one.replies if not reply.tool_calls]
        words = [len(text.split()) for text in texts]
        rows.append(
            {
                "name": one.name,
                "role": "old" if one.name == old else "new" if one is found.candidates[0] else "",
                "n": one.n,
                "refusals": sum(map(refuses, texts)),
                "cut": one.truncated,
                "tool_calls": sum(bool(reply.tool_calls) for reply in one.replies),
                "mean_words": sum(words) / len(words) if words else None,
            }
        )
    return rows


def _successor(
    spec: MigrationSpec, truth: Mapping[str, Any] | None, old: str | None
) -> dict[str, Any] | None:
    """The vendor's untuned successor in its best form, against the new model."""
    if not spec.source.successor or truth is None:
        return None
    metric = truth["metric"]
    rivals = [one for one in truth["candidates"][1:] if one["name"] != old]
    if not rivals:
        return None
    best = max(rivals, key=lambda one: one["metrics"][metric])
    against = next(
        one for one in truth["comparisons"] if one["b"] == best["name"] and one["metric"] == metric
    )
    return {
        "model": spec.source.successor,
        "form": best["name"],
        "score": best["metrics"][metric],
        "difference": against["difference"],
        "low": against["low"],
        "high": against["high"],
        "tried": [one["name"] for one in rivals],
    }


def _notes(plan: Mapping[str, Any], truth: Evaluation | None, recorded: str | None) -> list[str]:
    said: list[str] = []
    data = plan["data"]
    if recorded is None:
        said.append("no answer of the old model was recorded, so it cannot be compared with")
    if data.get("old_saw"):
        said.append(
            f"the old model was trained on {data['old_saw']} of {data['rows']['test']} test rows, "
            "which flatters it"
        )
    if truth is not None:
        said += list(truth.warnings)
    return said


def read_compared(document: Mapping[str, Any]) -> Compared:
    """A comparison that was made before."""
    return Compared(
        read_switch(document["verdict"]),
        document["truth"],
        document["agreement"],
        document,
    )
