"""Answers, kept: no question is asked twice of the same model in the same way.

Every answer is written to ``answers.db`` in the data folder as it arrives, so that an evaluation
that was interrupted goes on where it stopped and a repeated one costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from unift._home import home
from unift.errors import UsageError
from unift.evaluate._rows import Message
from unift.provider import Model, Reply, Sampling

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
  key TEXT PRIMARY KEY, model TEXT NOT NULL, reply TEXT NOT NULL, at REAL NOT NULL
) WITHOUT ROWID
"""

Prompt = Sequence[Message]


def answer_key(identity: str, prompt: Prompt, sampling: Sampling) -> str:
    """Digest of everything that an answer depends on."""
    parts = [identity, list(prompt), sampling.model_dump()]
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class AnswerStore:
    """Answers by key in one SQLite file; safe for several threads and processes."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or home() / "answers.db"
        self._lock = threading.Lock()
        with self._guard():
            self._db = sqlite3.connect(
                self.path, timeout=30, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(_SCHEMA)

    @contextmanager
    def _guard(self) -> Generator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.DatabaseError as error:
            raise UsageError(
                f"The store of answers cannot be used: {error}.",
                code="store_broken",
                where=str(self.path),
                fix="free disk space or mend the permissions; moving the file away loses nothing "
                "but answers that would be asked again",
            ) from error

    def get(self, key: str) -> Reply | None:
        with self._guard():
            row = self._db.execute("SELECT reply FROM answers WHERE key=?", (key,)).fetchone()
        return None if row is None else Reply.model_validate_json(row[0])

    def put(self, key: str, model: str, reply: Reply) -> None:
        with self._guard():
            self._db.execute(
                "INSERT OR REPLACE INTO answers VALUES (?,?,?,?)",
                (key, model, reply.model_dump_json(), time.time()),
            )

    def close(self) -> None:
        with self._lock:
            self._db.close()


class Asker:
    """Asks models through the store.

    Args:
        store: Where answers are looked up and kept.
        sampling: How answers are drawn.
        concurrency: Questions under way at a time, each a call of its own; None leaves batching
            and concurrency to the model.
        reuse: False asks again and replaces what was kept.
    """

    def __init__(
        self,
        store: AnswerStore,
        sampling: Sampling,
        *,
        concurrency: int | None = None,
        reuse: bool = True,
    ) -> None:
        self._store = store
        self._sampling = sampling
        self._concurrency = concurrency
        self._reuse = reuse

    def ask(
        self,
        open_model: Callable[[], Model],
        identity: str,
        prompts: Sequence[Prompt],
        on_progress: Callable[[int, int], None],
    ) -> list[Reply]:
        """The answers to `prompts`, in order. The model is opened only if something is missing.

        Equal prompts are asked once. Each new answer is kept before the next is waited for.
        """
        keys = [answer_key(identity, prompt, self._sampling) for prompt in prompts]
        known: dict[str, Reply] = {}
        if self._reuse:
            found = {key: self._store.get(key) for key in dict.fromkeys(keys)}
            known = {key: reply for key, reply in found.items() if reply is not None}
        missing = {k: p for k, p in zip(keys, prompts, strict=True) if k not in known}
        total = len(known) + len(missing)
        on_progress(len(known), total)
        if missing:
            model = open_model()
            todo = list(missing)

            def keep(index: int, reply: Reply) -> None:
                if todo[index] not in known:
                    self._store.put(todo[index], model.reference, reply)
                    known[todo[index]] = reply
                    on_progress(len(known), total)

            self._call(model, [missing[key] for key in todo], keep)
        return [known[key] for key in keys]

    def _call(
        self, model: Model, prompts: list[Prompt], keep: Callable[[int, Reply], None]
    ) -> None:
        if self._concurrency is None:
            # Not every model reports as it goes; what it did not report is kept at the end.
            for index, reply in enumerate(model.chat_many(prompts, self._sampling, keep)):
                keep(index, reply)
            return
        pool = ThreadPoolExecutor(self._concurrency)
        try:
            jobs = {pool.submit(model.chat, p, self._sampling): i for i, p in enumerate(prompts)}
            for job in as_completed(jobs):
                keep(jobs[job], job.result())
        finally:  # after an error or Ctrl-C nothing that has not begun is begun
            pool.shutdown(wait=True, cancel_futures=True)
