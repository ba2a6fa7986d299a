"""What happens around the optimiser steps: events, evaluation times, early stop, checkpoints."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import TrainerCallback

from unift.evaluate import Watch
from unift.provider import EventKind, Plan
from unift_local import checkpoint as checkpoints
from unift_local import correction
from unift_local.guards import check_finite
from unift_local.pacing import Clock
from unift_local.rundir import EventLog, EventReader, RunDir
from unift_local.worker import StopRequest

_EVERY = 0.2  # seconds between two metrics events
_GIB = 2**30


class Journal(TrainerCallback):
    """Drives and records one run.

    Args:
        eval_steps: Steps between two evaluations; every epoch's end and the last step get one too.
        patience: Evaluations in a row without a new best before stopping; 0: never.
        keep: Checkpoints kept besides the best.
    """

    def __init__(
        self,
        run: RunDir,
        log: EventLog,
        stop: StopRequest,
        progress: checkpoints.Progress,
        plan: Plan,
        *,
        total_steps: int,
        steps_per_epoch: int,
        eval_steps: int,
        patience: int,
        keep: int,
        evaluates: bool,
        learning_rate: float,
    ) -> None:
        self._run, self._log, self._stop, self.progress = run, log, stop, progress
        self._estimate = plan.estimate
        self._total, self._per_epoch = total_steps, steps_per_epoch
        self._eval_steps, self._patience, self._keep = eval_steps, patience, keep
        self._evaluates, self._learning_rate = evaluates, learning_rate
        self.clock = Clock(run.pid_file.stat().st_mtime if run.pid_file.exists() else time.time())
        self._fresh = 0  # tokens of the step that goes on
        self._lived = progress.trained_seconds
        self._began = self._last_event = time.perf_counter()
        self._first_step = progress.step
        self._losses: list[float] = []
        self._tokens, self._busy = 0, 0.0  # since the last event; evaluating is not counted
        self._step_began = self._began
        self.cancelled = False
        self._corrected = False
        self.last_metrics: dict[str, Any] = {}
        self._watch = Watch(plan)
        for event in EventReader().read(run.events_file, None):  # of an earlier life of the run
            self._watch.see(event)

    def _tell(self, kind: EventKind, message: str = "", **data: Any) -> None:
        """Write an event of the curves, and a warning if something begins to go wrong with it."""
        found = self._watch.see(self._log.write(kind, message, **data))
        if found is not None:
            step = data.get("step")
            self._log.write("warning", found.line, step=step, diagnosis=found.as_dict())

    def add_tokens(self, tokens: int) -> None:
        """Real tokens (no padding) that went through a training step."""
        self._tokens += tokens
        self._fresh += tokens
        self.progress.tokens += tokens

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = self._last_event = time.perf_counter()
        self.clock.begin()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._step_began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step = state.global_step
        self.clock.step(self._fresh)
        self._fresh = 0
        due = step % self._eval_steps == 0 or step % self._per_epoch == 0 or step >= self._total
        control.should_log = True
        control.should_evaluate = due and self._evaluates
        control.should_save = due
        if step >= self._total:
            control.should_training_stop = True
        if self._stop and step < self._total:
            self.cancelled = True
            control.should_save = control.should_training_stop = True

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        step = int(logs.get("step", state.global_step))  # a step late on a card (see `late`)
        check_finite(logs["loss"], "training loss", step, self._learning_rate)
        grad_norm = float(logs.get("grad_norm", 0.0))
        check_finite(grad_norm, "gradient norm", step, self._learning_rate)
        self._losses.append(logs["loss"])
        now = time.perf_counter()
        seconds = now - self._last_event
        self._busy += now - self._step_began
        self._step_began = now
        last = step >= self._total or step == self._first_step + 1
        if seconds < _EVERY and not last and not control.should_save:
            return
        done = step - self._first_step
        self.last_metrics = {
            "step": step,
            "total_steps": self._total,
            "epoch": round(step / self._per_epoch, 4),
            "loss": sum(self._losses) / len(self._losses),
            "learning_rate": logs["learning_rate"],
            "grad_norm": grad_norm,
            "tokens_per_second": round(self._tokens / max(self._busy, 1e-9), 1),
            "eta_seconds": round((now - self._began) / done * (self._total - step), 1),
            **memory_gib(),
        }
        elapsed = now - self._began
        if correction.due(elapsed, done, self._total):
            estimate, left = self._estimate, self.last_metrics["eta_seconds"]
            since = self._lived + self.clock.started + elapsed
            said, figures = correction.corrected(estimate, since, left)
            self.last_metrics |= figures
            if not self._corrected and step < self._total:
                self._corrected = True
                self._log.write("log", said, step=step, **figures)
        self._tell("metrics", **self.last_metrics)
        self._losses.clear()
        self._tokens, self._busy = 0, 0.0
        self._last_event = now

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        metrics: dict[str, float] = kwargs["metrics"]
        step, loss = state.global_step, metrics["eval_loss"]
        check_finite(loss, "validation loss", step, self._learning_rate)
        self.clock.evaluated(metrics["eval_runtime"])
        now = self.progress
        better = now.best_loss is None or loss < now.best_loss
        now.last_loss = loss
        if step > 0:  # the untouched base has no checkpoint and cannot be the best one
            now.worse = 0 if better else now.worse + 1
            if better:
                now.best_step, now.best_loss = step, loss
        self._tell(
            "evaluation",
            f"validation loss {loss:.4f}" + (" (best so far)" if better and step else ""),
            step=step,
            epoch=round(step / self._per_epoch, 4),
            validation_loss=loss,
            best=bool(better and step),
            seconds=round(metrics["eval_runtime"], 3),
        )
        if step and self._patience and now.worse >= self._patience and step < self._total:
            now.stopped_early = True
            control.should_save = control.should_training_stop = True
            self._log.write(
                "log",
                f"Stopped early at step {step}: validation loss has not improved on "
                f"{now.best_loss:.4f} (step {now.best_step}) for {now.worse} evaluations.",
                step=step,
                stopped_early=True,
            )

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now, step = self.progress, state.global_step
        now.step = step
        now.finished = now.stopped_early or step >= self._total
        now.trained_seconds = self._lived + time.perf_counter() - self._began
        folder = self._run.checkpoints
        checkpoints.mark_complete(checkpoints.path_of(folder, step), now)
        checkpoints.rotate(folder, self._keep, now.best_step)
        self.clock.saved()
        at = str(checkpoints.path_of(folder, step))
        self._tell("checkpoint", f"checkpoint at step {step}", step=step, folder=at)


def memory_gib() -> dict[str, float]:
    """Peak memory so far: of the process, and on CUDA what was allocated and reserved (GiB)."""
    if torch.cuda.is_available():
        return {
            "memory_gib": round(torch.cuda.max_memory_allocated() / _GIB, 3),
            "memory_reserved_gib": round(torch.cuda.max_memory_reserved() / _GIB, 3),
        }
    import resource

    return {
        "memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB, 3)
    }
