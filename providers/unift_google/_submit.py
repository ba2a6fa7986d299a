"""One paid call, made at most once for a token.

The order is: intent on disk, look, upload, mark on disk that the call is about to be made, call.
A refusal (4xx) means that no job exists. Everything else that is not an answer (a cut connection,
a 5xx, an answer that cannot be read) leaves a doubt, and a doubt is settled by looking, never by
calling again. The token travels in the job's labels.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import httpx2
from google.auth import exceptions as auth
from google.genai import errors, types

from unift.errors import LostError, ProviderError, UniftError
from unift.provider import Plan
from unift.remote import Intent, clock
from unift_google import _data, _storage
from unift_google._calls import (
    FAILED,
    client,
    our_words,
    politely,
    quietly,
    redact,
    retry_after,
    status_of,
    translate,
)
from unift_google.site import Site

LABEL = "unift_token"
#: After this long a created job is certainly in the list of jobs.
SETTLE_SECONDS = 120.0
_LOOKS = (1.0, 2.0, 4.0, 8.0)  # seconds before each look after a doubt
_ATTEMPTS = 6  # at a create call that Google refuses because it is busy
_PAGE = 100
# What a label value may be: lower case letters, digits, dashes and underscores, at most 63
# (types.CreateTuningJobConfig.labels; docs.cloud.google.com, "Labels overview").
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")


class GoogleIntent(Intent):
    """One order to Google."""

    project: str
    location: str


def label(token: str) -> str:
    """The token as a label value: itself, or its hash where it has other characters."""
    return token if _LABEL.fullmatch(token) else hashlib.sha256(token.encode()).hexdigest()[:60]


def jobs(place: Site, attempts: int = 6) -> list[Any]:
    """Every tuning job of a place, newest first or not, each once.

    No filter is sent: whether the list can be filtered by labels is not documented, and a filter
    that quietly finds nothing would make a second job of every lost answer.
    """
    api = client(place).tunings
    seen: dict[str, Any] = {}
    with quietly():
        page = politely(lambda: api.list(config={"page_size": _PAGE}), attempts)
        while True:
            for job in page.page:
                seen.setdefault(str(job.name), job)
            if not page.config.get("page_token"):
                return list(seen.values())
            politely(page.next_page, attempts)


def look(place: Site, token: str) -> str | None:
    """The name of the job that carries a token, from Google's own list."""
    wanted = label(token)
    for job in jobs(place):
        if (job.labels or {}).get(LABEL) == wanted:
            return str(job.name)
    return None


class Submission:
    """One token on its way."""

    def __init__(self, place: Site, plan: Plan, intent: GoogleIntent) -> None:
        self.place = place
        self.plan = plan
        self.intent = intent

    def run(self) -> str:
        """Upload, create; returns the name of the job.

        Raises:
            ProviderError, UsageError, DataError: Certainly no job exists.
            LostError: It could not be found out whether one does.
        """
        uris = {name: self._upload(part) for name, part in self.plan.payload["parts"].items()}
        return self._create(uris)

    def _upload(self, part: dict[str, Any]) -> str:
        if part["uri"]:
            return str(part["uri"])
        made = _data.write(part, tuple(self.plan.payload["drop"]))
        uri = f"{self.place.bucket}/data/{part['sha256'][:40]}.jsonl"
        with our_words(uri):
            _storage.upload(self.place, uri, made)
        return uri

    def _request(
        self, uris: dict[str, str]
    ) -> tuple[types.TuningDataset, types.CreateTuningJobConfig]:
        given = dict(self.plan.payload["config"])
        given["labels"] = {LABEL: label(self.intent.token)}
        if "tuning_mode" in given:
            given["output_uri"] = output_uri(self.place, self.intent.token)
        if "validation" in uris:
            given["validation_dataset"] = {"gcs_uri": uris["validation"]}
        return (
            types.TuningDataset(gcs_uri=uris["data"]),
            types.CreateTuningJobConfig.model_validate(given),
        )

    def _create(self, uris: dict[str, str]) -> str:
        data, config = self._request(uris)
        api = client(self.place).tunings
        model = self.plan.payload["model"]
        for attempt in range(_ATTEMPTS):
            self._mark(clock.now())
            try:
                with quietly():
                    job = api.tune(base_model=model, training_dataset=data, config=config)
            except errors.APIError as error:
                status = status_of(error) or 500
                if status >= 500 or status in (408, 409):
                    return self._doubt(error)
                self._mark(None)  # a refusal: nothing was started
                # The one refusal that may be followed by another call.
                if status != 429 or attempt == _ATTEMPTS - 1:
                    raise self._refused(error) from error
                asked = retry_after(error)
                clock.sleep(min(60.0, 2.0**attempt if asked is None else asked))
            except (httpx2.ConnectError, auth.GoogleAuthError) as error:
                self._mark(None)  # it was never sent
                raise self._refused(error) from error
            except (*FAILED, ValueError) as error:
                return self._doubt(error)
            else:
                if not job.name:
                    return self._doubt(ValueError("the answer names no job"))
                return self._made(job.name)
        raise AssertionError("the last attempt returns or raises")

    def _made(self, job: str) -> str:
        self.intent.job, self.intent.attempted = job, None
        self.intent.save("google")
        return job

    def _mark(self, when: float | None) -> None:
        self.intent.attempted = when
        self.intent.save("google")

    def _doubt(self, cause: Exception) -> str:
        for seconds in _LOOKS:
            clock.sleep(seconds)
            try:
                job = look(self.place, self.intent.token)
            except (*FAILED, ValueError):
                continue
            if job is not None:
                return self._made(job)
        raise LostError(
            f"Google gave no answer to the order ({redact(str(cause))[:200]}), and no job of this "
            "run is listed yet. It is not ordered again until that is certain.",
            code="create_unanswered",
            where=self.intent.token,
            fix=f"in {SETTLE_SECONDS:.0f} seconds: unift runs reconcile",
        ) from cause

    def _refused(self, error: Exception) -> UniftError:
        found = translate(error, f"model {self.plan.payload['model']}")
        found.message += (
            f" Nothing was started or paid. The rows stay in {self.place.bucket} and are not "
            "uploaded again."
        )
        return found


def output_uri(place: Site, token: str) -> str:
    """Where the weights of a run go: a folder of its own."""
    return f"{place.bucket}/runs/{label(token)}"


def recover(intent: GoogleIntent, error: ProviderError) -> UniftError:
    """What to raise when looking failed before anything else: lost only if a job may exist."""
    if intent.attempted is None:
        return error
    return LostError(
        f"An earlier order of this run had no answer, and now: {error.message}",
        code="create_unanswered",
        where=intent.token,
        fix=f"in {intent.settled_in(SETTLE_SECONDS):.0f} seconds: unift runs reconcile",
    )
