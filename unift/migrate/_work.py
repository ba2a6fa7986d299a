"""What the steps do: each writes its files and answers the short outcome that is journalled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unift.errors import ProviderError, UsageError
from unift.migrate._archive import archive
from unift.migrate._compare import Compared
from unift.migrate._cutover import (
    CutOver,
    environment,
    served_name,
    start_commands,
    template_of,
    write_files,
)
from unift.migrate._files import digest, read_json, sha256, write_json, write_text
from unift.migrate._hold_out import HeldOut, hold_out, read_held_out
from unift.migrate._plan import MigrationPlan, old_model
from unift.migrate._script_text import script_text
from unift.migrate._spec import MigrationSpec
from unift.migrate._template import TemplateCheck
from unift.migrate._train import Trained
from unift.migrate._yaml_text import yaml_text

Progress = Callable[[int, int], None]


def vendor_of(spec: MigrationSpec) -> str:
    """Where the old model lives, without the model: what an inventory is taken of."""
    model = spec.source.model
    if model.startswith(("http://", "https://")):
        return model.partition("#")[0]
    return model.partition(":")[0]


def take_inventory(spec: MigrationSpec, folder: Path) -> dict[str, Any]:
    """List what the vendor holds."""
    from unift.migrate._inventory import inventory

    found = inventory(vendor_of(spec))
    path = found.write(folder)
    held = found.holdings
    return {
        "file": str(path),
        "models": len(held.models),
        "jobs": len(held.jobs),
        "files": len(held.files),
        "unseen": list(held.unseen),
        "deadlines": [one.model_dump(mode="json") for one in found.deadlines],
    }


def fetch_files(spec: MigrationSpec, folder: Path) -> dict[str, Any]:
    """Bring the old files home; nothing to do where the user has them."""
    if spec.data.train:
        return {
            "train": spec.data.train,
            "validation": spec.data.validation,
            "files": [],
            "note": "the training file was given, so none was fetched",
        }
    from unift.migrate._fetch import fetch

    found = fetch(spec.source.model, folder / "files")
    inventory = read_json(folder / "inventory.json")
    job = old_model(spec.source.model, inventory, spec.source.job).job or next(
        iter(found.settings), ""
    )
    paths = {role: found.path(job, role) for role in ("training", "validation")}
    return {
        "job": job,
        "train": str(paths["training"]) if paths["training"] else None,
        "validation": str(paths["validation"]) if paths["validation"] else None,
        **found.as_dict(),
    }


def hold_out_rows(spec: MigrationSpec, folder: Path) -> HeldOut:
    """The split, made once; made again when the files or the settings have changed."""
    from unift.runs import Steps

    step = Steps(f"migration:{spec.name}").get("fetch")
    outcome = step.outcome if step else {}
    train = spec.data.train or outcome.get("train")
    validation = spec.data.validation or outcome.get("validation")
    if not train:
        raise UsageError(
            "There is no training file: the vendor gave none.",
            code="no_training_file",
            where="data.train",
            fix="give the file that the old model was trained on in data.train",
        )
    made_from = digest(
        spec.data.model_dump(), [_content(path) for path in (train, validation, spec.data.test)]
    )
    before = read_held_out(folder)
    mark = read_json(folder / "data" / "made-from.json")
    if before is not None and mark is not None and mark.get("digest") == made_from:
        return before
    found = hold_out(folder, train, validation, spec.data)
    write_json(folder / "data" / "made-from.json", {"digest": made_from})
    return found


def _content(path: str | None) -> str | None:
    if path is None:
        return None
    from unift.demo import resolve

    file = resolve(path)
    return sha256(file) if file.is_file() else path


def prompt_files(spec: MigrationSpec, held: HeldOut) -> list[str]:
    """The files whose prompts are asked, the rows that are tested with first."""
    found = [held.test] if spec.record.held_out else []
    return [*found, *spec.record.prompts]


def record_answers(
    spec: MigrationSpec, folder: Path, held: HeldOut, progress: Progress | None
) -> dict[str, Any]:
    """Ask the old model; what is in the golden file already is not asked again."""
    from unift.migrate._record import record

    wanted = spec.record
    golden = record(
        spec.source.model,
        prompt_files(spec, held),
        out=folder / "golden.jsonl",
        draws=wanted.draws,
        limit=wanted.limit,
        budget=wanted.usd,
        rate=wanted.rate,
        scrub=wanted.scrub,
        margin=spec.compare.margin or 0.01,
        progress=progress,
    )
    return golden.as_dict()


def write_plan_files(
    spec: MigrationSpec, plan: Mapping[str, Any], folder: Path, own: Path | None
) -> None:
    """``migration.yaml`` and ``migrate.py``. `own` is the user's file, which stays as it is; what
    else is changed is kept beside as ``.before``."""
    for name, text in (
        ("migration.yaml", yaml_text(spec, plan)),
        ("migrate.py", script_text(spec, plan, str(folder / "migrate.py"))),
    ):
        path = folder / name
        if own is not None and path.absolute() == own:
            continue
        if path.is_file() and path.read_text("utf-8") != text:
            path.replace(folder / f"{name}.before")
        write_text(path, text)


def compared_plan(
    spec: MigrationSpec, folder: Path, held: HeldOut, planned: bool
) -> dict[str, Any]:
    """The plan; for a model that was trained elsewhere and without one, what is known instead."""
    plan = read_json(folder / "plan.json")
    if plan is not None or planned:
        return plan or {}
    old = old_model(spec.source.model, read_json(folder / "inventory.json"), spec.source.job)
    return {
        "old": old.as_dict(),
        "data": held.as_dict(),
        "candidates": [],
        "model": "",
        "provider": "",
        "answers_per_month": spec.target.answers_per_month,
    }


def cut_over(
    spec: MigrationSpec,
    plan: Mapping[str, Any],
    trained: Trained,
    compared: Compared,
    folder: Path,
    server: str | None,
) -> dict[str, Any]:
    """Prepare the switch; the archive comes last, so that it holds the rest."""
    from unift.runs import run as get_run

    run = get_run(trained.run)
    artifact = run.artifact
    if artifact is None:
        raise ProviderError(
            f"Run {run.id} has no model any more.", where=f"run {run.id}", fix="train again"
        )
    checked = template_of(spec, artifact, plan["data"]["test"], server)
    commands = start_commands(spec, plan, run.id, artifact)
    change = environment(spec, plan, artifact)
    files = write_files(folder, commands, change)
    document: dict[str, Any] = {
        "model": trained.model,
        "served_name": served_name(spec),
        "address": f"http://{spec.cutover.host}:{spec.cutover.port}/v1",
        "artifact": artifact.model_dump(mode="json"),
        "commands": commands,
        "environment": change,
        "files": files,
        "template": checked.as_dict() if checked else None,
        "verdict": compared.verdict.as_dict(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(folder / "cutover.json", document)
    weights = Path(artifact.reference) if artifact.kind != "hosted" else None
    packed = archive(
        folder,
        spec.name,
        weights,
        {"migration": spec.name, "source": spec.source.model, "model": trained.model},
    )
    document["archive"] = packed.as_dict()
    write_json(folder / "cutover.json", document)
    return {"model": trained.model, "archive": packed.as_dict(), "commands": commands}


def read_cutover(document: Mapping[str, Any]) -> CutOver:
    """A cut-over that was prepared before."""
    checked = document["template"]
    if checked is not None:
        kept = {key: value for key, value in checked.items() if key != "same"}
        checked = TemplateCheck(**kept)
    return CutOver(
        document["commands"], document["environment"], checked, document["archive"], document
    )


def env_digest(spec: MigrationSpec) -> str | None:
    """What the application's environment looked like."""
    path = spec.cutover.env_file
    return sha256(Path(path)) if path and Path(path).is_file() else None


def read_plan(document: Mapping[str, Any]) -> MigrationPlan:
    """A plan that was made before."""
    from pydantic import TypeAdapter

    return TypeAdapter(MigrationPlan).validate_python(document)
