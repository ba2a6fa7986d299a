"""The providers: one class, a row of the table each."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from unift.errors import MissingDependency, ProviderError, RunError, UniftError
from unift.provider import (
    Artifact,
    Capabilities,
    Event,
    Failure,
    Handle,
    Model,
    Plan,
    State,
    Status,
)
from unift.spec import TrainSpec
from unift.verbs import Leftover
from unift_openai._keeper import Keeper
from unift_openai.hosts import HOSTS, Host, Site, site

if TYPE_CHECKING:
    from unift_openai._intent import Intent

_POLL_SECONDS = 10.0
_FIXES = {
    "invalid_training_file": "unift validate shows what is wrong with the file",
    "invalid_n_examples": "add rows",
    "exceeded_quota": "add credit at the vendor, then train again",
    "insufficient_quota": "add credit at the vendor, then train again",
}


class OpenAIShaped(Keeper):
    """What the providers have in common; not a provider itself."""

    name: ClassVar[str]

    @property
    def host(self) -> Host:
        return HOSTS[self.name]

    def check(self) -> None:
        """Raise MissingDependency unless the SDK is installed. Imports nothing."""
        if find_spec("openai") is None:
            raise MissingDependency(
                f"Provider '{self.name}' needs the openai package.",
                where="provider",
                fix="pip install 'unift[openai]'",
            )

    def capabilities(self, model: str | None = None) -> Capabilities:
        """From the table of hosts and the catalogue; no network."""
        from unift_openai import _shutdown

        try:
            place = site(self.name)
        except UniftError:
            place = Site(self.host, "")
        known = _shutdown.entry(place, model) if model else None
        until = known.new_jobs_until if known else None
        return Capabilities(
            methods=place.host.methods,
            tunes="lora" if place.host.weights else "hidden",
            place="remote",
            formats=("openai-chat", "openai-preference"),
            weights_downloadable=place.host.weights,
            resumable=False,
            pausable=place.host.pauses,
            min_rows=10,
            max_tokens_per_row=known.max_tokens_per_example if known else None,
            ends_on=until.isoformat() if until else None,
            poll_seconds=0.2 if place.loopback else _POLL_SECONDS,
            notes=("a paused job can be resumed, a cancelled one cannot",)
            if place.host.pauses
            else (),
        )

    def plan(self, spec: TrainSpec) -> Plan:
        """Resolve every setting; asks the host only when the model ends."""
        self.check()
        from unift_openai._plan import make_plan

        return make_plan(spec, self.name)

    def submit(self, plan: Plan, token: str) -> Handle:
        """Upload and create. See `unift_openai._submit` for why it cannot be paid twice.

        Raises:
            ProviderError, UsageError, LimitError: Certainly no job exists.
            LostError: One may exist, and the host does not list it yet.
        """
        self.check()
        from unift_openai._intent import Intent
        from unift_openai._submit import Submission, recover

        wanted = plan.payload
        place = site(self.name, wanted["base_url"], wanted["metadata"])
        intent = Intent.load(self.name, token)
        if intent is None:
            intent = Intent(token=token, base_url=place.url, metadata=wanted["metadata"])
            intent.save(self.name)
        try:
            found = self.find(token)
        except ProviderError as error:
            raise recover(place, intent, error) from error
        if found is not None:
            return found
        return self._handle(intent, Submission(place, plan, intent).run())

    def find(self, token: str) -> Handle | None:
        """The job marked with `token`, from the host's list.

        Raises:
            ProviderError: The host does not answer, or it is too early to be certain.
        """
        from unift_openai._calls import our_words
        from unift_openai._intent import Intent
        from unift_openai._submit import look, settled

        intent = Intent.load(self.name, token)
        if intent is not None and intent.job is not None:
            return self._handle(intent, intent.job)
        place = site(self.name)
        if intent is not None:
            place = site(self.name, intent.base_url, intent.metadata)
        with our_words(place, token):
            wait = settled(place, intent)  # before the look: it proves nothing about later
            job = look(place, intent, token)
        if job is not None:
            kept = intent or Intent(
                token=token, base_url=place.url, metadata=place.host.keeps_metadata
            )
            kept.job, kept.attempted = job, None
            kept.save(self.name)
            return self._handle(kept, job)
        if wait > 0:
            raise ProviderError(
                "An order of this run had no answer, and no job of it is listed yet; that proves "
                f"nothing before another {wait:.0f} seconds.",
                code="not_settled",
                where=token,
                fix=f"in {wait:.0f} seconds: unift runs reconcile",
            )
        if intent is not None and intent.attempted is not None:
            intent.attempted = None  # the doubt is settled: that order never arrived
            intent.save(self.name)
        return None

    def poll(self, handle: Handle) -> Status:
        """The job's state, in the host's word and in ours."""
        import openai

        from unift_openai._calls import client, our_words, politely

        place = self._place(handle)
        with our_words(place, handle.id):
            try:
                job = politely(lambda: client(place).fine_tuning.jobs.retrieve(handle.id))
            except openai.NotFoundError:
                return Status(
                    state=State.LOST,
                    word="not_found",
                    message=f"{self.name} does not know the job {handle.id}.",
                )
            return self._status(job, place.host)

    def events(self, handle: Handle, after: str | None = None) -> Sequence[Event]:
        """Everything that happened, in order. `after` is not used: a host may report late."""
        import openai

        from unift_openai._calls import client, our_words
        from unift_openai._events import translated
        from unift_openai._submit import pages

        place = self._place(handle)
        jobs = client(place).fine_tuning.jobs
        with our_words(place, handle.id):
            try:
                events = list(pages(lambda: jobs.list_events(handle.id, limit=100)))
            except openai.NotFoundError:
                return []
            try:
                points = list(pages(lambda: jobs.checkpoints.list(handle.id, limit=100)))
            except openai.NotFoundError:
                points = []  # not every host has them
            return translated(events, points)

    def cancel(self, handle: Handle) -> None:
        """Ask for the end; one that is over already stays as it is."""
        self._act(handle, "cancel")

    def pause(self, handle: Handle) -> None:
        """Halt a job; `resume` goes on with it. One that is paused or over stays as it is.

        Raises:
            ProviderError: The host cannot, or not now.
        """
        if not self.host.pauses:
            raise ProviderError(
                f"{self.name} cannot pause a job.",
                code="not_pausable",
                where=handle.id,
                fix="let it go on, or cancel it",
            )
        if self._act(handle, "pause"):
            return
        status = self.poll(handle)
        if not status.finished and status.state is not State.PAUSED and status.word != "pausing":
            raise ProviderError(
                f"The job is {status.word} and cannot be paused now.",
                code="not_pausable",
                where=handle.id,
                fix="try again when it runs",
            )

    def resume(self, handle: Handle) -> Handle:
        """Go on with a paused job.

        Raises:
            ProviderError: It is not paused.
        """
        status = self.poll(handle)
        if status.state in (State.QUEUED, State.RUNNING):
            return handle
        if status.state is not State.PAUSED or not self._act(handle, "resume"):
            raise ProviderError(
                f"The job is {status.word}; only a paused one can be resumed.",
                code="not_resumable",
                where=handle.id,
                fix="train again",
            )
        return handle

    def fetch(self, handle: Handle) -> Artifact:
        """The hosted model, or its weights where the host gives them, with the last figures."""
        from unift_openai import _results
        from unift_openai._calls import client, our_words, politely

        place = self._place(handle)
        api = client(place)
        with our_words(place, handle.id):
            job = politely(lambda: api.fine_tuning.jobs.retrieve(handle.id))
            if place.host.words.get(str(job.status)) is not State.SUCCEEDED:
                raise RunError(
                    f"The job is {job.status} and has left no model.",
                    code="no_artifact",
                    where=handle.id,
                    fix="wait for it to succeed",
                )
            figures = _results.metrics(api, job)
            if place.host.weights:
                folder, digests = _results.download(api, job, self.name)
                return Artifact(
                    kind="adapter" if "adapter_config.json" in digests else "weights",
                    reference=str(folder),
                    base=job.model,
                    sha256=digests,
                    metrics=figures,
                )
            base = str(job.model)
        model = str(job.fine_tuned_model)
        reference = model if place.own else f"{place.url}#{model}"
        return Artifact(kind="hosted", reference=reference, base=base, metrics=figures)

    def model(self, reference: str) -> Model:
        """A model id of this host, ``http://HOST/v1#NAME``, or a folder that it was fetched to."""
        self.check()
        from unift_openai._model import HostedModel

        if reference.startswith(("http://", "https://")):
            url, _, name = reference.partition("#")
            return HostedModel(site(self.name, url), name or None, reference)
        if Path(reference).is_dir():
            from unift.reference import load

            return load(f"path:{reference}")
        return HostedModel(site(self.name), reference, reference)

    def leftovers(self, token: str, ask: bool = False) -> Sequence[Leftover]:
        """Uploads for `token` that no job uses. See `unift.verbs.Uploading`."""
        from unift_openai._intent import Intent

        intent = Intent.load(self.name, token)
        if intent is None:
            return []
        from unift_openai import _leftovers
        from unift_openai._calls import our_words

        place = site(self.name, intent.base_url, intent.metadata)
        if not ask:
            return _leftovers.remembered(place, intent)
        with our_words(place, token):
            return _leftovers.there(place, intent) or []

    def discard(self, token: str) -> Sequence[Leftover]:
        """Delete them. See `unift.verbs.Uploading`.

        Raises:
            ProviderError: The host does not answer, or keeps one of them.
        """
        from unift_openai import _leftovers
        from unift_openai._calls import our_words
        from unift_openai._intent import Intent

        intent = Intent.load(self.name, token)
        if intent is None:
            return []
        place = site(self.name, intent.base_url, intent.metadata)
        with our_words(place, token):
            done, kept = _leftovers.delete(place, intent)
        if kept:
            names = ", ".join(one.id or one.name for one, _ in kept)
            raise ProviderError(
                f"{self.name} did not delete {names} ({kept[0][1]}).",
                code="not_deleted",
                where=token,
                fix="try again: unift runs reconcile --delete-orphans",
            )
        return done

    # --- inside -------------------------------------------------------------------------------

    def _handle(self, intent: Intent, job: str) -> Handle:
        data = {"base_url": intent.base_url, "metadata": intent.metadata}
        return Handle(provider=self.name, id=job, data=data)

    def _place(self, handle: Handle) -> Site:
        return site(self.name, handle.data.get("base_url"), handle.data.get("metadata"))

    def _act(self, handle: Handle, verb: str) -> bool:
        """Do it; False if the job is in no state for it."""
        import openai

        from unift_openai._calls import client, our_words, politely

        place = self._place(handle)
        jobs = client(place).fine_tuning.jobs
        with our_words(place, handle.id):
            try:
                politely(lambda: getattr(jobs, verb)(handle.id))
            except (openai.BadRequestError, openai.ConflictError, openai.NotFoundError):
                return False
        return True

    def _status(self, job: Any, host: Host) -> Status:
        state = host.words.get(str(job.status))
        failure = None
        if state is State.FAILED:
            error = job.error
            code = (error.code if error else None) or "job_failed"
            said = (error.message if error else None) or "The host gave no reason."
            failure = Failure(
                code=code,
                message=said,
                where=f"job {job.id}",
                fix=_FIXES.get(code, "change what it says, then train again"),
            )
        return Status(
            state=state,
            word=str(job.status),
            message=failure.message if failure else "",
            failure=failure,
            resumable=state is State.PAUSED and host.pauses,
        )


class OpenAI(OpenAIShaped):
    """OpenAI itself, and with ``base_url`` any server that speaks its API."""

    name = "openai"
    schemes = ("http",)


class Azure(OpenAIShaped):
    """Azure OpenAI by its v1 path. Answers come from a deployment: name it as the model."""

    name = "azure"


class Crusoe(OpenAIShaped):
    """Crusoe Serverless Fine-Tuning: LoRA adapters to download."""

    name = "crusoe"


class Nebius(OpenAIShaped):
    """Nebius Token Factory: absolute learning rates, weights to download."""

    name = "nebius"
