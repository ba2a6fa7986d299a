"""Tasks of lm-evaluation-harness on a model and its base (``pip install 'unift[lmeval]'``)."""

from __future__ import annotations

import hashlib
import logging
import math
import sys
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unift._home import home
from unift.errors import MissingDependency, UsageError
from unift.evaluate._asking import Session
from unift.evaluate._candidates import Candidate, identity_of
from unift.evaluate._shelf import weights_of
from unift.evaluate._statistics import paired_difference
from unift.verbs import InMemory

# What the harness adds to each result that is no metric.
_NO_METRIC = ("alias", "name", "sample_len", "sample_count")
_ON_PROCESSOR = 8  # rows at a time; on a card the harness finds out


@dataclass(frozen=True)
class LmEval:
    """What to run.

    Args:
        tasks: Names of tasks, groups or tags of the harness.
        folder: A folder of task files of your own, as ``--include_path`` of the harness.
        limit: At most so many rows of each task, the first ones. None: all.
    """

    tasks: Sequence[str]
    folder: str | Path | None = None
    limit: int | None = None

    @property
    def described(self) -> dict[str, Any]:
        folder = None if self.folder is None else str(self.folder)
        return {"tasks": list(self.tasks), "folder": folder, "limit": self.limit}


class Harness:
    """The harness with its tasks and their data at hand, for two models whose weights are here.

    Raises:
        MissingDependency: lm_eval is not installed.
        UsageError: A model that answers from elsewhere, an unknown task, a task whose data cannot
            be had or that this cannot run.
    """

    def __init__(self, wanted: LmEval | Sequence[str], model: Candidate, base: Candidate) -> None:
        self.wanted = _read(wanted)
        self._pair = (base, model)
        for one in self._pair:
            _check_here(one)
        with _quiet():
            self._manager = _load(self.wanted)

    def run(
        self,
        session: Session,
        *,
        confidence: float,
        seed: int,
        notice: Callable[[str], None] | None = None,
    ) -> dict[str, Any]:
        """Both models on all tasks, with the settings of the tasks and without a chat template.

        Returns:
            ``{"harness", "limit", "rows": [{"task", "metric", "filter", "n", "higher_is_better",
            "model", "model_stderr", "base", "base_stderr", "difference", "low", "high", "p"}]}``:
            metrics and standard errors as the harness gives them; the difference is model - base.
            Interval and p are those of the rows in pairs, None where the metric is not their mean.

        Raises:
            UsageError: A task fails.
        """
        found: list[Mapping[str, Any]] = []
        for one in self._pair:
            if notice is not None:
                notice(f"lm-evaluation-harness: {', '.join(self.wanted.tasks)} on {one.name}.")
            found.append(self._one(session, one))
        before, after = found
        rows = [
            _row(task, key, value, before, after, confidence, seed)
            for task, values in after["results"].items()
            for key, value in values.items()
            if key not in _NO_METRIC
            and not _is_error(key)
            and _number(value) is not None
            and _number(before["results"][task].get(key)) is not None
        ]
        return {"harness": version("lm_eval"), "limit": self.wanted.limit, "rows": rows}

    def _one(self, session: Session, candidate: Candidate) -> Mapping[str, Any]:
        model = session.model(candidate.source)
        if not isinstance(model, InMemory):
            raise _elsewhere(candidate)
        inside, tokenizer = model.in_memory()
        with _quiet():
            harness: Any = import_module("lm_eval")
            kind: Any = import_module("lm_eval.models.huggingface").HFLM
            size = "auto" if inside.device.type == "cuda" else _ON_PROCESSOR
            try:
                return harness.simple_evaluate(
                    kind(pretrained=inside, tokenizer=tokenizer, batch_size=size),
                    tasks=list(self.wanted.tasks),
                    task_manager=self._manager,
                    limit=self.wanted.limit,
                    use_cache=str(_kept(candidate, session.reuse)),
                )
            except Exception as error:  # a task is a program of its author
                raise UsageError(
                    f"lm-evaluation-harness failed on {candidate.name}: {_reason(error)}.",
                    code="task_failed",
                    where="lm_eval",
                    fix="correct the task file or leave the task out; if memory ran out, use a "
                    "larger card",
                ) from error


def _kept(candidate: Candidate, reuse: bool) -> Path:
    """Where the harness keeps what this model said to each request, the moment it is said; a
    request holds everything of the task and its settings that an answer depends on."""
    digest = hashlib.sha256(identity_of(candidate.source).encode()).hexdigest()[:16]
    path = home() / "lm-eval" / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    if not reuse:
        for file in path.parent.glob(f"{digest}_rank*.db"):  # the ending is the harness's
            file.unlink()
    return path


def _read(wanted: LmEval | Sequence[str]) -> LmEval:
    given = wanted if isinstance(wanted, LmEval) else LmEval(wanted)
    names = [given.tasks] if isinstance(given.tasks, str) else given.tasks
    tasks = [part.strip() for name in names for part in name.split(",") if part.strip()]
    if not tasks:
        raise UsageError(
            "No task of lm-evaluation-harness was named.",
            code="no_task",
            where="lm_eval",
            fix="name one: lm_eval=['arc_easy'] (--lm-eval arc_easy on the command line)",
        )
    if given.limit is not None and given.limit < 1:
        raise UsageError(
            f"lm_eval limit={given.limit} is out of range.",
            code="bad_setting",
            where="lm_eval",
            fix="give a number of rows from 1",
        )
    folder = None if given.folder is None else Path(given.folder).expanduser()
    if folder is not None and not folder.is_dir():
        raise UsageError(
            "There is no such folder of tasks.",
            code="no_folder",
            where=str(folder),
            fix="give the folder that holds the YAML files of your tasks",
        )
    return LmEval(tuple(dict.fromkeys(tasks)), folder, given.limit)


