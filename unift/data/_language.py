"""Which languages the answers are in (py3langid: Lui and Baldwin 2012, retrained and kept)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from unift.errors import MissingDependency

# Shorter texts are guessed badly; a set is judged by a sample of its rows.
_SHORTEST = 60
_SAMPLE = 2000
_SURE = 0.98
_FEW = 20

Say = Callable[[str, str, int, str], Any]


class Languages:
    """The languages of the last message of each row."""

    def __init__(self, file: str) -> None:
        try:
            from py3langid.langid import (  # pyright: ignore[reportMissingTypeStubs]  # has none
                MODEL_FILE,
                LanguageIdentifier,
            )
        except ImportError:
            raise MissingDependency(
                "Telling languages apart needs py3langid.",
                where="deep",
                fix="pip install 'unift[data]'",
            ) from None
        self.file = file
        identifier: Any = LanguageIdentifier
        self._identify: Any = identifier.from_model_file(MODEL_FILE, norm_probs=True)
        self._counts: Counter[str] = Counter()
        self._first: dict[str, int] = {}

    def add(self, line: int, answer: str) -> None:
        """Take in one answer, unless enough were seen or it is too short or too mixed to tell."""
        if len(answer) < _SHORTEST or self._counts.total() >= _SAMPLE:
            return
        # Code, markup and records are no language.
        letters = sum(char.isalpha() or char.isspace() for char in answer[:400])
        if letters < 0.85 * len(answer[:400]):
            return
        language, sure = self._identify.classify(answer[:400])
        if sure >= _SURE:
            self._counts[language] += 1
            self._first.setdefault(language, line)

    def report(self, say: Say) -> None:
        """One finding if a few answers are in another language than most."""
        total = self._counts.total()
        if total < _FEW or len(self._counts) < 2:
            return
        [(most, count)] = self._counts.most_common(1)
        others = {name: number for name, number in self._counts.items() if name != most}
        if count >= 0.8 * total:
            listing = ", ".join(
                f"{name} ({number}, first in line {self._first[name]})"
                for name, number in sorted(others.items(), key=lambda item: -item[1])[:5]
            )
            message = f"{count} of {total} answers looked at are in {most}, others in {listing}."
            say("UD608", self.file, 0, message)
