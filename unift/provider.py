"""The seam between unift and whoever does the training.

A provider translates; it never owns the recipe of the run. It is found through the entry-point
group ``unift.providers``, the built-in ones through the same door as anybody's plug-in.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pydantic import Field

from unift._text import did_you_mean
from unift.errors import MissingDependency, UniftError, UsageError
from unift.spec import Frozen, TrainSpec

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "unift.providers"


class State(StrEnum):
    """Where a run stands. `SUBMITTING` means: intent journalled, answer not yet seen."""

    PLANNED = "planned"
    SUBMITTING = "submitting"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def finished(self) -> bool:
        """True when the provider will do nothing more by itself."""
        return self in _FINISHED


_FINISHED = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.LOST})


class Capabilities(Frozen):
    """What a provider can do with a model, as data. None means: the vendor does not say."""

    methods: tuple[str, ...] = ("sft",)
    tunes: Literal["full", "lora", "qlora", "hidden"] = "hidden"
    place: Literal["local", "remote"]
    formats: tuple[str, ...] = ("openai-chat",)
    images: bool | None = Field(default=None, description="False: only text is trained on")
    models: tuple[str, ...] | None = Field(default=None, description="None: any that loads")
    weights_downloadable: bool
    resumable: bool = False
    pausable: bool = Field(default=False, description="the provider has the verb of `Pausing`")
    min_rows: int = 1
    max_tokens_per_row: int | None = None
    ends_on: str | None = Field(default=None, description="last day for new jobs, YYYY-MM-DD")
    poll_seconds: float = Field(
        default=5.0, gt=0, description="shortest polite time between two looks"
    )
    notes: tuple[str, ...] = ()


Origin = Literal["user", "provider default", "estimate", "mapping rule", "hardware", "model"]


class Setting(Frozen):
    """One resolved setting and the reason for its value."""

    name: str
    value: Any
    origin: Origin
    why: str = ""


class Plan(Frozen):
    """A spec resolved for one provider. Everything that will happen is in it.

    `payload` is the provider's own, JSON only: what it needs at `submit` beyond the settings.
    `fingerprints` maps ``data`` and ``validation`` to content hashes.
    """

    spec: TrainSpec
    settings: tuple[Setting, ...]
    estimate: dict[str, Any] = Field(default_factory=dict)
    fingerprints: dict[str, str] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    payload: dict[str, Any] = Field(default_factory=dict)

    def value(self, name: str) -> Any:
        """The resolved value of a setting; KeyError if the plan has none of that name."""
        for setting in self.settings:
            if setting.name == name:
                return setting.value
        raise KeyError(name)


class Handle(Frozen):
    """The vendor's name for the job."""

    provider: str
    id: str
    data: dict[str, Any] = Field(default_factory=dict)


class Failure(Frozen):
    """Why a job did not succeed, in the shape of every error of ours."""

    code: str
    message: str
    where: str = ""
    fix: str = ""


class Status(Frozen):
    """What the provider says of a job right now.

    `state` is None for a word that unift has never seen: it is kept in `word`, shown, and treated
    as not finished.
    """

    state: State | None
    word: str = ""
    message: str = ""
    failure: Failure | None = None
    resumable: bool = False

    @property
    def finished(self) -> bool:
        return self.state is not None and self.state.finished


EventKind = Literal["status", "log", "metrics", "evaluation", "checkpoint", "warning", "artifact"]


class Event(Frozen):
    """One message of a run.

    `id` is unique within the run and stable across polls, so that replays can be told from news.
    `data` of a ``metrics`` event may hold: step, total_steps, epoch, loss, learning_rate,
    grad_norm, tokens_per_second, memory_gib, eta_seconds; of an ``evaluation`` event: step,
    validation_loss. Unknown keys are kept.
    """

    id: str
    at: datetime
    kind: EventKind
    message: str = ""
    data: dict[str, Any] = Field(default_factory=dict)
    seq: int = 0  # order within the run; given by the journal, 0 before that


class Artifact(Frozen):
    """What a finished run leaves. `reference` is a folder or the vendor's model id."""

    kind: Literal["adapter", "weights", "hosted"]
    reference: str
    base: str
    sha256: dict[str, str] = Field(default_factory=dict, description="file name -> digest")
    metrics: dict[str, float] = Field(default_factory=dict)


class Sampling(Frozen):
    """How answers are drawn. Temperature 0 is greedy and, where the model allows, repeatable."""

    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=256, gt=0)
    seed: int | None = None


class Reply(Frozen):
    """One answer. Token counts, time and probability are None where the provider gives none.

    `tool_calls` are as OpenAI writes them (id, type, function with name and arguments). `logprob`
    is the natural logarithm of the probability of the whole answer.
    """

    text: str
    finish_reason: str = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    logprob: float | None = None


Messages = Sequence[dict[str, Any]]


