"""Answers, kept: no question is asked twice of the same model in the same way.

Every answer is written to ``answers.db`` in the data folder as it arrives, so that an evaluation
that was interrupted goes on where it stopped and a repeated one costs nothing.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unift._home import home
from unift.errors import LimitError, ProviderError, UsageError
from unift.evaluate._rows import Message, text_of
from unift.provider import Model, Reply, Sampling

if TYPE_CHECKING:
    from unift.evaluate._cost import Purse

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
  key TEXT PRIMARY KEY, model TEXT NOT NULL, reply TEXT NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS asking (
  key TEXT PRIMARY KEY, model TEXT NOT NULL, pid INTEGER NOT NULL, at REAL NOT NULL
) WITHOUT ROWID
"""

Prompt = Sequence[Message]


Tools = Sequence[Message]

# What a model refuses whatever is asked.
_NOT_THE_QUESTION = frozenset({"bad_key", "insufficient_quota", "unreachable"})
_SHOWN = 60  # characters of a question in an error


def answer_key(identity: str, prompt: Prompt, sampling: Sampling, tools: Tools = ()) -> str:
    """Digest of everything that an answer depends on."""
    parts: list[Any] = [identity, list(prompt), sampling.model_dump()]
    if tools:
        parts.append(list(tools))
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
            self._db.executescript(_SCHEMA)

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
        return None if row is None else Reply.model_validate(json.loads(row[0]))

    def begin(self, key: str, model: str) -> None:
        """Note that a question is about to be asked, which may cost money."""
        with self._guard():
            self._db.execute(
                "INSERT OR REPLACE INTO asking VALUES (?,?,?,?)",
                (key, model, os.getpid(), time.time()),
            )

    def give_up(self, key: str) -> None:
        """The question was refused."""
        with self._guard():
            self._db.execute("DELETE FROM asking WHERE key=?", (key,))

    def in_doubt(self, keys: Iterable[str]) -> int:
        """How many of these questions were under way when their process was killed."""
        with self._guard():
            rows = self._db.execute("SELECT key, pid FROM asking").fetchall()
        wanted = set(keys)
        return sum(1 for key, pid in rows if key in wanted and not _alive(int(pid)))

    def put(self, key: str, model: str, reply: Reply) -> None:
        """Keep an answer; it survives the process from here on."""
        with self._guard():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute(
                    "INSERT OR REPLACE INTO answers VALUES (?,?,?,?)",
                    (key, model, _as_json(reply), time.time()),
                )
                self._db.execute("DELETE FROM asking WHERE key=?", (key,))
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _as_json(reply: Reply) -> str:
    """In ASCII: an answer may hold half of a surrogate pair, which UTF-8 cannot."""
    return json.dumps(reply.model_dump(mode="python"))


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False  # whoever looks is not asking
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@dataclass(frozen=True)
class Question:
    """What is asked: messages, and the tools on offer."""

    prompt: Prompt
    tools: Tools = ()


