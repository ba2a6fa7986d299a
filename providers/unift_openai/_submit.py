"""One paid call, made at most once for a token.

The order is: intent on disk, look, upload, mark on disk that the call is about to be made, call.
A refusal (4xx) means that no job exists. Everything else that is not an answer (a cut connection,
a 5xx) leaves a doubt, and a doubt is settled by looking, never by calling again: a job that was
created may take a while to be listed, so until `Host.settle_seconds` have passed since the call,
"not in the list" is no proof of anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import httpx2
import openai

from unift.errors import LostError, ProviderError, UniftError, UsageError
from unift.provider import Plan
from unift.remote import clock
from unift_openai import _shutdown
from unift_openai._calls import client, our_words, politely, redact, retry_after, translate
from unift_openai._intent import Intent, Upload
from unift_openai._plan import content, digest
from unift_openai.hosts import Site

TOKEN_KEY = "unift_token"
_LOOKS = (1.0, 2.0, 4.0, 8.0)  # seconds before each look after a doubt
_ATTEMPTS = 6  # at a create call that the host refuses because it is busy
_PAGE = 100


def pages(first: Callable[[], Any], attempts: int = 6) -> Iterator[Any]:
    """Every item of a paged list once, also when the list changes while it is read."""
    page = politely(first, attempts)
    seen: set[str] = set()
    while True:
        fresh = [item for item in page.data or () if item.id not in seen]
        seen.update(item.id for item in fresh)
        yield from fresh
        if not fresh or not page.has_next_page():
            return
        page = politely(page.get_next_page, attempts)


def look(place: Site, intent: Intent | None, token: str) -> str | None:
    """The id of the job that carries a token, from the host's own list."""
    api = client(place)
    jobs = api.fine_tuning.jobs
    if place.host.keeps_metadata:
        mark = {TOKEN_KEY: token}
        for job in pages(lambda: jobs.list(metadata=mark, limit=_PAGE)):
            # A host that ignores the filter lists everybody's jobs.
            if (job.metadata or {}).get(TOKEN_KEY) == token:
                return str(job.id)
        return None
    files = {intent.uploads["data"].id} if intent and "data" in intent.uploads else set[str]()
    name = _file_name(place, token, "data", "")
    files |= {
        file.id
        for file in pages(lambda: api.files.list(purpose="fine-tune", limit=_PAGE))
        if file.filename == name
    }
    if not files:
        return None
    for job in pages(lambda: jobs.list(limit=_PAGE)):
        if job.training_file in files:
            return str(job.id)
    return None


def settled(place: Site, intent: Intent | None) -> float:
    """Seconds until "not in the list" is a proof; 0 when it is one already."""
    return intent.settled_in(place.host.settle_seconds) if intent is not None else 0.0


