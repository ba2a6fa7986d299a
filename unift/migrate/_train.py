"""Step 5: train what was planned, once, and choose by validation rows alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from unift.errors import RunError, UniftError
from unift.migrate._files import digest
from unift.migrate._spec import MigrationSpec
from unift.migrate._trials import Trial
from unift.provider import State

if TYPE_CHECKING:
    from unift.provider import Event
    from unift.runs import Run

# Called with a run's title and each of its events.
OnEvent = Callable[[str, "Event"], None]


@dataclass(frozen=True)
class Tried:
    """One training of the sweep. `score` is None where nothing had to be chosen."""

    title: str
    run: str
    model: str
    training: Mapping[str, Any]
    score: float | None
    metric: str | None
    validation_loss: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Trained:
    """The outcome: every training, and the chosen one first."""

    tried: tuple[Tried, ...]
    why: str

    @property
    def model(self) -> str:
        """Reference of the chosen model."""
        return f"run:{self.tried[0].run}"

    @property
    def run(self) -> str:
        return self.tried[0].run

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "run": self.run,
            "why": self.why,
            "tried": [one.as_dict() for one in self.tried],
        }


def train_all(
    spec: MigrationSpec,
    plan: Mapping[str, Any],
    *,
    on_event: OnEvent | None = None,
    on_run: Callable[[str], None] | None = None,
) -> Trained:
    """Every training of the plan, one after the other; those that are done are not done again.

    A training is found by its label, which is made of everything that it depends on, so whoever
    was killed between paying and noting it down finds it again.

    Raises:
        RunError: A training failed or is lost; the error says how to go on.
        LimitError, DataError, ProviderError: As `unift.train`.
    """
    made: list[tuple[Trial, Run]] = []
    for document in plan["trials"]:
        trial = Trial(**document)
        run = _one(spec, plan, trial, on_event)
        if on_run is not None:
            on_run(run.id)
        made.append((trial, run))
    if len(made) == 1:
        trial, run = made[0]
        return Trained((_tried(trial, run, None, None),), "the only training that was planned")
    return _choose(spec, plan, made)


def label_of(spec: MigrationSpec, plan: Mapping[str, Any], trial: Trial) -> str:
    """Name of a run: the migration, and a digest of what is trained on what and how."""
    from unift.data import fingerprint

    files = [fingerprint(plan["data"][part]) for part in ("train", "validation")]
    mark = digest(plan["provider"], trial.model, dict(trial.training), files)[:10]
    return f"{spec.name}-{mark}"


def _one(
    spec: MigrationSpec, plan: Mapping[str, Any], trial: Trial, on_event: OnEvent | None
) -> Run:
    import unift

    label = label_of(spec, plan, trial)
    run = _known(label)
    if run is None:
        planned = unift.plan(
            provider=plan["provider"],
            model=trial.model,
            data=plan["data"]["train"],
            validation=plan["data"]["validation"],
            name=label,
            **trial.training,
        )
        run = unift.start(planned)
    elif run.state is State.PLANNED or (run.state is not State.SUCCEEDED and run.resumable):
        run.resume()
    elif run.state.finished and run.state is not State.SUCCEEDED:
        error = run.error()
        if error.fix.startswith("unift runs"):
            error.fix += f"; to give it up and train anew: unift migrate train {spec.name} --again"
        raise error
    for event in run.events():
        if on_event is not None:
            on_event(trial.title, event)
    if run.state is not State.SUCCEEDED:
        raise run.error()
    return run


def _known(label: str) -> Run | None:
    """The newest run of that name; one that was given up does not count."""
    from unift.runs import Run, Store

    store = Store()
    for row in store.list():
        if row.name == label:
            found = Run(row, store)
            if not found.finished or found.state is State.LOST:
                found.refresh()
            return None if found.state is State.CANCELLED and not found.resumable else found
    return None


def give_up(spec: MigrationSpec, plan: Mapping[str, Any]) -> list[str]:
    """Rename the runs of a plan that did not succeed, so that the next attempt trains anew."""
    from unift.runs import Store

    store = Store()
    labels = {label_of(spec, plan, Trial(**one)) for one in plan["trials"]}
    given: list[str] = []
    for row in store.list():
        if row.name in labels and row.state.finished and row.state is not State.SUCCEEDED:
            store.update(row.id, name=f"{row.name}-given-up")
            given.append(row.id)
    return given


def _choose(
    spec: MigrationSpec, plan: Mapping[str, Any], made: Sequence[tuple[Trial, Run]]
) -> Trained:
    """By the deciding metric on validation rows; equals by validation loss, then by the order."""
    import unift

    models = [run.model for _, run in made]
    found = unift.evaluate(  # one for all: a base is loaded or served once for its adapters
        models[0],
        data=plan["data"]["validation"],
        metric=spec.compare.metric,
        against=models[1:],
        limit=spec.sweep.limit,
        report=False,
    )
    metric = found.metrics[0].name
    scores = {one.model: one.metrics[metric] for one in found.candidates}
    results = [_tried(trial, run, scores[run.model], metric) for trial, run in made]

    def rank(one: Tried) -> tuple[float, float]:
        loss = one.validation_loss if one.validation_loss is not None else float("inf")
        return (-(one.score or 0.0), loss)

    ordered = tuple(sorted(results, key=rank))
    best = ordered[0]
    return Trained(
        ordered,
        f"highest {best.metric} on validation rows ({best.score:.3f}) of {len(ordered)} trainings; "
        "no test row was looked at",
    )


def _tried(trial: Trial, run: Run, score: float | None, metric: str | None) -> Tried:
    losses = [
        float(event.data["validation_loss"])
        for event in run.events(follow=False)
        if event.kind == "evaluation" and event.data.get("validation_loss") is not None
    ]
    return Tried(
        title=trial.title,
        run=run.id,
        model=trial.model,
        training=dict(trial.training),
        score=score,
        metric=metric,
        validation_loss=min(losses, default=None),
    )


def read_trained(document: Mapping[str, Any]) -> Trained:
    """Trainings that were made before.

    Raises:
        RunError: The run is gone from the run store.
    """
    from unift.runs import run

    trained = Trained(tuple(Tried(**one) for one in document["tried"]), document["why"])
    try:
        run(trained.run)
    except UniftError as error:
        raise RunError(
            f"The trained run {trained.run} is not in the run store any more.",
            code="run_gone",
            where="train",
            fix="bring runs.db back, or train again",
        ) from error
    return trained
