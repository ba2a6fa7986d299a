"""Verbs that a provider may have beyond those of the seam, and what they speak of.

Whoever wants one asks with ``isinstance(provider, Pausing)``; a provider without it is as good a
provider.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from unift.holdings import Completion, HeldFile, Holdings
from unift.provider import Handle, Plan
from unift.spec import Frozen


@runtime_checkable
class Inventoried(Protocol):
    """Optional verbs of a provider that keeps things for its customers. None costs money."""

    def inventory(self) -> Holdings:
        """Everything that the key can see, also where training is refused.

        What cannot be listed is named in `Holdings.unseen`; only if nothing can be listed (no key,
        no network) is it an error.
        """
        ...

    def content(self, file: HeldFile, start: int = 0) -> Iterator[bytes]:
        """The bytes of a file from `start` on, as they are at the vendor, in pieces."""
        ...

    def stored(self, model: str | None = None) -> Iterator[dict[str, Any]]:
        """Completions that the vendor kept: ``{"request": {...}, "response": {...}}``, both in
        the OpenAI form, oldest or newest first. ProviderError where there is no such thing."""
        ...


@runtime_checkable
class Completes(Protocol):
    """A `Model` that can also give everything the vendor says of an answer."""

    def complete(self, body: Mapping[str, Any]) -> Completion:
        """Ask once, never again by itself: `body` is an OpenAI chat request without ``model``.

        Raises:
            Busy: Asking again later may help; it says after how long, and whether it may cost.
            ProviderError: Asking again would not help.
        """
        ...


@runtime_checkable
class Reads(Protocol):
    """A `Model` whose weights are here, so that it can say how well it expects a text."""

    def losses(self, texts: Sequence[str]) -> Sequence[tuple[float, int]]:
        """Per text: the sum of -log p of its tokens in nats, and the number of those tokens."""
        ...


@runtime_checkable
class InMemory(Protocol):
    """A `Model` in this process, for libraries that work on the weights themselves."""

    def in_memory(self) -> tuple[Any, Any]:
        """(model of transformers, its tokenizer), good until the next `close` or `become`."""
        ...


class Check(Frozen):
    """One thing that `unift doctor` looked at. `ok` is None for what is merely worth knowing.

    A provider may have a verb ``checks() -> Sequence[Check]`` for its own set-up; no network.
    """

    name: str
    ok: bool | None
    detail: str
    disables: str = ""
    fix: str = ""


@runtime_checkable
class Pausing(Protocol):
    """One more verb, of a provider whose capabilities say `pausable`."""

    def pause(self, handle: Handle) -> None:
        """Ask a queued or running job to halt and keep what it has; `resume` goes on with it.

        A job that is paused or over already stays as it is.

        Raises:
            ProviderError: It cannot be paused now.
        """
        ...


@runtime_checkable
class Probing(Protocol):
    """One more verb, of a provider that trains on this machine."""

    def probe(self, plan: Plan) -> dict[str, Any] | None:
        """Run the two largest steps of a plan on the real device and keep what they needed, as
        `unift.estimate.Probe`, for later estimates; nothing is trained.

        Returns:
            The record (`Probe.as_dict`); None for a model that has no formula to correct.

        Raises:
            RunError: The steps did not run; the code ``out_of_memory`` says that nothing fits.
        """
        ...


class Checkpoint(Frozen):
    """A state of a run that was kept. `reference` is what `Provider.model` takes."""

    step: int
    at: datetime
    reference: str
    metrics: dict[str, float] = Field(default_factory=dict)


@runtime_checkable
class Keeping(Protocol):
    """One more verb, of a provider whose kept checkpoints can answer."""

    def checkpoints(self, handle: Handle) -> Sequence[Checkpoint]:
        """Those that are there now, oldest first."""
        ...


class Leftover(Frozen):
    """A file of ours at a vendor that no job uses. `id` is empty while only its name is known."""

    id: str
    name: str
    place: str


@runtime_checkable
class Uploading(Protocol):
    """Two more verbs, of a provider that uploads data before it orders a job."""

    def leftovers(self, token: str, ask: bool = False) -> Sequence[Leftover]:
        """Uploads for `token` that no job uses: as remembered here; with `ask` as the vendor says.

        None of a job that exists, or may exist because an order of it is still in doubt.

        Raises:
            ProviderError: The vendor was asked and does not answer.
        """
        ...

    def discard(self, token: str) -> Sequence[Leftover]:
        """Delete them; returns what was deleted. `submit` uploads anew if it has to.

        Raises:
            ProviderError: The vendor does not answer, or keeps one of them.
        """
        ...
