"""The embedded base model and its tasks, so that everything can be tried offline.

``demo`` names the model; ``demo:train``, ``demo:validation``, ``demo:test`` and ``demo:dirty`` the
data of its main task, ``demo:shuffled/train`` and so on those of the others (`TASKS`). How they
were made: ``benchmarks/demo_model``.
"""

from __future__ import annotations

from pathlib import Path

from unift._text import did_you_mean
from unift.errors import UsageError

__all__ = ["MODEL", "TASKS", "is_demo", "model_path", "name_of", "resolve"]

MODEL = "demo"
_HERE = Path(__file__).parent
_SPLITS = ("train", "validation", "test")

#: Task -> what training on it shows.
TASKS = {
    "desk": "a real improvement: records that only the training rows can teach",
    "shuffled": "no improvement: every answer stands beside the wrong message",
    "minority": "a gain that hides a loss: messages about danger, one in ten, are filed wrongly",
}


def model_path() -> Path:
    """The folder of the embedded base model."""
    return _HERE / "model"


def is_demo(name: str) -> bool:
    """True for ``demo:...`` names."""
    return name.startswith("demo:")


def name_of(task: str, split: str) -> str:
    """The name of a task's data: ``demo:train`` for the desk, ``demo:TASK/train`` for the others.

    Raises:
        UsageError: There is no such task.
    """
    if task not in TASKS:
        raise UsageError(
            f"The demo has no task '{task}'.",
            code="unknown_demo",
            where="task",
            fix=did_you_mean(task, TASKS),
        )
    return f"demo:{split}" if task == "desk" else f"demo:{task}/{split}"


def resolve(name: str | Path) -> Path:
    """A path as it is, or the file behind ``demo:train`` and its like.

    Raises:
        UsageError: ``demo:`` with a name that does not exist.
    """
    text = str(name)
    if not is_demo(text):
        return Path(text).expanduser()
    known = [name_of(task, split) for task in TASKS for split in _SPLITS] + ["demo:dirty"]
    if text not in known:
        raise UsageError(
            f"The demo has no data set '{text.removeprefix('demo:')}'.",
            code="unknown_demo",
            where=text,
            fix=did_you_mean(text, known),
        )
    return _HERE / "data" / f"{text.removeprefix('demo:')}.jsonl"