def _check_here(one: Candidate) -> None:
    source = one.source
    here = weights_of(source) is not None if isinstance(source, str) else None
    if not (isinstance(source, InMemory) if here is None else here):
        raise _elsewhere(one)


def _elsewhere(one: Candidate) -> UsageError:
    return UsageError(
        f"lm-evaluation-harness reads probabilities of whole texts, so it needs the weights; "
        f"{one.reference} answers from elsewhere.",
        code="no_weights",
        where="lm_eval",
        fix="leave lm_eval out for models behind an API; --forgetting alone asks them 240 "
        "questions",
    )


def _load(wanted: LmEval) -> Any:
    """The task manager, after everything that can go wrong with the tasks did not."""
    try:
        manages: Any = import_module("lm_eval.tasks").TaskManager
    except ImportError as error:
        raise MissingDependency(
            "lm-evaluation-harness is not installed.",
            where="lm_eval",
            fix="pip install 'unift[local,lmeval]'",
        ) from error
    folder = None if wanted.folder is None else str(wanted.folder)
    manager: Any = None
    if folder:  # the harness reads 14,000 files of its own in 9 s: not where nobody wants them
        manager = manages(include_path=folder, include_defaults=False)
    if manager is None or not set(wanted.tasks) <= set(manager.all_subtasks):
        manager = manages(include_path=folder)
    for name in wanted.tasks:
        if name not in manager.all_tasks:
            raise _unknown(name, manager.all_tasks, folder)
    for name in wanted.tasks:
        try:
            loaded = manager.load([name])
        except Exception as error:  # a task is a program of its author
            raise _not_here(name, error) from error
        for task in loaded["tasks"].values():
            for flag, does in (
                ("UNSAFE_CODE", "runs code that the model writes"),
                ("MULTIMODAL", "shows pictures or sound"),
            ):
                if getattr(task, flag, False):
                    raise UsageError(
                        f"The task {task.task_name} {does}, which is not done here.",
                        code="task_not_supported",
                        where="lm_eval",
                        fix="leave it out, or run it with the harness itself",
                    )
    return manager


def _unknown(name: str, known: Sequence[str], folder: str | None) -> UsageError:
    near = get_close_matches(name, known, 3, 0.7)
    more = "" if folder else ", or say where your own is: --lm-eval-tasks FOLDER"
    return UsageError(
        f"lm-evaluation-harness {version('lm_eval')} has no task, group or tag '{name}'"
        + (f" and {folder} defines none." if folder else "."),
        code="unknown_task",
        where="lm_eval",
        fix=(f"did you mean {' or '.join(near)}" if near else "see `lm-eval ls tasks`") + more,
    )


def _not_here(name: str, error: Exception) -> UsageError:
    return UsageError(
        f"The task '{name}' cannot be loaded: {_reason(error)}.",
        code="task_not_loaded",
        where="lm_eval",
        fix="its data comes from the Hugging Face hub and is kept: load it once on a machine with "
        "network (HF_HOME says where it lies), or correct the task file",
    )


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    return f"{kind}: {lines[0].rstrip('.')}" if lines else kind


def _is_error(key: str) -> bool:
    return key.split(",")[0].endswith("_stderr")


def _row(
    task: str,
    key: str,
    value: float,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    confidence: float,
    seed: int,
) -> dict[str, Any]:
    metric, _, kind = key.partition(",")
    base = before["results"][task][key]
    errors = [
        _number(one["results"][task].get(f"{metric}_stderr,{kind}")) for one in (after, before)
    ]
    mine, theirs = (
        _scores(one, task, metric, kind, mean) for one, mean in ((after, value), (before, base))
    )
    pair = None
    if mine and theirs and mine.keys() == theirs.keys():
        pair = paired_difference(
            list(mine.values()), [theirs[row] for row in mine], confidence=confidence, seed=seed
        )
    counted = after.get("n-samples", {}).get(task, {})
    return {
        "task": task,
        "metric": metric,
        "filter": kind,
        "n": counted.get("effective"),
        "higher_is_better": after.get("higher_is_better", {}).get(task, {}).get(metric),
        "model": value,
        "model_stderr": errors[0],
        "base": base,
        "base_stderr": errors[1],
        "difference": value - base,
        "low": pair and pair.low,
        "high": pair and pair.high,
        "p": pair and pair.p,
    }


def _scores(
    found: Mapping[str, Any], task: str, metric: str, kind: str, mean: float
) -> dict[Any, float]:
    """Score of each row where the metric is their mean; else nothing."""
    rows = [row for row in found.get("samples", {}).get(task, []) if row["filter"] == kind]
    scores = {row["doc_id"]: _number(row.get(metric)) for row in rows}
    known = {row: score for row, score in scores.items() if score is not None}
    if not known or len(known) < len(scores):
        return {}
    near = math.isclose(sum(known.values()) / len(known), mean, rel_tol=1e-9, abs_tol=1e-12)
    return known if near else {}


def _number(value: Any) -> float | None:
    """A number that JSON can hold; the harness says "N/A" where it has none."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


@contextmanager
def _quiet() -> Generator[None]:
    """Its bars stay, as it may work for hours; its advice is for those who call it themselves."""
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):  # it prints; that is for JSON
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
