"""Where the old model lives: a provider's name, a model of it, or an address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from unift._text import did_you_mean
from unift.errors import ProviderError, UsageError
from unift.provider import Provider, claimant, get_provider, providers
from unift.verbs import Inventoried


@runtime_checkable
class _Movable(Protocol):
    def at(self, base_url: str) -> Provider: ...


@dataclass(frozen=True)
class Source:
    """`reference` answers (see `unift.reference`); None: no model was named."""

    name: str
    provider: Provider
    model: str | None
    reference: str | None

    @property
    def keeper(self) -> Inventoried:
        """The provider's verbs for what it keeps.

        Raises:
            ProviderError: It has none.
        """
        if isinstance(self.provider, Inventoried):
            return self.provider
        raise ProviderError(
            f"Provider '{self.name}' keeps nothing that could be listed.",
            code="no_inventory",
            where="source",
            fix="name the vendor that has the models, such as openai",
        )


def parse_source(text: str) -> Source:
    """``openai``, ``openai:ft:gpt-4o-mini:org::id``, ``https://HOST/v1`` or ``...#MODEL``.

    Raises:
        UsageError: It names nobody.
        MissingDependency: The provider's package is not installed.
    """
    if text.startswith(("http://", "https://")):
        url, _, model = text.partition("#")
        provider = claimant("http")
        name = provider.name
        if isinstance(provider, _Movable):
            provider = provider.at(url)
        # A server with one model may be named without it: the reference stays.
        return Source(name, provider, model or None, text)
    name, colon, model = text.partition(":")
    known = [info.name for info in providers()]
    if name not in known:
        raise UsageError(
            f"There is no vendor '{name}'.",
            code="unknown_provider",
            where="source",
            fix=did_you_mean(name, known) + "; or an address: https://HOST/v1",
        )
    if colon and not model:
        raise UsageError(
            f"'{text}' names no model.", code="unknown_reference", where="source", fix=name
        )
    return Source(name, get_provider(name), model or None, text if model else None)
