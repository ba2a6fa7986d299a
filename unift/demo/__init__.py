"""The embedded base model and its task, so that everything can be tried offline.

``demo`` names the model, ``demo:train``, ``demo:validation``, ``demo:test`` and ``demo:dirty`` its
data. How they were made: ``benchmarks/demo_model``.
"""

from __future__ import annotations

from pathlib import Path

from unift._text import did_you_mean
from unift.errors import UsageError

__all__ = ["MODEL", "is_demo", "model_path", "resolve"]

MODEL = "demo"
_HERE = Path(__file__).parent
_SPLITS = ("train", "validation", "test", "dirty")


def model_path() -> Path:
    """The folder of the embedded base model."""
    return _HERE / "model"


def is_demo(name: str) -> bool:
    """True for ``demo:...`` names."""
    return name.startswith("demo:")


def resolve(name: str | Path) -> Path:
    """A path as it is, or the file behind ``demo:train`` and its like.

    Raises:
        UsageError: ``demo:`` with a name that does not exist.
    """
    text = str(name)
    if not is_demo(text):
        return Path(text).expanduser()
    split = text.removeprefix("demo:")
    if split not in _SPLITS:
        raise UsageError(
            f"The demo has no data set '{split}'.",
            code="unknown_demo",
            where=text,
            fix=did_you_mean(text, [f"demo:{known}" for known in _SPLITS]),
        )
    return _HERE / "data" / f"{split}.jsonl"
