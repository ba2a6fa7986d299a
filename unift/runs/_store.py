"""The durable record of every run: one SQLite file, safe for several processes.

Write-ahead logging lets followers read while a run is being written. ``synchronous=FULL`` makes a
journalled intent survive a power cut, which is the point of journalling it before anything is paid.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from unift._home import home
from unift.errors import RunError, UsageError
from unift.provider import Artifact, Event, Failure, Handle, Plan, State
from unift.runs._states import may_follow

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
  id TEXT PRIMARY KEY, token TEXT NOT NULL UNIQUE, provider TEXT NOT NULL, model TEXT NOT NULL,
  name TEXT, state TEXT NOT NULL, word TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
  resumable INTEGER NOT NULL DEFAULT 0, plan TEXT NOT NULL, handle TEXT, artifact TEXT,
  failure TEXT, cursor TEXT, created TEXT NOT NULL, updated TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
  run TEXT NOT NULL REFERENCES runs(id), seq INTEGER NOT NULL, id TEXT NOT NULL, at TEXT NOT NULL,
  kind TEXT NOT NULL, message TEXT NOT NULL, data TEXT NOT NULL,
  PRIMARY KEY (run, seq), UNIQUE (run, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lineage (
  child TEXT NOT NULL, relation TEXT NOT NULL, parent TEXT NOT NULL,
  PRIMARY KEY (child, relation, parent)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS evaluations (
  id TEXT PRIMARY KEY, created TEXT NOT NULL, summary TEXT NOT NULL);
"""
_VERSION = 1
# No vowels and no look-alikes: ids are read aloud, typed, and never spell anything.
_ALPHABET = "23456789bcdfghjkmnpqrstvwxz"


