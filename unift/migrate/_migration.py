"""A migration as the user holds it: eight steps, each journalled, resumable and usable alone."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unift.errors import RunError, UsageError
from unift.migrate import _work as work
from unift.migrate._compare import Compared, compare_models, read_compared
from unift.migrate._files import digest, read_json, sha256, write_json
from unift.migrate._folder import migration_folder
from unift.migrate._hold_out import HeldOut
from unift.migrate._plan import MigrationPlan, make_plan, old_model
from unift.migrate._spec import STEPS, MigrationSpec
from unift.migrate._train import OnEvent, Trained, give_up, read_trained, train_all
from unift.runs import Step, Steps

if TYPE_CHECKING:
    from unift.migrate._cutover import CutOver
    from unift.migrate._story import Story

OnStep = Callable[[str, str], None]
Progress = Callable[[int, int], None]


class Migration:
    """Made by `unift.migrate`. Nothing happens until a step is called.

    A step that is done is not done again unless what it was made from has changed, or `again` is
    given. Steps that a step needs and that are missing are done first.

    Attributes:
        spec: What was asked for.
        folder: Where everything is kept: ``$UNIFT_HOME/migrations/NAME``.
        on_step: Called with a step and ``"start"``, ``"done"`` or ``"kept"``.
        on_event: Called with the title of a training and each of its events.
        progress: Called with (answers so far, answers in all) while answers are gathered.
    """

    def __init__(self, spec: MigrationSpec, file: Path | None = None) -> None:
        self.spec = spec
        self._file = file  # where it was read from; what a person wrote is never written over
        self.folder = migration_folder(spec.name)
        self.on_step: OnStep | None = None
        self.on_event: OnEvent | None = None
        self.progress: Progress | None = None
        self._steps = Steps(f"migration:{spec.name}")
        self._locked = False

    @property
    def name(self) -> str:
        return self.spec.name

    def __repr__(self) -> str:
        done = [step.name for step in self.status() if step.state == "done"]
        return f"<Migration {self.name}: {', '.join(done) or 'nothing'} done>"

    def status(self) -> list[Step]:
        """Every step that was ever begun, with its state and outcome, in the order of the steps."""
        found = {step.name: step for step in self._steps.all()}
        return [found[name] for name in STEPS if name in found]

    # --- the steps ----------------------------------------------------------------------------

    def inventory(self, again: bool = False) -> dict[str, Any]:
        """What the vendor holds: ``inventory.json``. Costs nothing."""
        made_from = digest(work.vendor_of(self.spec))
        return self._step(
            "inventory", made_from, again, lambda: work.take_inventory(self.spec, self.folder)
        )

    def fetch(self, again: bool = False) -> dict[str, Any]:
        """The old training and validation files, verified: ``files/``. Costs nothing."""
        if self.spec.data.train:
            made_from = digest("given", self.spec.data.train, self.spec.data.validation)
        else:
            self.inventory()
            made_from = digest(self.spec.source.model, self.spec.source.job)
        return self._step(
            "fetch", made_from, again, lambda: work.fetch_files(self.spec, self.folder)
        )

    def record(self, again: bool = False) -> dict[str, Any]:
        """The old model's answers to real prompts: ``golden.jsonl``. This costs money at the old
        vendor, and cannot be made up for later."""
        held = self.held_out()
        prompts = [sha256(Path(path)) for path in work.prompt_files(self.spec, held)]
        made_from = digest(self.spec.source.model, self.spec.record.model_dump(), prompts)
        return self._step(
            "record",
            made_from,
            again,
            lambda: work.record_answers(self.spec, self.folder, held, self.progress),
        )

    def held_out(self) -> HeldOut:
        """The rows to learn, to choose by and to test with; made once from the fetched files."""
        self.fetch()
        with self._alone():
            return work.hold_out_rows(self.spec, self.folder)

    def plan(self, again: bool = False) -> MigrationPlan:
        """Where to, with which settings, at what cost: ``plan.json``, ``migration.yaml`` and
        ``migrate.py``. Costs nothing."""
        held = self.held_out()
        made: list[MigrationPlan] = []

        def make() -> dict[str, Any]:
            old = old_model(
                self.spec.source.model,
                read_json(self.folder / "inventory.json"),
                self.spec.source.job,
            )
            made.append(make_plan(self.spec, old, held))
            document = made[0].as_dict()
            write_json(self.folder / "plan.json", document)
            work.write_plan_files(self.spec, document, self.folder, self._file)
            return {
                "provider": made[0].provider,
                "model": made[0].model,
                "trainings": len(made[0].trials),
                "warnings": list(made[0].warnings),
                "yaml": str(self.folder / "migration.yaml"),
                "script": str(self.folder / "migrate.py"),
            }

        self._step("plan", self._plan_digest(held), again or not self._has("plan.json"), make)
        return made[0] if made else work.read_plan(self._document("plan"))

    def train(self, again: bool = False) -> Trained:
        """Train what was planned, once; with a sweep, choose by validation rows.

        Raises:
            RunError: A training failed; the error says how to resume it. `again` gives the failed
                one up and trains anew.
        """
        self.plan()
        plan = self._document("plan")
        if again:
            give_up(self.spec, plan)

        def make() -> dict[str, Any]:
            trained = train_all(
                self.spec,
                plan,
                on_event=self.on_event,
                on_run=lambda run: self._steps.link("trained", f"run:{run}"),
            )
            document = trained.as_dict()
            write_json(self.folder / "training.json", document)
            return document

        made_from = digest(plan["provider"], plan["trials"], self._rows())
        return read_trained(self._step("train", made_from, again, make))

    def compare(self, model: str | None = None, again: bool = False) -> Compared:
        """Old against new. `model` compares another one than the trained one.

        Raises:
            DataError: Nothing to compare with.
        """
        chosen = model or self.train().model
        self.record()
        plan = work.compared_plan(self.spec, self.folder, self.held_out(), model is None)

        def make() -> dict[str, Any]:
            found = compare_models(self.spec, plan, chosen, self.folder, progress=self.progress)
            write_json(self.folder / "comparison.json", found.document)
            truth = found.truth or found.agreement or {}
            if truth.get("id"):
                self._steps.link("compared", f"evaluation:{truth['id']}")
            return {"model": chosen, "verdict": found.verdict.as_dict()}

        golden = self.folder / "golden.jsonl"
        made_from = digest(
            chosen,
            self.spec.compare.model_dump(),
            self.spec.source.model_dump(),
            self._rows(),
            sha256(golden) if golden.is_file() else None,
        )
        self._step("compare", made_from, again or not self._has("comparison.json"), make)
        return read_compared(self._document("comparison"))

    def cutover(self, again: bool = False, server: str | None = None) -> CutOver:
        """Start commands, environment diff, template check and archive. Nothing is switched by
        itself.

        Args:
            again: Do it again although nothing has changed.
            server: Address of a running server whose tokens are checked instead of the base's.

        Raises:
            RunError: The verdict is "do not" (unless ``cutover.despite_verdict``), or training and
                serving do not read the same tokens.
        """
        compared = self.compare()
        if compared.verdict.code == "do_not" and not self.spec.cutover.despite_verdict:
            raise RunError(
                f"Nothing to cut over to. {compared.verdict.sentence}",
                code="verdict_do_not",
                where=f"migration {self.name}",
                fix="mend the model and compare again; cutover.despite_verdict goes on anyway",
            )
        trained = self.train()
        plan = self._document("plan")
        made_from = digest(
            trained.model,
            self.spec.cutover.model_dump(),
            compared.verdict.as_dict(),
            server,
            work.env_digest(self.spec),
        )
        kept = self._has("cutover.json") and not server

        def make() -> dict[str, Any]:
            return work.cut_over(self.spec, plan, trained, compared, self.folder, server)

        self._step("cutover", made_from, again or not kept, make)
        return work.read_cutover(self._document("cutover"))

    def report(self, again: bool = False) -> Story:
        """The story so far on one page to sign: HTML, Markdown and JSON."""
        from unift.migrate._story import tell

        states = [step.as_dict() for step in self.status() if step.name != "report"]
        made_from = digest(states, self.spec.report.model_dump())
        with self._alone():
            story = tell(self.spec, self.folder, states)
        self._step("report", made_from, again, story.as_dict)
        return story

    def run(self, until: str | None = None) -> dict[str, Any]:
        """Every step that is not done yet, in order, up to and including `until`.

        A verdict of "do not" withholds the cut-over; the report is made all the same.

        Returns:
            ``{"migration", "folder", "steps", "verdict", "report", "cutover"}``.

        Raises:
            UsageError: There is no step `until`.
        """
        if until is not None and until not in STEPS:
            from unift._text import did_you_mean

            raise UsageError(
                f"There is no step '{until}'.",
                code="unknown_step",
                where="until",
                fix=did_you_mean(until, STEPS),
            )
        withheld = None
        for name in STEPS:
            try:
                getattr(self, name)()
            except RunError as error:
                if error.code != "verdict_do_not":
                    raise
                withheld = error
            if name == until:
                break
        return self.as_dict(withheld)

    def as_dict(self, withheld: RunError | None = None) -> dict[str, Any]:
        """The JSON document of ``unift migrate run`` and ``status``."""
        steps = self.status()
        compared = self._has("comparison.json") and self._document("comparison")
        story = next((one for one in steps if one.name == "report" and one.state == "done"), None)
        return {
            "migration": self.name,
            "folder": str(self.folder),
            "source": self.spec.source.model,
            "steps": [step.as_dict() for step in steps],
            "next": next(
                (n for n in STEPS if not any(s.name == n and s.state == "done" for s in steps)),
                None,
            ),
            "verdict": compared["verdict"] if compared else None,
            "report": story.outcome.get("html") if story else None,
            "cutover": self._document("cutover")
            if self._has("cutover.json") and withheld is None
            else None,
            "withheld": withheld.as_dict() if withheld else None,
        }

    # --- inside -------------------------------------------------------------------------------

    def _step(
        self, name: str, made_from: str, again: bool, make: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Do a step unless it is done; journalled before it starts and after it ended."""
        with self._alone():
            before = self._steps.get(name)
            if before and before.state == "done" and before.digest == made_from and not again:
                self._tell(name, "kept")
                return before.outcome
            self._steps.start(name, made_from)
            self._tell(name, "start")
            try:
                outcome = make()
            except Exception as error:
                known = getattr(error, "as_dict", None)
                problem = known() if callable(known) else {"message": str(error)}
                self._steps.end(name, "failed", {"error": problem})
                raise
            self._steps.end(name, "done", outcome)
            self._tell(name, "done")
            return outcome

    @contextmanager
    def _alone(self) -> Generator[None]:
        """One process at a time; the kernel frees the lock of one that dies."""
        if self._locked:
            yield
            return
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    "Another process is working on this migration.",
                    code="migration_busy",
                    where=f"migration {self.name}",
                    fix=f"wait for it; unift migrate status {self.name} shows how far it is",
                ) from None
            self._locked = True
            try:
                yield
            finally:
                self._locked = False

    def _plan_digest(self, held: HeldOut) -> str:
        inventory = self.folder / "inventory.json"
        return digest(
            self.spec.target.model_dump(),
            self.spec.training.model_dump(),
            self.spec.sweep.model_dump(),
            self.spec.source.model_dump(),
            self._rows(),
            held.rows,
            sha256(inventory) if inventory.is_file() else None,
        )

    def _rows(self) -> list[str]:
        files = (self.folder / "data" / f"{part}.jsonl" for part in ("train", "validation", "test"))
        return [sha256(path) if path.is_file() else "" for path in files]

    def _has(self, file: str) -> bool:
        return read_json(self.folder / file) is not None

    def _document(self, name: str) -> dict[str, Any]:
        found = read_json(self.folder / f"{name}.json")
        if found is None:
            raise UsageError(
                f"The migration has no {name} yet.",
                code="no_document",
                where=str(self.folder / f"{name}.json"),
                fix=f"unift migrate run {self.folder / 'migration.yaml'}",
            )
        return found

    def _tell(self, step: str, state: str) -> None:
        if self.on_step is not None:
            self.on_step(step, state)