class Asker:
    """Asks models through the store.

    Args:
        store: Where answers are looked up and kept.
        sampling: How answers are drawn.
        concurrency: Questions under way at a time, each a call of its own; None leaves batching
            and concurrency to the model.
        reuse: False asks again and replaces what was kept.
        purse: Where every call is paid from; None where nothing is counted.
    """

    def __init__(
        self,
        store: AnswerStore,
        sampling: Sampling,
        *,
        concurrency: int | None = None,
        reuse: bool = True,
        purse: Purse | None = None,
    ) -> None:
        self._store = store
        self._sampling = sampling
        self._concurrency = concurrency
        self._reuse = reuse
        self._purse = purse
        self.in_doubt = 0

    def missing(self, identity: str, questions: Sequence[Question]) -> dict[str, Question]:
        """The different questions that have no answer yet, by key."""
        keyed = {self._key(identity, one): one for one in questions}
        if not self._reuse:
            return keyed
        return {key: one for key, one in keyed.items() if self._store.get(key) is None}

    def ask(
        self,
        open_model: Callable[[], Model],
        identity: str,
        questions: Sequence[Question],
        on_progress: Callable[[int, int], None],
    ) -> list[Reply]:
        """The answers to `questions`, in order. The model is opened only if something is missing.

        Equal questions are asked once. Each answer is kept the moment it comes, by the thread that
        it came to: after Ctrl-C those under way are waited for and kept as well.

        Raises:
            LimitError: The purse does not hold what the next question may cost.
            UsageError: There are tools on offer, and the model cannot be given any.
        """
        keys = [self._key(identity, one) for one in questions]
        known: dict[str, Reply] = {}
        if self._reuse:
            found = {key: self._store.get(key) for key in dict.fromkeys(keys)}
            known = {key: reply for key, reply in found.items() if reply is not None}
        missing = {k: q for k, q in zip(keys, questions, strict=True) if k not in known}
        total = len(known) + len(missing)
        on_progress(len(known), total)
        if missing:
            self.in_doubt += self._store.in_doubt(missing)
            model = open_model()
            if any(one.tools for one in missing.values()):
                _need_tools(model)
            lock = threading.Lock()

            def keep(key: str, reply: Reply) -> None:
                with lock:
                    if key in known:
                        return
                    known[key] = reply
                    done = len(known)
                self._store.put(key, model.reference, reply)
                if threading.current_thread() is threading.main_thread():
                    on_progress(done, total)

            if self._concurrency is None:
                self._batches(model, missing, keep)
            else:
                self._calls(model, missing, keep, lambda: on_progress(len(known), total))
        return [known[key] for key in keys]

    def _key(self, identity: str, one: Question) -> str:
        return answer_key(identity, one.prompt, self._sampling, one.tools)

    def _batches(
        self, model: Model, missing: Mapping[str, Question], keep: Callable[[str, Reply], None]
    ) -> None:
        """All questions with the same tools at once; the model forms its batches itself."""
        alike: dict[str, list[str]] = {}
        for key, one in missing.items():
            alike.setdefault(json.dumps(one.tools, sort_keys=True), []).append(key)
        for keys in alike.values():
            prompts = [missing[key].prompt for key in keys]
            tools = missing[keys[0]].tools

            def on_reply(index: int, reply: Reply, keys: list[str] = keys) -> None:
                keep(keys[index], reply)

            extra: dict[str, Any] = {"tools": tools} if tools else {}
            # Not every model reports as it goes; what it did not report is kept at the end.
            for index, reply in enumerate(
                model.chat_many(prompts, self._sampling, on_reply, **extra)
            ):
                keep(keys[index], reply)

    def _calls(
        self,
        model: Model,
        missing: Mapping[str, Question],
        keep: Callable[[str, Reply], None],
        told: Callable[[], None],
    ) -> None:
        """So many calls at a time, each kept by its own thread."""
        stop, lock, lost = threading.Event(), threading.Lock(), 0

        def book_lost(one: Question) -> None:
            """What the model asked for again, after an answer that never came."""
            nonlocal lost
            with lock:
                more = getattr(model, "lost", 0) - lost
                lost += more
            if self._purse and more:
                self._purse.lose(one, more)

        def one_call(key: str) -> None:
            if stop.is_set():
                return
            one = missing[key]
            try:
                cost = self._purse.reserve(one) if self._purse else 0.0
            except LimitError:
                stop.set()
                raise
            self._store.begin(key, model.reference)
            extra: dict[str, Any] = {"tools": one.tools} if one.tools else {}
            try:
                reply = model.chat(one.prompt, self._sampling, **extra)
            except BaseException as error:
                stop.set()
                self._store.give_up(key)
                book_lost(one)
                if self._purse:
                    self._purse.settle(cost, None)
                named = _named(error, one)
                if named is error:
                    raise
                raise named from error
            keep(key, reply)
            book_lost(one)
            if self._purse:
                self._purse.settle(cost, reply)

        pool = ThreadPoolExecutor(self._concurrency)
        try:
            jobs = [pool.submit(one_call, key) for key in missing]
            for job in as_completed(jobs):
                job.result()
                told()
        finally:  # after an error or Ctrl-C nothing that has not begun is begun
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _named(error: BaseException, one: Question) -> BaseException:
    """A refusal with the question that it is about: one row of many may be too long for a model."""
    if not isinstance(error, ProviderError) or error.code in _NOT_THE_QUESTION:
        return error
    said = " ".join(text_of(one.prompt[-1]).split()) if one.prompt else ""
    short = said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"
    long = "context_length" in error.code
    fix = "leave out such rows, or take a model with more room" if long else error.fix
    return ProviderError(
        f"{error.message.rstrip('.')}. The question was '{short}'.",
        code=error.code,
        where=error.where,
        fix=f"{fix}; answers so far are kept",
    )


def _need_tools(model: Model) -> None:
    if "tools" in inspect.signature(model.chat).parameters:
        return
    raise UsageError(
        f"{model.reference} cannot be given tools, and some test rows offer them.",
        code="no_tools",
        where=model.reference,
        fix="take these rows out, or give a model whose chat() has an argument 'tools'",
    )
