"""Candidates: the model under test and what the user could have had without training it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from unift import demo
from unift.errors import DataError, UsageError
from unift.evaluate import _shots as shots
from unift.evaluate._commonest import NAME as COMMONEST
from unift.evaluate._commonest import Always, commonest
from unift.evaluate._recorded import PREFIX, Recorded, recorded
from unift.evaluate._rows import Message, Row, read_rows, text_of
from unift.evaluate._template import fill, places, read_text
from unift.provider import Model

Source = str | Model
Shape = Callable[[Sequence[Message]], list[Message]]


@dataclass(frozen=True)
class Candidate:
    """Someone who answers, and the form in which the question is put.

    Attributes:
        name: The word in tables: ``base+few-shot:5``.
        source: A model reference or a model.
        shape: Makes the messages to send of the messages of a test row.
        about: One sentence for the report.
    """

    name: str
    source: Source
    shape: Shape
    about: str

    @property
    def reference(self) -> str:
        return self.source if isinstance(self.source, str) else self.source.reference


def build_candidates(
    model: Source,
    against: Sequence[Source],
    *,
    base: Source | None,
    train: str | Path | None,
    test_rows: Sequence[Row],
    seed: int,
) -> list[Candidate]:
    """The model first, then each baseline in the order given, repeated ones once.

    Raises:
        UsageError: A baseline that cannot be made: no base known, no training data, no such file.
        DataError: Too few training rows for the few-shot examples.
    """
    run_id = run_of(model)
    own = "fine-tuned" if run_id else "model"
    tested = recorded(model) if isinstance(model, str) and model.startswith(PREFIX) else model
    built = [Candidate(own, tested, _as_it_is, "The model under test, asked without examples.")]
    for entry in against:
        if not isinstance(entry, str):
            candidate = Candidate(entry.reference, entry, _as_it_is, "Another model, as it is.")
        elif entry == "base":
            source = base_of(model, base)
            candidate = Candidate("base", source, _as_it_is, "The base model before training.")
        elif entry == COMMONEST:
            candidate = always_the_same(model, train, test_rows)
        elif entry.startswith(shots.PREFIX):
            count, similar = shots.parse(entry)
            usable = shots.usable_rows(train or _training_data(run_id), count, test_rows)
            choice = (
                shots.by_likeness(usable, count)
                if similar
                else shots.at_random(usable, count, seed)
            )
            how = "those most like the question" if similar else "drawn at random"
            candidate = Candidate(
                entry,
                base_of(model, base),
                shots.with_shots(choice),
                f"The base model with {count} examples from the training data in the prompt, "
                f"{how}.",
            )
        elif entry.startswith("prompt:"):
            file = Path(entry.removeprefix("prompt:")).expanduser()
            text = read_text(file, "system prompt or template")
            template = "input" in places(text, ("input",), file)
            candidate = Candidate(
                entry,
                base_of(model, base),
                _with_template(text, test_rows) if template else _with_system(fill(text, {})),
                f"The base model with the {'template' if template else 'system prompt'} of "
                f"{file.name}.",
            )
        elif entry.startswith(PREFIX):
            candidate = Candidate(entry, recorded(entry), _as_it_is, "Answers as recorded.")
        else:
            from unift.reference import parse

            parse(entry)  # complains now, not after an hour of answers
            candidate = Candidate(entry, entry, _as_it_is, "Another model, as it is.")
        if candidate.name not in [one.name for one in built]:
            built.append(candidate)
    return built


def always_the_same(model: Source, train: str | Path | None, test_rows: Sequence[Row]) -> Candidate:
    """The baseline of the commonest answer: of `train`, of what the run under test was trained on,
    or of the test rows, where that has moved or nobody knows it.

    Raises:
        UsageError: `train` cannot be read.
        DataError: It has no row with an answer.
    """
    rows, where = list(test_rows), "these test rows, as no training data is at hand"
    run_id = run_of(model)
    if train is not None:
        rows, where = read_rows(train)[0], "the training data"
    elif run_id is not None:
        with suppress(OSError, UsageError, DataError, ValueError):
            rows, where = read_rows(_training_data(run_id))[0], "the training data"
    source = commonest(rows, where)
    return Candidate(COMMONEST, source, _as_it_is, source.about)


def name_of(source: Source) -> str:
    """The name that a baseline has in tables."""
    return source if isinstance(source, str) else source.reference


def run_of(model: Source) -> str | None:
    """The id of the run that a reference names, or None."""
    reference = model if isinstance(model, str) else model.reference
    return reference.removeprefix("run:") if reference.startswith("run:") else None


def base_of(model: Source, base: Source | None) -> Source:
    """What `model` was before it was trained.

    Raises:
        UsageError: Nobody knows.
    """
    if base is not None:
        return base
    reference = model if isinstance(model, str) else model.reference
    run_id = run_of(model)
    if run_id:
        return _base_of_run(run_id)
    folder = Path(reference.removeprefix("path:")).expanduser()
    config = folder / "adapter_config.json"
    if config.is_file():
        try:
            named = json.loads(config.read_text("utf-8")).get("base_model_name_or_path")
        except (ValueError, OSError, AttributeError):
            named = None
        if isinstance(named, str) and named:
            return str(folder / named) if (folder / named).is_dir() else named
    raise UsageError(
        f"The base of '{reference}' is not known.",
        code="unknown_base",
        where="against",
        fix="name it: base='OWNER/NAME' (--base on the command line), or leave 'base' out",
    )


def _base_of_run(run_id: str) -> str:
    from unift.provider import get_provider
    from unift.runs import run as get_run

    run = get_run(run_id)
    base = run.artifact.base if run.artifact else run.plan.spec.model
    if base == str(demo.model_path().resolve()):
        return demo.MODEL  # the same on every machine, and the name that the user gave
    # A vendor's model id may look like a hub id; only that vendor answers to it.
    remote = get_provider(run.provider).capabilities().place == "remote"
    return f"{run.provider}:{base}" if remote else base


def _training_data(run_id: str | None) -> str:
    if run_id is None:
        raise UsageError(
            "Few-shot examples are taken from training data, and none was given.",
            code="no_training_data",
            where="train",
            fix="give train='train.jsonl' (--train on the command line)",
        )
    from unift.runs import run as get_run

    return get_run(run_id).plan.spec.data


def _as_it_is(prompt: Sequence[Message]) -> list[Message]:
    return list(prompt)


def _without_system(prompt: Sequence[Message]) -> list[Message]:
    return [message for message in prompt if message.get("role") not in shots.SYSTEM]


def _with_system(text: str) -> Shape:
    return lambda prompt: [{"role": "system", "content": text}, *_without_system(prompt)]


def _with_template(text: str, test_rows: Sequence[Row]) -> Shape:
    """The text stands in place of the last thing that the user says, with that put into it.

    Raises:
        DataError: A test row has nothing that a user says.
    """
    for row in test_rows:
        if not any(message.get("role") == "user" for message in row.prompt):
            raise DataError(
                "There is no user message that could be put into the template.",
                code="no_input",
                where=f"line {row.line} of the test data",
                fix="give such rows a user message, or a prompt file without {{ input }}",
            )

    def shape(prompt: Sequence[Message]) -> list[Message]:
        turns = _without_system(prompt)
        last = max(i for i, message in enumerate(turns) if message.get("role") == "user")
        said = fill(text, {"input": text_of(turns[last])})
        content: Any = turns[last].get("content")
        if isinstance(content, list):  # images stay
            parts = cast("list[dict[str, Any]]", content)
            content = [{"type": "text", "text": said}, *(one for one in parts if "text" not in one)]
        else:
            content = said
        turns[last] = {**turns[last], "content": content}
        return turns

    return shape


def identity_of(source: Source) -> str:
    """What an answer of this source depends on, beyond its name: the digests of its weights.

    A folder is identified by the names, sizes and times of its files, so that training into it
    again is noticed. A model behind a name (a vendor's id, a hub id, a server) is taken at its
    word.
    """
    if isinstance(source, Recorded):
        return f"{PREFIX}{source.digest}"
    if isinstance(source, Always):
        return f"{COMMONEST}:{source.text}"
    if not isinstance(source, str):
        cls = type(source)
        return f"{cls.__module__}.{cls.__qualname__}:{source.reference}"
    from unift.reference import parse

    found = parse(source)
    parts: list[Any] = [str(found)]
    if found.scheme == "run":
        from unift.runs import run as get_run

        artifact = get_run(found.rest).artifact
        if artifact is not None:
            parts += [artifact.reference, sorted(artifact.sha256.items())]
    elif found.scheme == "demo":
        from unift.demo import model_path

        parts.append(_folder(model_path()))
    elif found.scheme == "path":
        parts.append(_folder(Path(found.rest).expanduser()))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _folder(folder: Path) -> list[tuple[str, int, int]]:
    files = sorted(file for file in folder.glob("*") if file.is_file())
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def in_training(rows: Sequence[Row], train: str | Path) -> int:
    """How many test prompts occur in the training data."""
    learnt = {row.key for row in read_rows(train)[0]}
    return sum(1 for row in rows if row.key in learnt)