def check_messages(messages: Any) -> None:
    """Raise UsageError unless it is a list of messages: a text alone is the likeliest slip."""
    if isinstance(messages, str) or not all(isinstance(one, dict) for one in messages):
        raise UsageError(
            "A conversation is a list of messages, each with a role and a content.",
            code="no_messages",
            where="messages",
            fix="for example [{'role': 'user', 'content': 'Hello'}]",
        )


@runtime_checkable
class Model(Protocol):
    """Anything that answers chat messages."""

    reference: str

    def chat(self, messages: Messages, sampling: Sampling = ...) -> Reply:
        """Answer one conversation."""
        ...

    def chat_many(
        self,
        conversations: Sequence[Messages],
        sampling: Sampling = ...,
        on_reply: Callable[[int, Reply], None] | None = None,
    ) -> list[Reply]:
        """Answer many, in the order given; `on_reply(index, reply)` as each one is ready."""
        ...

    def close(self) -> None:
        """Free what the model holds (memory, connections)."""
        ...


@runtime_checkable
class Provider(Protocol):
    """Who does the training. Every verb may be called twice with the same effect as once."""

    name: str

    def capabilities(self, model: str | None = None) -> Capabilities:
        """What can be done, for one model or in general. No network, no heavy import."""
        ...

    def plan(self, spec: TrainSpec) -> Plan:
        """Resolve every setting. Raises for anything this provider cannot do."""
        ...

    def submit(self, plan: Plan, token: str) -> Handle:
        """Start the job marked with `token`; if one with that token exists, return it.

        Raises:
            ProviderError, UsageError, DataError, LimitError: Certainly no job exists.
            LostError: A job may exist and `find` could not tell. Any other exception is taken
                the same way: the run stays `submitting` until it is reconciled.
        """
        ...

    def find(self, token: str) -> Handle | None:
        """The job marked with `token`, or None if there certainly is none."""
        ...

    def poll(self, handle: Handle) -> Status: ...

    def events(self, handle: Handle, after: str | None = None) -> Sequence[Event]:
        """Events in order, those after the event with id `after` if that is cheap to know."""
        ...

    def cancel(self, handle: Handle) -> None:
        """Ask for the end; what was trained so far is kept where that is possible."""
        ...

    def resume(self, handle: Handle) -> Handle:
        """Go on from the last checkpoint. ProviderError where the vendor cannot."""
        ...

    def fetch(self, handle: Handle) -> Artifact:
        """What the finished job left, verified."""
        ...

    def model(self, reference: str) -> Model:
        """Something that answers, for a model id, a folder or an artifact's reference."""
        ...


class ProviderInfo(Frozen):
    """A registered provider, whether or not it can be used here."""

    name: str
    package: str
    available: bool
    why: str = ""
    fix: str = ""


def _entries() -> dict[str, EntryPoint]:
    return _entries_on(tuple(sys.path))


@cache
def _entries_on(path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Looking through every installed package takes some 50 ms, and every run asks."""
    from importlib.metadata import entry_points  # 20 ms that `import unift` need not pay

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def provider_names() -> set[str]:
    """Everybody who is registered, loaded or not."""
    return set(_entries())


def get_provider(name: str) -> Provider:
    """Load a provider by name.

    Raises:
        UsageError: Nobody registered that name; the nearest one is in `fix`.
        MissingDependency: It is registered, but what it needs is not installed.
    """
    entries = _entries()
    if name not in entries:
        raise UsageError(
            f"There is no provider '{name}'.",
            code="unknown_provider",
            where="provider",
            fix=did_you_mean(name, entries),
        )
    try:
        return entries[name].load()()
    except UniftError:
        raise
    except ImportError as error:
        raise MissingDependency(
            f"Provider '{name}' cannot be loaded: {error}.",
            where="provider",
            fix=f"pip install 'unift[{name.split('-')[0]}]'",
        ) from error


def claimant(scheme: str) -> Provider:
    """Who answers for references of a scheme: the first provider that lists it in ``schemes``.

    A provider may claim ``demo``, ``path``, ``hf`` (whatever is loaded on this machine) and
    ``http`` (a server that speaks the OpenAI API) by a class attribute ``schemes``.

    Raises:
        UsageError: No installed provider claims it.
    """
    for name in sorted(_entries()):
        try:
            found = get_provider(name)
        except UniftError:
            continue  # broken or not installed: it can claim nothing
        if scheme in getattr(found, "schemes", ()):
            return found
    raise UsageError(
        f"No installed provider answers for '{scheme}:' references.",
        code="no_claimant",
        where="model",
        fix="unift providers shows what is installed",
    )


def providers() -> list[ProviderInfo]:
    """Every registered provider, in alphabetical order, and whether it can be used here."""
    listed: list[ProviderInfo] = []
    for name, entry in sorted(_entries().items()):
        package = entry.value.split(":")[0]
        try:
            check = getattr(get_provider(name), "check", None)
            if check is not None:
                check()
            listed.append(ProviderInfo(name=name, package=package, available=True))
        except UniftError as error:
            listed.append(
                ProviderInfo(
                    name=name, package=package, available=False, why=error.message, fix=error.fix
                )
            )
    return listed