class Row(BaseModel):
    """A run as it stands in the store."""

    id: str
    token: str
    provider: str
    model: str
    name: str | None
    state: State
    word: str
    message: str
    resumable: bool
    plan: Plan
    handle: Handle | None
    artifact: Artifact | None
    failure: Failure | None
    cursor: str | None
    created: datetime
    updated: datetime


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def new_id() -> str:
    """Ten characters, 27**10 = 2e14 possibilities."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))


class Store:
    """Reads and writes the run store. Cheap to make; every call opens its own transaction."""

    def __init__(self, folder: Path | None = None) -> None:
        self.path = (folder or home()) / "runs.db"
        with self._open(write=True) as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version > _VERSION:
                raise UsageError(
                    "The run store was written by a newer version of unift.",
                    code="store_too_new",
                    where=str(self.path),
                    fix="pip install --upgrade unift, or set UNIFT_HOME to another folder",
                )
            if version < _VERSION:
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version={_VERSION}")

    @contextmanager
    def _open(self, write: bool = False) -> Generator[sqlite3.Connection]:
        """One transaction on a connection of its own; sqlite's complaints become ours."""
        try:
            db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            try:
                db.row_factory = sqlite3.Row
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=FULL")
                db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield db
                except BaseException:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
            finally:
                db.close()
        except sqlite3.DatabaseError as error:
            raise UsageError(
                f"The run store cannot be used: {error}.",
                code="store_broken",
                where=str(self.path),
                fix="free disk space or mend the permissions; as a last resort move the file away",
            ) from error

    def transaction(self, write: bool = False) -> AbstractContextManager[sqlite3.Connection]:
        """One transaction for the other tables of this file (`unift.runs.Steps`)."""
        return self._open(write)

    # --- runs ---------------------------------------------------------------------------------

    def create(self, plan: Plan) -> Row:
        """Journal a planned run. Nothing has been sent anywhere yet."""
        run_id, now = new_id(), _now()
        spec = plan.spec
        with self._open(write=True) as db:
            db.execute(
                "INSERT INTO runs (id, token, provider, model, name, state, plan, created, updated)"
                " VALUES (?,?,?,?,?,?,?,?,?)",
                (
                    run_id,
                    f"unift-{run_id}",
                    spec.provider,
                    spec.model,
                    spec.name,
                    State.PLANNED,
                    plan.model_dump_json(),
                    now,
                    now,
                ),
            )
            for relation, fingerprint in plan.fingerprints.items():
                _link(db, f"run:{run_id}", relation, fingerprint)
            _append(db, run_id, [_state_event(State.PLANNED, "")])
        return self.get(run_id)

    def get(self, run_id: str) -> Row:
        """A run by id or by a prefix of it that no other run shares.

        Raises:
            UsageError: No such run, or several.
        """
        run_id = run_id.removeprefix("run:")
        with self._open() as db:
            row = db.execute("SELECT * FROM runs WHERE id=?", (run_id,)).fetchone()
            if row is None:
                found = db.execute(
                    "SELECT * FROM runs WHERE substr(id, 1, ?)=? LIMIT 2", (len(run_id), run_id)
                ).fetchall()
                if len(found) != 1 or not run_id:
                    raise UsageError(
                        f"{'Several runs start' if found else 'There is no run that starts'}"
                        f" with '{run_id}'.",
                        code="unknown_run",
                        where="run",
                        fix="unift runs list shows every run with its id",
                    )
                row = found[0]
        return _row(row)

    def list(self, *, unfinished: bool = False, limit: int | None = None) -> list[Row]:
        """Runs, newest first; without those of `unreadable`."""
        query, args = "SELECT * FROM runs", []
        if unfinished:
            live = [state for state in State if not state.finished]
            query += f" WHERE state IN ({','.join('?' * len(live))})"
            args = list(live)
        query += " ORDER BY created DESC, rowid DESC"
        if limit is not None:
            query += f" LIMIT {int(limit)}"
        with self._open() as db:
            rows = db.execute(query, args).fetchall()
        found: list[Row] = []
        for row in rows:
            with suppress(UsageError):  # one bad record does not hide the others
                found.append(_row(row))
        return found

    def unreadable(self) -> list[str]:
        """Ids of runs whose record another version wrote, or something damaged."""
        with self._open() as db:
            rows = db.execute("SELECT * FROM runs").fetchall()
        found: list[str] = []
        for row in rows:
            try:
                _row(row)
            except UsageError:
                found.append(row["id"])
        return found

    def update(
        self,
        run_id: str,
        state: State | None = None,
        *,
        expect: Iterable[State] | None = None,
        seen: Row | None = None,
        **fields: Any,
    ) -> Row:
        """Move a run to a state and set fields, in one transaction.

        `expect` makes it a compare-and-set: when the run is in none of these states any more
        (another process was quicker), nothing is written and RunError is raised. `seen` is the
        same for a row that nobody may have changed since: a state alone can come back, as
        `running` does after a failure and a resume.
        """
        with self._open(write=True) as db:
            query = "SELECT state, updated FROM runs WHERE id=?"
            state_now, updated = db.execute(query, (run_id,)).fetchone()
            old = State(state_now)
            moved = seen is not None and datetime.fromisoformat(updated) != seen.updated
            if moved or (expect is not None and old not in set(expect)):
                raise RunError(
                    f"The run is {old} by now; another process was quicker.",
                    code="run_moved_on",
                    where=f"run {run_id}",
                    fix=f"unift runs show {run_id}",
                )
            if state is not None and not may_follow(old, state):
                raise RunError(
                    f"A run that is {old} cannot become {state}.",
                    code="bad_transition",
                    where=f"run {run_id}",
                    fix=f"unift runs show {run_id}",
                )
            values: dict[str, Any] = {"updated": _now()}
            for key, value in fields.items():
                values[key] = value.model_dump_json() if isinstance(value, BaseModel) else value
            if state is not None:
                values["state"] = state
            columns = ", ".join(f"{key}=?" for key in values)
            db.execute(f"UPDATE runs SET {columns} WHERE id=?", (*values.values(), run_id))
            if state is not None and state != old:
                _append(db, run_id, [_state_event(state, str(fields.get("message") or ""))])
                if state is State.SUCCEEDED:
                    _link(db, f"model:run:{run_id}", "trained by", f"run:{run_id}")
        return self.get(run_id)

    # --- events -------------------------------------------------------------------------------

    def append(self, run_id: str, events: Iterable[Event], cursor: str | None = None) -> int:
        """Add events that are not there yet; returns how many were new."""
        with self._open(write=True) as db:
            added = _append(db, run_id, events)
            if cursor is not None:
                db.execute("UPDATE runs SET cursor=? WHERE id=?", (cursor, run_id))
        return added

    def events(self, run_id: str, after: int = 0) -> list[Event]:
        """The events of a run with a sequence number above `after`, in order."""
        with self._open() as db:
            rows = db.execute(
                "SELECT * FROM events WHERE run=? AND seq>? ORDER BY seq", (run_id, after)
            ).fetchall()
        return [_event(row) for row in rows]

    # --- lineage ------------------------------------------------------------------------------

    def add_evaluation(
        self, evaluation_id: str, summary: dict[str, Any], parents: list[str]
    ) -> None:
        """Record an evaluation and what it was made of (``run:ID``, ``data:sha256:...``)."""
        with self._open(write=True) as db:
            db.execute(
                "INSERT OR REPLACE INTO evaluations VALUES (?,?,?)",
                (evaluation_id, _now(), json.dumps(summary)),
            )
            for parent in parents:
                _link(db, f"evaluation:{evaluation_id}", "evaluates", parent)

    def evaluations(self, run_id: str) -> list[dict[str, Any]]:
        """Summaries of the evaluations that a run took part in, oldest first."""
        with self._open() as db:
            rows = db.execute(
                "SELECT e.* FROM evaluations e JOIN lineage l ON l.child = 'evaluation:' || e.id"
                " WHERE l.parent=? ORDER BY e.created",
                (f"run:{run_id}",),
            ).fetchall()
        return [{"id": r["id"], "created": r["created"], **json.loads(r["summary"])} for r in rows]

    def link(self, child: str, relation: str, parent: str) -> None:
        """Record an edge of lineage; the same edge twice is one."""
        with self._open(write=True) as db:
            _link(db, child, relation, parent)

    def lineage(self, run_id: str) -> list[dict[str, str]]:
        """Edges data -> run -> model -> evaluation around one run."""
        node = f"run:{run_id}"
        with self._open() as db:
            rows = db.execute(
                "SELECT * FROM lineage WHERE child=? OR parent=? ORDER BY child, relation, parent",
                (node, node),
            ).fetchall()
        return [dict(row) for row in rows]


