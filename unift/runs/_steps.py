"""Steps of longer work in the run store: which was begun, which is done, and with what outcome.

A step is journalled before it starts. One that is found begun but not done was interrupted; its
work is written so that beginning it again repeats nothing that was paid for.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from unift.runs._store import Store

_TABLE = """
CREATE TABLE IF NOT EXISTS steps (
  owner TEXT NOT NULL, step TEXT NOT NULL, state TEXT NOT NULL, digest TEXT NOT NULL,
  attempts INTEGER NOT NULL, started TEXT NOT NULL, finished TEXT, outcome TEXT NOT NULL,
  PRIMARY KEY (owner, step)) WITHOUT ROWID
"""

StepState = Literal["started", "done", "failed"]


@dataclass(frozen=True)
class Step:
    """One step as it stands.

    `digest` names everything that it was made from; `outcome` is what it found (done), what it has
    found so far (started), or the error of its last attempt (failed).
    """

    owner: str
    name: str
    state: StepState
    digest: str
    attempts: int
    started: datetime
    finished: datetime | None
    outcome: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return {
            "step": self.name,
            "state": self.state,
            "attempts": self.attempts,
            "started": self.started.isoformat(),
            "finished": self.finished.isoformat() if self.finished else None,
            "outcome": self.outcome,
        }


class Steps:
    """The steps of one owner, such as ``migration:tickets``."""

    def __init__(self, owner: str, store: Store | None = None) -> None:
        self.owner = owner
        self._store = store or Store()
        with self._store.transaction(write=True) as db:
            db.execute(_TABLE)

    def get(self, name: str) -> Step | None:
        """A step, or None if it was never begun."""
        with self._store.transaction() as db:
            row = db.execute(
                "SELECT * FROM steps WHERE owner=? AND step=?", (self.owner, name)
            ).fetchone()
        return None if row is None else _step(row)

    def all(self) -> list[Step]:
        """Every step that was ever begun, in the order of its last beginning."""
        with self._store.transaction() as db:
            rows = db.execute(
                "SELECT * FROM steps WHERE owner=? ORDER BY started", (self.owner,)
            ).fetchall()
        return [_step(row) for row in rows]

    def start(self, name: str, digest: str) -> Step:
        """Journal that a step begins. What an interrupted attempt noted down stays, if it was made
        from the same things."""
        before = self.get(name)
        same = before is not None and before.digest == digest
        kept = before.outcome if before and same and before.state == "started" else {}
        attempts = before.attempts + 1 if before and same else 1
        with self._store.transaction(write=True) as db:
            db.execute(
                "INSERT OR REPLACE INTO steps VALUES (?,?,?,?,?,?,?,?)",
                (self.owner, name, "started", digest, attempts, _now(), None, json.dumps(kept)),
            )
        found = self.get(name)
        assert found is not None
        return found

    def end(self, name: str, state: StepState, outcome: dict[str, Any]) -> Step:
        """Journal how a step ended."""
        with self._store.transaction(write=True) as db:
            db.execute(
                "UPDATE steps SET state=?, finished=?, outcome=? WHERE owner=? AND step=?",
                (state, _now(), json.dumps(outcome), self.owner, name),
            )
        found = self.get(name)
        assert found is not None
        return found

    def link(self, relation: str, parent: str) -> None:
        """Lineage: what this owner made or used (``run:ID``, ``evaluation:ID``)."""
        self._store.link(self.owner, relation, parent)


def owners(prefix: str) -> list[str]:
    """Every owner of steps whose name begins so, the one that was busy last first."""
    store = Store()
    with store.transaction(write=True) as db:
        db.execute(_TABLE)
        rows = db.execute(
            "SELECT owner FROM steps WHERE substr(owner, 1, ?)=? GROUP BY owner"
            " ORDER BY MAX(started) DESC",
            (len(prefix), prefix),
        ).fetchall()
    return [str(row[0]) for row in rows]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _step(row: sqlite3.Row) -> Step:
    return Step(
        owner=row["owner"],
        name=row["step"],
        state=row["state"],
        digest=row["digest"],
        attempts=row["attempts"],
        started=datetime.fromisoformat(row["started"]),
        finished=datetime.fromisoformat(row["finished"]) if row["finished"] else None,
        outcome=json.loads(row["outcome"]),
    )
