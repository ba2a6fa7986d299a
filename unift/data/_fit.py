"""What rows would lose on their way to whoever is asked to train on them.

A vendor takes its own formats only, and a provider of unift writes the others anew. What has no
place there is told before anything is uploaded, as `convert` would tell it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from unift.data._limits import Limits
from unift.data.formats import FORMATS, Format, NothingLeftError, modern, reduce

# A row in one of these can say what the vendor that defines it does not train on: Gemini's and
# OpenAI's pairs are text, Gemini's images are at gs://.
_STRICT = frozenset({"gemini", "gemini-preference", "gemini-rft", "openai-preference"})


class Fit:
    """The formats in which those who were asked train on the rows of one format.

    Args:
        limits: Of those who are asked about; empty: only the format itself counts.
        form: Of the rows.
        allowed: What may be lost (`unift.data.formats.LOSSES`). Keys that nobody reads always may:
            they have findings of their own.
    """

    def __init__(self, limits: Mapping[str, Limits], form: Format, allowed: Iterable[str]) -> None:
        self._form = form
        self._allowed = frozenset((*allowed, "extra"))
        self._targets: dict[str, list[str]] = {}
        for name, one in limits.items():
            target = one.target(form.name)
            if target is not None and (target != form.name or target in _STRICT):
                self._targets.setdefault(target, []).append(name)
        if not limits and form.name in _STRICT:
            self._targets[form.name] = []

    def __bool__(self) -> bool:
        return bool(self._targets)

    @property
    def weights(self) -> bool:
        """True if a weight can be lost."""
        return any("weights" not in FORMATS[target].holds for target in self._targets)

    def losses(self, row: dict[str, Any]) -> list[tuple[str, str, tuple[str, ...]]]:
        """(message, fix, for whom) for each target of a row without errors."""
        found: list[tuple[str, str, tuple[str, ...]]] = []
        for target, names in self._targets.items():
            read = self._form.read(row, _ignore)
            if read is None:
                continue
            gone = lost(modern(read), FORMATS[target])[1]
            refused = {kind: what for kind, what in gone.items() if kind not in self._allowed}
            if refused:
                flags = " ".join(f"--drop {kind}" for kind in refused)
                fix = f"if that may go: unift convert FILE --to {target} --out OUT {flags}"
                found.append((no_place(target, refused), fix, tuple(names)))
        return found


def lost(row: Any, target: Format) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """A row as `target` has it, and what it loses: kind -> what; no row if nothing is left."""
    gone: dict[str, str] = {}

    def lose(kind: str, what: str) -> None:
        gone.setdefault(kind, what)

    try:
        return target.write(reduce(row, target, lose), lose), gone
    except NothingLeftError as error:
        # What has to go is said first: that nothing is left may follow from it alone.
        gone["rows"] = str(error)
        return None, gone


def no_place(target: str, gone: Mapping[str, str]) -> str:
    """The loss in words."""
    what = "; ".join(f"{kind} ({one})" for kind, one in gone.items())
    return f"In {target} there is no place for {what}."


def _ignore(*_: object) -> None:
    """The row was checked before."""