def _link(db: sqlite3.Connection, child: str, relation: str, parent: str) -> None:
    db.execute("INSERT OR IGNORE INTO lineage VALUES (?,?,?)", (child, relation, parent))


def _append(db: sqlite3.Connection, run_id: str, events: Iterable[Event]) -> int:
    last = db.execute("SELECT COALESCE(MAX(seq), 0) FROM events WHERE run=?", (run_id,)).fetchone()
    seq = first = int(last[0])
    for event in events:
        done = db.execute(
            "INSERT OR IGNORE INTO events VALUES (?,?,?,?,?,?,?)",
            (
                run_id,
                seq + 1,
                event.id,
                event.at.isoformat(),
                event.kind,
                event.message,
                json.dumps(event.data),
            ),
        )
        seq += done.rowcount
    return seq - first


def _state_event(state: State, message: str) -> Event:
    return Event(
        id=f"unift-{state}-{secrets.token_hex(4)}",
        at=datetime.now(UTC),
        kind="status",
        message=message or state.value,
        data={"status": state.value},
    )


def _event(row: sqlite3.Row) -> Event:
    try:
        data = json.loads(row["data"])
    except ValueError:
        data = {"unreadable": row["data"]}
    return Event(
        id=row["id"],
        at=datetime.fromisoformat(row["at"]),
        kind=row["kind"],
        message=row["message"],
        data=data,
        seq=row["seq"],
    )


def _row(row: sqlite3.Row) -> Row:
    """The record of a run.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        return _parsed(row)
    except ValueError as error:  # pydantic's is one
        raise UsageError(
            f"The record of this run cannot be read ({type(error).__name__}).",
            code="record_broken",
            where=f"run {row['id']}",
            fix="use the version of unift that made it; the other runs are not concerned",
        ) from error


def _parsed(row: sqlite3.Row) -> Row:
    def parsed(cls: type[BaseModel], column: str) -> Any:
        return None if row[column] is None else cls.model_validate_json(row[column])

    return Row(
        id=row["id"],
        token=row["token"],
        provider=row["provider"],
        model=row["model"],
        name=row["name"],
        state=State(row["state"]),
        word=row["word"],
        message=row["message"],
        resumable=bool(row["resumable"]),
        plan=Plan.model_validate_json(row["plan"]),
        handle=parsed(Handle, "handle"),
        artifact=parsed(Artifact, "artifact"),
        failure=parsed(Failure, "failure"),
        cursor=row["cursor"],
        created=datetime.fromisoformat(row["created"]),
        updated=datetime.fromisoformat(row["updated"]),
    )
