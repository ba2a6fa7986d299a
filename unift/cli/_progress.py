"""Progress on a terminal; on anything else a line now and then, or nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from unift._text import duration
from unift.cli._output import err

# rich.progress takes 40 ms to import, which `unift --help` need not pay: see the functions.
if TYPE_CHECKING:
    from rich.progress import TaskID

    from unift.provider import Event
    from unift.runs import Run


@contextmanager
def counting(words: str, unit: str = "rows") -> Generator[Callable[[int, int], None]]:
    """A bar fed with ``(done, total)``; silent where stderr is no terminal."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (SpinnerColumn(), TextColumn(words), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(words, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update


@contextmanager
def keeping(words: str) -> Generator[None]:
    """Work that is kept when it is stopped: SIGTERM is taken like Ctrl-C, so that answers under way
    are waited for and kept, and then `words` say how it goes on."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"\nInterrupted. {words}")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def follow(run: Run, *, after: int = 0, headline: str = "") -> None:
    """Show a run until it is finished. Ctrl-C leaves it running and says how to come back."""
    from unift.evaluate import watched

    try:
        if headline:
            err.print(headline)
        with _Board() as board:
            for event in watched(run, after=after):
                board.show(event)
    except KeyboardInterrupt:
        err.print(
            f"\nThe run goes on. unift runs events {run.id} --follow comes back to it,"
            f" unift runs cancel {run.id} ends it."
        )
        raise


def describe(event: Event) -> str:
    """An event as a line of text."""
    data = event.data
    if event.kind == "metrics":
        parts = [f"step {data.get('step', '?')}/{data.get('total_steps', '?')}"]
        parts += _numbers(data, ("loss", "learning_rate", "grad_norm", "tokens_per_second"))
        parts += _numbers(data, ("memory_gib", "eta_seconds"))
        return "  ".join(parts)
    if event.kind == "evaluation":
        said = event.message or "  ".join(_numbers(data, ("validation_loss",)))
        return f"step {data.get('step', '?')}  {said}"
    return event.message


def _numbers(data: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    return [f"{name} {data[name]:.4g}" for name in names if isinstance(data.get(name), int | float)]


class _Board:
    """One bar with the figures of the last step; notable events scroll above it."""

    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> _Board:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, event: Event) -> None:
        if event.kind == "metrics":
            self._advance(event.data)
        elif event.kind == "checkpoint":
            return  # worth keeping, not worth a line
        elif not (event.kind == "status" and event.data.get("status") in _QUIET):
            style = {"warning": "yellow", "evaluation": "dim"}.get(event.kind, "")
            err.print(describe(event), style=style)

    def _advance(self, data: dict[str, Any]) -> None:
        # The run's own forecast, which counts evaluations and corrects the plan.
        parts = [f"{duration(data['eta_seconds'])} left"] if data.get("eta_seconds") else []
        if data.get("hours"):
            parts.append(f"of {duration(data['hours'] * 3600)}")
        figures = "  ".join([*parts, *_numbers(data, ("loss", "tokens_per_second"))])
        if self._task is None:
            self._task = self._bar.add_task("training", total=data.get("total_steps"), figures="")
        self._bar.update(
            self._task,
            completed=data.get("step", 0),
            total=data.get("total_steps"),
            figures=figures,
        )


_QUIET = {"planned", "submitting", "queued", "running", "succeeded"}