def _merged(section: Mapping[str, Any] | None, **named: Any) -> dict[str, Any]:
    return {**(section or {}), **{key: value for key, value in named.items() if value is not None}}


def migrate(
    source: str | Path,
    *,
    name: str | None = None,
    to: str | None = None,
    model: str | None = None,
    old: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
    target: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    sweep: Mapping[str, Any] | None = None,
    compare: Mapping[str, Any] | None = None,
    cutover: Mapping[str, Any] | None = None,
    report: Mapping[str, Any] | None = None,
) -> Migration:
    """A migration off a vendor's fine-tune: what is there, what it answers, where to, how good.

    Nothing happens until a step is called; ``.run()`` does all of them.

    Args:
        source: The old model (``openai:ft:...``), or a ``migration.yaml``; then nothing else is
            given.
        name: Of the migration and its folder; by default made of the model's name.
        to: Provider that trains (``local-qlora``, ``fireworks``, ...); None: the plan recommends.
        model: The new base; None: the plan recommends.
        old: More about the old model: ``job``, ``successor``, ``successor_prompt``.
        data: ``train``, ``validation``, ``test``, ``held_out``, ``seed``, ``drop``.
        record: ``prompts``, ``held_out``, ``draws``, ``limit``, ``usd``, ``rate``, ``scrub``.
        target: ``gpu``, ``usd_per_hour``, ``answers_per_month``, ``licence``, ``languages``,
            ``max_params_b``.
        training: As for `unift.train`; what is left out is mapped from the old job.
        sweep: ``rank``, ``learning_rate``, ``model`` (lists), ``trials``, ``usd``, ``hours``,
            ``limit``.
        compare: ``metric``, ``margin``, ``confidence``, ``slices``, ``limit``, ``few_shot``.
        cutover: ``name``, ``host``, ``port``, ``env_file``, ``checked_rows``, ``despite_verdict``.
        report: ``owner``, ``approvers``.

    Raises:
        UsageError: An unknown key (the nearest known one is named), an impossible value, or a file
            that cannot be read.
    """
    from unift.migrate._spec import default_name, make_spec
    from unift.migrate._yaml import absolute, read_yaml

    sections = {
        "data": data,
        "record": record,
        "target": _merged(target, provider=to, model=model),
        "training": training,
        "sweep": sweep,
        "compare": compare,
        "cutover": cutover,
        "report": report,
    }
    if isinstance(source, Path) or str(source).endswith((".yaml", ".yml")):
        given = [key for key, value in {**sections, "old": old, "name": name}.items() if value]
        if given:
            raise UsageError(
                f"The file says everything; {', '.join(given)} would be ignored.",
                code="bad_setting",
                where=given[0],
                fix=f"write it into {source}",
            )
        return Migration(read_yaml(source), Path(source).expanduser().absolute())
    document: dict[str, Any] = {key: value for key, value in sections.items() if value}
    document["name"] = name or default_name(str(source))
    document["source"] = {**(old or {}), "model": str(source)}
    return Migration(absolute(make_spec(document), Path.cwd()))
