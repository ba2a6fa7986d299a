"""The provider: Gemini and open models on Google's platform."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unift.errors import MissingDependency, ProviderError, RunError, UniftError
from unift.holdings import HeldFile, Holdings
from unift.provider import Artifact, Capabilities, Event, Handle, Model, Plan, State, Status
from unift.spec import TrainSpec
from unift.verbs import Check
from unift_google import families
from unift_google import site as sites
from unift_google.options import GoogleOptions
from unift_google.site import Site

if TYPE_CHECKING:
    from unift_google._submit import GoogleIntent

_POLL_SECONDS = 30.0


class Google:
    """Tuning through `google-genai`, data and weights through `google-cloud-storage`."""

    name = "google"

    def check(self) -> None:
        """Raise MissingDependency unless the SDKs are installed. Imports nothing."""
        for package, module in (
            ("google-genai", "google.genai"),
            ("google-cloud-storage", "google.cloud.storage"),
        ):
            try:
                there = find_spec(module) is not None
            except ModuleNotFoundError:
                there = False
            if not there:
                raise MissingDependency(
                    f"Provider 'google' needs the {package} package.",
                    where="provider",
                    fix="pip install 'unift[google]'",
                )

    def checks(self) -> Sequence[Check]:
        """Credentials, project, location and bucket, for `unift doctor`; no network."""
        return sites.checks()

    def capabilities(self, model: str | None = None) -> Capabilities:
        """From the table of families and the catalogue; no network."""
        known = family = None
        if model:
            try:
                found = families.base_id(model)
                known, family = families.entry(found), families.family_of(found)
            except UniftError:
                pass
        open_model = bool(family and family.open)
        methods = known.methods if known else ("sft", "dpo")
        allowed = family.methods if family else ("sft", "dpo")
        until = known.new_jobs_until if known else None
        notes = ["an API key of AI Studio tunes nothing: it takes the login of a Cloud project"]
        if family:
            notes.append(family.idle)
        full = bool(known and known.tunes == ("full",))
        return Capabilities(
            methods=tuple(one for one in ("sft", "dpo") if one in methods and one in allowed),
            tunes=("full" if full else "lora") if family else "hidden",
            place="remote",
            formats=("openai-chat",)
            if open_model
            else ("openai-chat", "openai-preference", "gemini", "gemini-preference"),
            weights_downloadable=open_model,
            resumable=False,
            max_tokens_per_row=known.max_tokens_per_example if known else None,
            ends_on=until.isoformat() if until else None,
            poll_seconds=0.2 if sites.loopback() else _POLL_SECONDS,
            notes=tuple(notes),
        )

    def plan(self, spec: TrainSpec) -> Plan:
        """Resolve every setting; no network unless the rows are at gs://."""
        self.check()
        from unift_google._plan import make_plan

        return make_plan(spec)

    def submit(self, plan: Plan, token: str) -> Handle:
        """Upload and create. See `unift_google._submit` for why it cannot be paid twice.

        Raises:
            ProviderError, UsageError, DataError: Certainly no job exists.
            LostError: One may exist, and Google does not list it yet.
        """
        self.check()
        from unift_google._plan import place_of
        from unift_google._submit import GoogleIntent, Submission, recover

        place = place_of(plan.payload)
        intent = self._intent(token)
        if intent is None:
            intent = GoogleIntent(token=token, project=place.project, location=place.location)
            intent.save(self.name)
        try:
            found = self.find(token)
        except ProviderError as error:
            raise recover(intent, error) from error
        if found is not None:
            return found
        return self._handle(Submission(place, plan, intent).run())

    def find(self, token: str) -> Handle | None:
        """The job labelled with `token`, from Google's list.

        Raises:
            ProviderError: Google does not answer, or it is too early to be certain.
        """
        self.check()
        from unift_google._calls import our_words
        from unift_google._submit import SETTLE_SECONDS, look

        intent = self._intent(token)
        if intent is not None and intent.job is not None:
            return self._handle(intent.job)
        if intent is not None:
            places = [Site(intent.project, intent.location)]
        else:  # another machine ordered it; it may be anywhere
            here = self._site()
            places = [here.at(one) for one in dict.fromkeys((here.location, *families.LOCATIONS))]
        # Before the look: it proves nothing about later.
        wait = intent.settled_in(SETTLE_SECONDS) if intent else 0.0
        for place in places:
            with our_words(token):
                job = look(place, token)
            if job is not None:
                if intent is not None:
                    intent.job, intent.attempted = job, None
                    intent.save(self.name)
                return self._handle(job)
        if wait > 0:
            raise ProviderError(
                "An order of this run had no answer, and no job of it is listed yet; that proves "
                f"nothing before another {wait:.0f} seconds.",
                code="not_settled",
                where=token,
                fix=f"in {wait:.0f} seconds: unift runs reconcile",
            )
        return None

    def poll(self, handle: Handle) -> Status:
        """The job's state, in Google's word and in ours."""
        from unift_google._states import status_of

        job = self._job(handle)
        if job is None:
            return Status(
                state=State.LOST,
                word="not_found",
                message=f"Google does not know the job {handle.id}.",
            )
        return status_of(job)

    def events(self, handle: Handle, after: str | None = None) -> Sequence[Event]:
        """Everything that is known, in order. `after` is not used: Google reports late."""
        from unift_google import _metrics
        from unift_google._events import translated

        job = self._job(handle)
        if job is None:
            return []
        metrics, why = _metrics.read(self._place(handle), job)
        return translated(job, metrics, why)

    def cancel(self, handle: Handle) -> None:
        """Ask for the end; a job that is over already stays as it is."""
        from google.genai import errors

        from unift_google._calls import client, our_words, politely

        api = client(self._place(handle)).tunings
        with our_words(handle.id):
            try:
                politely(lambda: api.cancel(name=handle.id))
            except errors.ClientError as error:
                if error.code not in (400, 404, 409):
                    raise

    def resume(self, handle: Handle) -> Handle:
        """Google has no call to go on with a job.

        Raises:
            ProviderError: The job is over.
        """
        status = self.poll(handle)
        if status.state in (State.QUEUED, State.RUNNING):
            return handle
        raise ProviderError(
            f"The job is {status.word}, and Google has no call to go on with one.",
            code="not_resumable",
            where=handle.id,
            fix="train again; unift runs show has the plan",
        )

    def fetch(self, handle: Handle) -> Artifact:
        """The endpoint of a Gemini, or the checked weights of an open model."""
        from unift_google import _results
        from unift_google._calls import our_words
        from unift_google._states import status_of

        job = self._job(handle)
        if job is None or status_of(job).state is not State.SUCCEEDED:
            raise RunError(
                f"The job is {status_of(job).word if job else 'gone'} and has left no model.",
                code="no_artifact",
                where=handle.id,
                fix="wait for it to succeed",
            )
        with our_words(handle.id):
            return _results.artifact(self._place(handle), job)

    def model(self, reference: str) -> Model:
        """An endpoint, a tuned model, a Gemini id, or a folder with fetched weights."""
        if Path(reference).is_dir():
            from unift.reference import load

            return load(f"path:{reference}")
        self.check()
        from unift_google._model import EndpointModel

        return EndpointModel(self._site(reference), reference)

    def inventory(self) -> Holdings:
        """Jobs, tuned models and data that the credentials can see in the project."""
        self.check()
        from unift_google._inventory import look

        return look(self._site())

    def content(self, file: HeldFile, start: int = 0) -> Iterator[bytes]:
        """The bytes of an object in Cloud Storage from `start` on."""
        from unift_google._inventory import content

        return content(self._site(), file, start)

    def stored(self, model: str | None = None) -> Iterator[dict[str, Any]]:
        """Google keeps no answers.

        Raises:
            ProviderError: Always.
        """
        raise ProviderError(
            "Google keeps no completions of its models.",
            code="not_stored",
            fix="record answers with unift migrate record",
        )

    # --- inside -------------------------------------------------------------------------------

    def _intent(self, token: str) -> GoogleIntent | None:
        from unift_google._submit import GoogleIntent

        return GoogleIntent.load(self.name, token)

    def _handle(self, job: str) -> Handle:
        return Handle(provider=self.name, id=job)

    def _place(self, handle: Handle) -> Site:
        """The name of a job says where it is: projects/P/locations/L/tuningJobs/J."""
        parts = handle.id.split("/")
        return Site(parts[1], parts[3])

    def _site(self, reference: str = "") -> Site:
        parts = reference.split("/")
        named = parts[1] if reference.startswith("projects/") and len(parts) > 1 else None
        return sites.site(GoogleOptions(project=named))

    def _job(self, handle: Handle) -> Any:
        """The job as the SDK gives it; None if Google does not know it."""
        from google.genai import errors

        from unift_google._calls import client, our_words, politely, quietly

        api = client(self._place(handle)).tunings
        with our_words(handle.id), quietly():
            try:
                return politely(lambda: api.get(name=handle.id))
            except errors.ClientError as error:
                if error.code == 404:
                    return None
                raise
