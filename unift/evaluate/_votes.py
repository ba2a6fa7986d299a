"""Preference by people: votes on pairs whose sides are hidden, kept on disk one by one."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

from unift._home import home
from unift.errors import UsageError
from unift.evaluate._preference import Pair, Preference

Choice = Literal["own", "other", "tie"]


@dataclass(frozen=True)
class Votes:
    """People say which answer is better, on a page that only this machine can open.

    Attributes:
        file: Where votes are kept, one JSON object a line, appended only; None: ``votes.jsonl`` in
            the data folder. A vote belongs to two texts and a question, so that it counts again
            wherever the same two are compared.
        port: Of the page; 0 takes a free one.
        page: False counts the votes that are there and opens no page.
        seed: Of the order of the rows and of who stands on the left; None: the evaluation's.
    """

    file: str | Path | None = None
    port: int = 0
    page: bool = True
    seed: int | None = None

    def seeded(self, seed: int) -> Votes:
        return self if self.seed is not None else replace(self, seed=seed)

    @property
    def described(self) -> str:
        return f"votes in {self.path}"

    @property
    def path(self) -> Path:
        return Path(self.file).expanduser() if self.file else home() / "votes.jsonl"

    def decide(
        self,
        pairs: Sequence[Pair],
        rivals: Sequence[str],
        *,
        notice: Callable[[str], None] | None,
    ) -> Preference:
        """Let people vote on what has no vote yet, then count.

        Rows are shown in random order, so that the votes of whoever stops early are a fair sample;
        rows without a vote are left out.

        Raises:
            UsageError: There is not one vote; the file cannot be used.
        """
        box = BallotBox(self.path)
        order = list(dict.fromkeys(pair.row for pair in pairs))
        random.Random(f"rows {self.seed}").shuffle(order)
        place = {row: i for i, row in enumerate(order)}
        queue = sorted((one for one in pairs if not one.same), key=lambda one: place[one.row])
        if self.page and any(box.choice(one) is None for one in queue):
            from unift.evaluate._vote_page import serve

            serve(queue, box, self.seed or 0, self.port, notice or _to_stderr)
        decided = {(one.rival, one.row): "tie" if one.same else box.choice(one) for one in pairs}
        complete = [row for row in order if all(decided[name, row] for name in rivals)]
        # Equal answers need no vote, but those that nobody came to would count too often as ties.
        asked = {one.row for one in queue}
        voted = [place[row] for row in complete if row in asked]
        everything = len(complete) == len(order)
        reach = len(order) if everything else max(voted, default=-1)
        rows = sorted(row for row in complete if place[row] <= reach)
        if not rows:
            raise UsageError(
                "There is no vote yet, so nothing can be said.",
                code="no_votes",
                where=str(self.path),
                fix="start it again and vote on the page; answers and votes are kept",
            )
        said: list[str] = []
        if len(rows) < len(order):
            said.append(
                f"Votes cover {len(rows)} of {len(order)} rows; the others were left out for "
                "everybody. The same command goes on where the votes stop."
            )
        worth = {"own": 1.0, "tie": 0.5, "other": 0.0}
        return Preference(
            tuple(rows),
            {name: tuple(worth[str(decided[name, row])] for row in rows) for name in rivals},
            dict.fromkeys(rivals, 0.0),
            {
                "by": "votes",
                "votes": str(self.path),
                "against": [
                    {
                        "b": name,
                        "identical": sum(
                            one.same for one in pairs if one.rival == name and one.row in set(rows)
                        ),
                        "unreadable": 0,
                        "position": None,
                    }
                    for name in rivals
                ],
            },
            tuple(said),
        )


class BallotBox:
    """Votes in a file, appended one line each; the last vote on a pair counts.

    Raises:
        UsageError: The file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._votes: dict[str, str | None] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise self._unusable(error) from error
        for line in data.split(b"\n"):
            # A line that a kill cut short was no vote yet.
            with suppress(ValueError, KeyError, TypeError):
                vote = cast("Mapping[str, Any]", json.loads(line))
                self._votes[str(vote["pair"])] = vote["winner"]

    def choice(self, pair: Pair) -> Choice | None:
        """What was voted; None if nothing was."""
        key = _key(pair)
        if key not in self._votes:
            return None
        winner = self._votes[key]
        return "tie" if winner is None else "own" if winner == _digest(pair.own) else "other"

    def put(self, pair: Pair, choice: Choice, left: Choice) -> None:
        """Keep a vote; it survives the process from here on."""
        winner = {"own": _digest(pair.own), "other": _digest(pair.other), "tie": None}[choice]
        vote = {
            "pair": _key(pair),
            "winner": winner,
            "choice": choice,
            "left": left,
            "rival": pair.rival,
            "question": pair.question[:200],
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        line = json.dumps(vote, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                size = os.fstat(handle).st_size
                torn = size and os.pread(handle, 1, size - 1) != b"\n"
                os.write(handle, b"\n" + line if torn else line)
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise self._unusable(error) from error
        self._votes[_key(pair)] = winner

    def _unusable(self, error: OSError) -> UsageError:
        return UsageError(
            f"The votes cannot be kept: {error.strerror}.",
            code="votes_unusable",
            where=str(self.path),
            fix="give another file: Votes('votes.jsonl') (--votes votes.jsonl)",
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _key(pair: Pair) -> str:
    """The same whichever of the two is under test."""
    return _digest(json.dumps([pair.question, *sorted((_digest(pair.own), _digest(pair.other)))]))


def _to_stderr(text: str) -> None:
    sys.stderr.write(text + "\n")
