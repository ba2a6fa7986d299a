"""What costs more than reading: near duplicates, secrets and personal data, languages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from unift.data._finding import Path
from unift.data._language import Languages
from unift.data._near import NearRows
from unift.data._private import Private
from unift.data._whole import Lines

Say = Callable[[str, str, int, str], Any]
SayAt = Callable[[str, str, int, Path, str], Any]
"""``say_at(code, file, line, path, message)``"""


class Deep:
    """The deep checks of one file."""

    def __init__(self, file: str, private: Private, say_at: SayAt) -> None:
        self._file = file
        self._private = private
        self._say_at = say_at
        self._languages = Languages(file)
        self._near = NearRows(file)  # last: whoever makes it has to close it

    def add(self, line: int, roles: Sequence[str], texts: Sequence[str]) -> None:
        """Look at one good row."""
        said = [
            text
            for role, text in zip(roles, texts, strict=True)
            if role not in ("system", "developer")
        ]
        self._near.add(line, said)
        self._languages.add(line, texts[-1])
        self._private.check(
            texts,
            lambda code, index, message: self._say_at(
                code, self._file, line, ("messages", index), message
            ),
        )

    def close(self) -> None:
        """Take away what is on disk."""
        self._near.close()

    def report(self, say: Say, repeats: Lines) -> None:
        """Findings within the file; `repeats` are lines that are told already."""
        self._near.report(say, repeats)
        self._languages.report(say)

    def report_leaks(self, held: Deep, say: Say, known: Lines) -> None:
        """Findings about rows of `held` that are nearly in this file."""
        self._near.report_leaks(held._near, say, known)
