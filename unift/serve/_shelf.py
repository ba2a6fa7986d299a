"""What the server keeps beside the run store: uploaded files, and which job is which run."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel

from unift._home import home

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
  seq INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, filename TEXT NOT NULL, bytes INTEGER NOT NULL,
  created_at INTEGER NOT NULL, purpose TEXT NOT NULL, owner TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS jobs (
  seq INTEGER PRIMARY KEY, run TEXT UNIQUE NOT NULL, body TEXT NOT NULL,
  created_at INTEGER NOT NULL, wish TEXT NOT NULL DEFAULT '', owner TEXT NOT NULL DEFAULT '',
  over INTEGER NOT NULL DEFAULT 0);
"""
#: Columns that came later, for a shelf of an earlier version.
_ADDED = {
    "files": {"owner": "TEXT NOT NULL DEFAULT ''"},
    "jobs": {"owner": "TEXT NOT NULL DEFAULT ''", "over": "INTEGER NOT NULL DEFAULT 0"},
}
_CHUNK = 1 << 20


class StoredFile(BaseModel):
    """An uploaded or a result file."""

    id: str
    filename: str
    bytes: int
    created_at: int
    purpose: str
    owner: str

    def as_dict(self) -> dict[str, Any]:
        """The vendor's file object."""
        return {"object": "file", "status": "processed", **self.model_dump(exclude={"owner"})}


class Job(BaseModel):
    """A job: the run that it is, what was asked for, and what its owner wishes now. `over` is set
    once the run has ended and nobody wishes anything of it any more."""

    run: str
    body: dict[str, Any]
    created_at: int
    wish: str  # "", "pause", "resume" or "cancel"
    owner: str  # the name of a key
    over: bool

    @property
    def id(self) -> str:
        return f"ftjob-{self.run}"


class Shelf:
    """Safe for several threads: every call opens its own connection."""

    def __init__(self) -> None:
        self._folder = home() / "serve"
        (self._folder / "files").mkdir(parents=True, exist_ok=True)
        with self._open() as db:
            db.executescript(_SCHEMA)
            for table, columns in _ADDED.items():
                there = {row["name"] for row in db.execute(f"PRAGMA table_info({table})")}
                for column in columns.keys() - there:
                    db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {columns[column]}")

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        db = sqlite3.connect(self._folder / "serve.db", timeout=30)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode=WAL")
            with db:
                yield db
        finally:
            db.close()

    # --- files --------------------------------------------------------------------------------

    def add_file(
        self, name: str, content: BinaryIO, purpose: str, owner: str, file_id: str | None = None
    ) -> StoredFile:
        """Keep a file; one with a given id is kept once."""
        file_id = file_id or f"file-{secrets.token_hex(12)}"
        path = self.path(file_id)
        size = 0
        part = path.with_suffix(f".{secrets.token_hex(4)}.part")
        with part.open("wb") as out:
            while chunk := content.read(_CHUNK):
                size += out.write(chunk)
        part.replace(path)
        with self._open() as db:
            db.execute(
                "INSERT OR IGNORE INTO files (id, filename, bytes, created_at, purpose, owner)"
                " VALUES (?,?,?,?,?,?)",
                (file_id, name, size, int(time.time()), purpose, owner),
            )
        found = self.file(file_id)
        assert found is not None
        return found

    def file(self, file_id: str) -> StoredFile | None:
        with self._open() as db:
            row = db.execute("SELECT * FROM files WHERE id=?", (file_id,)).fetchone()
        return None if row is None else StoredFile(**_columns(row))

    def files(self, purpose: str | None) -> list[StoredFile]:
        """Newest first."""
        with self._open() as db:
            rows = db.execute(
                "SELECT * FROM files WHERE ? IS NULL OR purpose=? ORDER BY seq DESC",
                (purpose, purpose),
            ).fetchall()
        return [StoredFile(**_columns(row)) for row in rows]

    def delete_file(self, file_id: str) -> None:
        with self._open() as db:
            db.execute("DELETE FROM files WHERE id=?", (file_id,))
        self.path(file_id).unlink(missing_ok=True)

    def path(self, file_id: str) -> Path:
        """Where the content lies. Ids are looked up before, so none leads out of the folder."""
        return self._folder / "files" / f"{file_id}.jsonl"

    # --- jobs ---------------------------------------------------------------------------------

    def add_job(self, run: str, body: dict[str, Any], owner: str) -> Job:
        with self._open() as db:
            db.execute(
                "INSERT INTO jobs (run, body, created_at, owner) VALUES (?,?,?,?)",
                (run, json.dumps(body), int(time.time()), owner),
            )
        found = self.job(f"ftjob-{run}")
        assert found is not None
        return found

    def job(self, job_id: str) -> Job | None:
        run = job_id.removeprefix("ftjob-")
        with self._open() as db:
            row = db.execute("SELECT * FROM jobs WHERE run=?", (run,)).fetchone()
        return None if row is None else _job(row)

    def jobs(self) -> list[Job]:
        """Newest first."""
        with self._open() as db:
            return [_job(row) for row in db.execute("SELECT * FROM jobs ORDER BY seq DESC")]

    def open_jobs(self) -> list[Job]:
        """Those that are not over, oldest first."""
        with self._open() as db:
            rows = db.execute("SELECT * FROM jobs WHERE NOT over ORDER BY seq").fetchall()
        return [_job(row) for row in rows]

    def close_job(self, run: str) -> None:
        """Nothing will happen to it any more."""
        with self._open() as db:
            db.execute("UPDATE jobs SET over=1, wish='' WHERE run=?", (run,))

    def wish(self, run: str, wish: str) -> bool:
        """Note what the owner wishes; False if it is the end already, which nothing undoes."""
        with self._open() as db:
            query = "UPDATE jobs SET wish=?, over=0 WHERE run=? AND (wish<>'cancel' OR ?='cancel')"
            return db.execute(query, (wish, run, wish)).rowcount == 1

    def granted(self, job: Job) -> None:
        """Forget the wish that the job had, unless there is another one by now."""
        with self._open() as db:
            db.execute("UPDATE jobs SET wish='' WHERE run=? AND wish=?", (job.run, job.wish))


def _columns(row: sqlite3.Row) -> dict[str, Any]:
    return {key: row[key] for key in row.keys() if key != "seq"}  # noqa: SIM118 - a row is no dict


def _job(row: sqlite3.Row) -> Job:
    return Job(**{**_columns(row), "body": json.loads(row["body"])})
