"""The three local providers: the same verbs, three ways to tune."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from unift.engine import Engine
from unift.errors import (
    LimitError,
    LostError,
    MissingDependency,
    ProviderError,
    RunError,
    UsageError,
)
from unift.provider import (
    Artifact,
    Capabilities,
    Event,
    Failure,
    Handle,
    Model,
    Plan,
    Setting,
    State,
    Status,
)
from unift.spec import TrainSpec
from unift.verbs import Checkpoint
from unift_local import checkpoint as checkpoints
from unift_local import launch
from unift_local.planning import make_plan
from unift_local.rundir import EventReader, RunDir, run_dir, runs_folder, sync_folder, write_atomic
from unift_local.settings import Tunes

_PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "safetensors")
_GRACE = 60.0  # seconds for a worker to acknowledge a cancel before it is killed


class Local:
    """What the local providers have in common; not a provider itself."""

    name: ClassVar[str]
    tunes: ClassVar[Tunes]
    needs: ClassVar[tuple[str, ...]] = _PACKAGES

    def __init__(self) -> None:
        self._reader = EventReader()
        launch.wait_politely(os.environ)  # for answers, which are made in this process

    def check(self) -> None:
        """Raise MissingDependency unless everything is installed. Imports nothing."""
        missing = [name for name in self.needs if find_spec(name) is None]
        if missing:
            raise MissingDependency(
                f"Provider '{self.name}' needs {', '.join(missing)}.",
                where="provider",
                fix="pip install 'unift[local]'",
            )

    def capabilities(self, model: str | None = None) -> Capabilities:
        """Any causal language model with safetensors; the same for all models."""
        return Capabilities(
            methods=("sft",),
            tunes=self.tunes,
            place="local",
            images=False,
            models=None,
            ends_on=None,
            poll_seconds=0.2,
            weights_downloadable=True,
            resumable=True,
            pausable=True,
            notes=("one process, one GPU or the CPU",),
        )

    def plan(self, spec: TrainSpec) -> Plan:
        """Resolve every setting and render every row. See `unift_local.planning.make_plan`."""
        self.check()
        return make_plan(spec, self.name, self.tunes)

    def probe(self, plan: Plan) -> dict[str, Any] | None:
        """Two steps in a process of their own. See `unift.verbs.Probing`."""
        self.check()
        settings = [one for one in plan.settings if one.name != "probe"]
        settings.append(Setting(name="probe", value=True, origin="user"))
        payload = {**plan.payload, "only_probe": True}
        run = RunDir(Path(tempfile.mkdtemp(prefix=".probe-", dir=runs_folder())))
        run.folder.rmdir()
        try:
            _create(run, plan.model_copy(update={"settings": tuple(settings), "payload": payload}))
            launch.start(run)
            while run.locked():
                time.sleep(0.05)
            launch.reap()
            status = run.status()
            if status is None or status.state is not State.SUCCEEDED:
                if status is None or not status.finished:
                    status = _died(run)
                failure = status.failure
                raise RunError(
                    f"The probe did not run: {status.message}",
                    code=failure.code if failure else "probe_failed",
                    where=f"{self.name}, {plan.spec.model}",
                    fix=failure.fix if failure else "estimate without a probe",
                )
            return json.loads(run.probe_file.read_bytes()).get("probe")
        finally:
            pid = run.pid() if run.folder.is_dir() else None
            if pid is not None:  # interrupted: the steps are of no use to anybody
                _signal(pid, signal.SIGKILL)
            shutil.rmtree(run.folder, ignore_errors=True)

    def submit(self, plan: Plan, token: str) -> Handle:
        """Start training in a process of its own; with a known token, only find it.

        Raises:
            LimitError: There is not enough disk space.
            UsageError: The data changed since it was planned.
            RunError: The process cannot be started.
        """
        self.check()
        run = run_dir(_safe(token))
        if not run.folder.is_dir():
            _create(run, plan)
        if run.status() is None:  # never started, or the one who created it died before starting
            launch.start(run)
        return self._handle(run)

    def find(self, token: str) -> Handle | None:
        """The run marked with `token`, if its folder is here."""
        run = run_dir(_safe(token))
        return self._handle(run) if run.folder.is_dir() else None

    def poll(self, handle: Handle) -> Status:
        """The state of a run, from its own record and from whether its process lives."""
        launch.reap()
        run = _existing(handle)
        if run is None:
            return Status(
                state=State.LOST, word="gone", message=f"The folder of run {handle.id} is gone."
            )
        alive = run.locked()  # asked before the status: a worker writes its last word, then ends
        status = run.status()
        if status is None:
            word = "created"
            return Status(state=State.QUEUED, word=word, message="Not started yet.", resumable=True)
        ended = status.finished or status.state is State.PAUSED
        if alive and ended:  # its last word is written, its process not quite gone
            return Status(state=State.RUNNING, word="ending", message=status.message)
        if ended or alive:
            return status
        return _died(run)

    def events(self, handle: Handle, after: str | None = None) -> Sequence[Event]:
        """Events in order; with `after`, only later ones."""
        run = _existing(handle)
        return [] if run is None else self._reader.read(run.events_file, after)

    def cancel(self, handle: Handle) -> None:
        """Ask the worker to save a checkpoint and end; kill it if it does not react in a minute."""
        run = _existing(handle)
        if run is None or self._ended_while_paused(run) or not run.locked():
            return
        write_atomic(run.cancel_file, b"")
        signalled = False
        until = time.monotonic() + _GRACE
        while time.monotonic() < until and run.locked():
            pid = run.pid()
            if pid is not None and not signalled:
                _signal(pid, signal.SIGTERM)
                signalled = True
            status = run.status()
            if status is not None and status.word == "cancelling":
                return
            time.sleep(0.05)
        pid = run.pid()
        if pid is not None:
            _signal(pid, signal.SIGKILL)
        else:  # it ended by itself; perhaps it was about to pause
            self._ended_while_paused(run)

    def pause(self, handle: Handle) -> None:
        """Ask the worker to save the step it is at, and to end. See `unift.verbs.Pausing`."""
        run = _existing(handle)
        if run is not None and run.locked():
            write_atomic(run.pause_file, b"")

    def _ended_while_paused(self, run: RunDir) -> bool:
        """A paused run has no process that could be asked for the end."""
        lock = run.take_lock()
        if lock is None:
            return False
        try:
            status = run.status()
            paused = status is not None and status.state is State.PAUSED
            if paused:
                message = "Cancelled while it was paused."
                run.write_status(
                    Status(state=State.CANCELLED, word="cancelled", message=message, resumable=True)
                )
            return paused
        finally:
            os.close(lock)

    def resume(self, handle: Handle) -> Handle:
        """Go on from the last whole checkpoint; nothing happens to a run that lives or succeeded.

        Raises:
            ProviderError: The run failed for a reason that would only repeat itself.
            LostError: Its folder is gone.
        """
        run = _existing(handle)
        if run is None:
            raise LostError(
                "The folder of this run is gone, and its checkpoints with it.",
                where=handle.id,
                fix="train again",
            )
        status = self.poll(handle)
        if run.locked() or (status.state == State.SUCCEEDED and run.model.is_dir()):
            return handle
        if status.finished and not status.resumable and status.state != State.SUCCEEDED:
            failure = status.failure
            raise ProviderError(
                f"Resuming would fail again: {status.message}",
                code="not_resumable",
                where=handle.id,
                fix=failure.fix if failure else "train again",
            )
        launch.start(run)
        return handle

    def checkpoints(self, handle: Handle) -> Sequence[Checkpoint]:
        """The whole checkpoints that are kept; each is a folder that `model` takes."""
        run = _existing(handle)
        return [] if run is None else checkpoints.kept(run.checkpoints)

    def fetch(self, handle: Handle) -> Artifact:
        """The exported model, its digests checked."""
        from unift_local.export import artifact

        run = _existing(handle)
        if run is None or not run.model.is_dir():
            raise RunError(
                "The run has left no model.",
                code="no_artifact",
                where=handle.id,
                fix="wait for it to succeed, or resume it",
            )
        return artifact(run)

    def model(self, reference: str) -> Model:
        """An adapter folder, a weights folder, a hub id or ``demo``, ready to answer."""
        self.check()
        from unift_local.inference import LocalModel

        return LocalModel(reference)

    def engine(self, base: str, max_adapters: int) -> Engine:
        """The base model once in memory, for a server. See `unift.engine`."""
        self.check()
        from unift_local.engine import LocalEngine

        return LocalEngine(base, max_adapters, four_bit=self.tunes == "qlora")

    def _handle(self, run: RunDir) -> Handle:
        data = {"folder": str(run.folder)}
        return Handle(provider=self.name, id=run.folder.name, data=data)


class LocalLora(Local):
    """A low-rank adapter over a frozen base model (Hu et al. 2021)."""

    name = "local-lora"
    tunes = "lora"
    # Of the three it is the one that keeps plain weights as they are.
    schemes = ("demo", "path", "hf")


class LocalQlora(Local):
    """A low-rank adapter over a base model in 4 bits (Dettmers et al. 2023)."""

    name = "local-qlora"
    tunes = "qlora"
    needs = (*_PACKAGES, "bitsandbytes")


class LocalFull(Local):
    """All weights."""

    name = "local-full"
    tunes = "full"


def _safe(token: str) -> str:
    if not token or token.startswith(".") or "/" in token or "\0" in token:
        raise UsageError(f"'{token}' cannot be the name of a run.", where="token")
    return token


def _existing(handle: Handle) -> RunDir | None:
    run = RunDir(Path(handle.data.get("folder") or runs_folder() / _safe(handle.id)))
    return run if run.folder.is_dir() else None


def _create(run: RunDir, plan: Plan) -> None:
    """Make the folder of a run in one step: a crash leaves a whole one or none."""
    _check_space(plan)
    draft = RunDir(Path(tempfile.mkdtemp(prefix=".new-", dir=runs_folder())))
    try:
        for part, field in (("train", "data"), ("validation", "validation")):
            if field in plan.payload["files"]:
                _snapshot(draft, part, plan, field)
        draft.checkpoints.mkdir()
        write_atomic(draft.plan_file, plan.model_dump_json().encode())
        draft.folder.rename(run.folder)
    except OSError as error:
        if run.folder.is_dir():  # somebody else was faster with the same token
            return
        raise RunError(
            f"The folder of the run cannot be made: {error.strerror}.", where=str(run.folder)
        ) from error
    finally:
        shutil.rmtree(draft.folder, ignore_errors=True)
    sync_folder(run.folder.parent)


def _snapshot(draft: RunDir, part: str, plan: Plan, field: str) -> None:
    from unift.data import fingerprint, read_examples
    from unift_local.snapshot import write_snapshot

    path = Path(plan.payload["files"][field])
    if not path.is_file() or fingerprint(path) != plan.fingerprints[field]:
        raise UsageError(
            "The data changed between planning and training.",
            code="data_changed",
            where=str(path),
            fix="plan again",
        )
    write_snapshot(draft.data(part), read_examples(path))


def _check_space(plan: Plan) -> None:
    """Kept checkpoints, the best one, one being written, and the exported model."""
    one = int(plan.payload["checkpoint_bytes"])
    need = one * (plan.value("save_total_limit") + 2) + one // 3 + 2**24
    free = shutil.disk_usage(runs_folder()).free
    if free < need:
        gib = 2**30
        raise LimitError(
            f"The checkpoints of this run need about {need / gib:.2f} GiB of disk, "
            f"{free / gib:.2f} GiB are free.",
            code="disk_full",
            where=str(runs_folder()),
            fix=f"free {(need - free) / gib:.2f} GiB, or set UNIFT_HOME to a larger disk",
        )


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _died(run: RunDir) -> Status:
    """A run whose process is gone without a last word."""
    last = checkpoints.latest(run.checkpoints)
    kept = f"its checkpoint of step {last[1].step} is whole" if last else "it had no checkpoint yet"
    record: dict[str, Any] = run.exit_record()
    number = record.get("signal")
    if run.cancel_file.exists():
        return Status(
            state=State.CANCELLED,
            word="killed",
            message=f"Cancelled; the process did not end by itself and was killed, {kept}.",
            resumable=True,
        )
    if record.get("oom_killed"):
        cause = "was killed by the kernel because memory ran out"
    elif number:
        cause = f"was killed by {signal.Signals(number).name}"
    elif record:
        cause = f"ended with exit status {record.get('exit_status')}"
    else:
        cause = "disappeared (a crash of the machine, or killed together with its watcher)"
    tail = run.log_tail()
    said = f" The log ends with: {tail}" if tail else ""
    message = f"The training process {cause}; {kept}.{said}"
    fix = "free memory or use a smaller micro_batch, then resume the run"
    failure = Failure(
        code="process_died",
        message=message,
        where=str(run.log_file),
        fix=fix if record.get("oom_killed") else "resume the run",
    )
    return Status(
        state=State.FAILED, word="process_died", message=message, failure=failure, resumable=True
    )