class Submission:
    """One token on its way to one host."""

    def __init__(self, place: Site, plan: Plan, intent: Intent) -> None:
        self.place = place
        self.plan = plan
        self.intent = intent
        self.name = plan.spec.provider
        self.api = client(place)

    def run(self) -> str:
        """Upload, create; returns the id of the job.

        Raises:
            ProviderError, UsageError, LimitError: Certainly no job exists; uploads are deleted.
            LostError: It could not be found out whether one does.
        """
        try:
            self._still_possible()
            with our_words(self.place, "upload"):
                for part, path in self.plan.payload["files"].items():
                    self._upload(part, Path(path))
        except UniftError:
            self.discard()
            raise
        return self._create()

    def _still_possible(self) -> None:
        payload, spec = self.plan.payload, self.plan.spec
        ends = _shutdown.deadlines(self.place, spec.model, ask=False)
        if payload["shutdown"]:
            said = date.fromisoformat(payload["shutdown"])
            ends = replace(ends, shutdown=said, source="the plan")
        _shutdown.check(ends, spec, bool(payload["accept_shutdown"]))
        for part, path in self.plan.payload["files"].items():
            if not Path(path).is_file() or digest(Path(path)) != self.plan.payload["sha256"][part]:
                raise UsageError(
                    "The data changed between planning and training.",
                    code="data_changed",
                    where=path,
                    fix="plan again",
                )

    # --- uploads ------------------------------------------------------------------------------

    def _upload(self, part: str, path: Path) -> None:
        raw, sha = content(path), self.plan.payload["sha256"][part]
        name = _file_name(self.place, self.intent.token, part, sha)

        def attempt() -> Upload:
            for file in pages(lambda: self.api.files.list(purpose="fine-tune", limit=_PAGE), 1):
                if (file.filename, file.bytes) == (name, len(raw)) and file.status != "error":
                    return Upload(id=file.id, ours=name in self.intent.begun, name=name)
            if name not in self.intent.begun:
                self.intent.begun.append(name)
                self.intent.save(self.name)
            made = self.api.files.create(file=(name, raw), purpose="fine-tune", timeout=600.0)
            return Upload(id=made.id, ours=True, name=name)

        # Repeating is safe: every attempt looks first, and a stray copy costs nothing.
        self.intent.uploads[part] = politely(attempt)
        self.intent.save(self.name)

    def discard(self) -> str:
        """Delete the uploads of this submission that no job uses; says what became of them."""
        from unift_openai import _leftovers

        try:
            done, kept = _leftovers.delete(self.place, self.intent)
        except openai.OpenAIError as error:
            remembered = _leftovers.remembered(self.place, self.intent)
            done, kept = [], [(one, type(error).__name__) for one in remembered]
        told = [f"The uploaded file {one.id} was deleted again." for one in done]
        told += [
            f"The uploaded file {one.id or one.name} could not be deleted ({redact(why)}) and "
            f"stays at {self.place.host.name}; unift runs reconcile --delete-orphans deletes it."
            for one, why in kept
        ]
        return " ".join(told)

    # --- the call that costs money ------------------------------------------------------------

    def _body(self) -> dict[str, Any]:
        body = {
            **self.plan.payload["body"],
            "training_file": self.intent.uploads["data"].id,
        }
        if "validation" in self.intent.uploads:
            body["validation_file"] = self.intent.uploads["validation"].id
        if self.place.host.keeps_metadata:
            body["metadata"] = {TOKEN_KEY: self.intent.token}
        return body

    def _create(self) -> str:
        body = self._body()
        for attempt in range(_ATTEMPTS):
            self._mark(clock.now())
            try:
                job = str(self.api.fine_tuning.jobs.create(**body).id)
            except openai.RateLimitError as error:
                # The one refusal that may be followed by another call: the host did nothing.
                self._mark(None)
                if error.code == "insufficient_quota" or attempt == _ATTEMPTS - 1:
                    raise self._refused(error) from error
                asked = retry_after(error)
                clock.sleep(min(60.0, 2.0**attempt if asked is None else asked))
            except openai.APIStatusError as error:
                if error.status_code >= 500 or error.status_code in (408, 409):
                    return self._doubt(error)
                self._mark(None)
                raise self._refused(error) from error
            except openai.APIConnectionError as error:
                if isinstance(error.__cause__, httpx2.ConnectError):  # it was never sent
                    self._mark(None)
                    raise self._refused(error) from error
                return self._doubt(error)
            except (AttributeError, TypeError, ValueError) as error:
                return self._doubt(error)  # not the API's words: perhaps of a proxy in between
            else:
                return self._made(job)
        raise AssertionError("the last attempt returns or raises")

    def _made(self, job: str) -> str:
        self.intent.job, self.intent.attempted = job, None
        self.intent.save(self.name)
        return job

    def _mark(self, when: float | None) -> None:
        self.intent.attempted = when
        self.intent.save(self.name)

    def _doubt(self, cause: Exception) -> str:
        for seconds in _LOOKS:
            clock.sleep(seconds)
            try:
                job = look(self.place, self.intent, self.intent.token)
            except openai.OpenAIError:
                continue
            if job is not None:
                return self._made(job)
        raise LostError(
            f"{self.place.host.name} gave no answer to the order ({redact(str(cause))}), and no "
            "job of this run is listed yet. It is not ordered again until that is certain.",
            code="create_unanswered",
            where=self.intent.token,
            fix=f"in {self.place.host.settle_seconds:.0f} seconds: unift runs reconcile",
        ) from cause

    def _refused(self, error: openai.OpenAIError) -> UniftError:
        told = self.discard()
        if getattr(error, "code", None) == _shutdown.REFUSED_CODE:
            ends = _shutdown.deadlines(self.place, self.plan.spec.model, ask=True)
            return _shutdown.refused(ends, self.plan.spec, told)
        found = translate(error, self.place, f"model {self.plan.spec.model}")
        found.message += f" {told}" if told else ""
        return found


def recover(place: Site, intent: Intent, error: ProviderError) -> UniftError:
    """What to raise when looking failed before anything else: lost only if a job may exist."""
    if intent.attempted is None:
        return error
    return LostError(
        f"An earlier order of this run had no answer, and now: {error.message}",
        code="create_unanswered",
        where=intent.token,
        fix=f"in {settled(place, intent):.0f} seconds: unift runs reconcile",
    )


def _file_name(place: Site, token: str, part: str, sha: str) -> str:
    """By content where the token travels in metadata, so that nothing is uploaded twice; else by
    token, because then the file is what tells one run's job from another's."""
    if place.host.keeps_metadata:
        return f"unift-{sha[:40]}.jsonl"
    return f"unift-{token}-{part}.jsonl"
