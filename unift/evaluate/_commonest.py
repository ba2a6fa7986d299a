"""The baseline that costs nothing: one answer to everything, the commonest one.

On unequal classes it is right more often than one expects, and a model that does not beat it has
learnt nothing but which class is the largest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from unift.evaluate._metrics import label_of
from unift.evaluate._rows import Row
from unift.provider import Messages, Reply, Sampling

NAME = "commonest"
_SHOWN = 40  # characters of the answer in a sentence


class Always:
    """A `Model` that says the same whatever it is asked.

    Attributes:
        text: What it says.
        about: What it says and why, in one sentence.
    """

    reference = NAME

    def __init__(self, text: str, about: str) -> None:
        self.text, self.about = text, about

    @property
    def phrase(self) -> str:
        """How a verdict speaks of it."""
        return f"always answering {_quoted(self.text)}"

    def chat(self, messages: Messages, sampling: Sampling | None = None) -> Reply:
        """The answer."""
        return Reply(text=self.text)

    def chat_many(
        self,
        conversations: Sequence[Messages],
        sampling: Sampling | None = None,
        on_reply: Callable[[int, Reply], None] | None = None,
    ) -> list[Reply]:
        """The answer, so many times."""
        return [Reply(text=self.text) for _ in conversations]

    def close(self) -> None:
        """Nothing is held open."""


def commonest(rows: Sequence[Row], where: str) -> Always:
    """The commonest answer of some rows, which are called `where` in its sentence.

    Labels are counted as they are compared (`label_of`); of its spellings the commonest is given,
    and of equally common labels the first.
    """
    labels = Counter(label_of(row.target) for row in rows)
    label, n = labels.most_common(1)[0]
    text = Counter(row.target for row in rows if label_of(row.target) == label).most_common(1)[0][0]
    return Always(
        text,
        f"Always {_quoted(text)}, the commonest answer in {where} ({n:,} of {len(rows):,} rows); "
        "it costs nothing.",
    )


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return f"'{line[:_SHOWN]}…'" if len(line) > _SHOWN else f"'{line}'"
