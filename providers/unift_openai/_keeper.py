"""The optional verbs of the seam: what a customer has at a host, and taking it home.

Nothing here trains, so all of it works for an organisation that may not train any more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Self

from unift.errors import ProviderError

if TYPE_CHECKING:
    from unift.holdings import HeldFile, Holdings
    from unift_openai.hosts import Site


class Keeper(ABC):
    """Mixed into the providers. `address` is where they ask; None: as the environment says."""

    name: ClassVar[str]
    address: str | None = None

    def at(self, base_url: str) -> Self:
        """The same provider, asking at another address."""
        moved = type(self)()
        moved.address = base_url
        return moved

    def inventory(self) -> Holdings:
        """Models, jobs, checkpoints and files. See `unift.verbs.Inventoried`.

        Raises:
            ProviderError: Nothing can be listed at all: no key, a wrong one, no network.
        """
        place = self._asked()
        from unift_openai._inventory import look  # after the check: it needs the SDK

        return look(place)

    def content(self, file: HeldFile, start: int = 0) -> Iterator[bytes]:
        """A file's bytes from `start` on, in pieces; small files and large ones alike.

        Raises:
            ProviderError: The host does not give it, or the connection broke on the way; what
                came before may be kept, and asked for again from there.
        """
        place = self._asked()
        import openai

        from unift_openai._calls import client, our_words, politely

        headers = {"Range": f"bytes={start}-"} if start else {}
        files = client(place).files.with_streaming_response
        with our_words(place, f"file {file.id}"):
            opened = politely(
                lambda: files.content(file.id, extra_headers=headers, timeout=300.0).__enter__()
            )
            try:
                # A host that knows no ranges sends all of it again.
                skip = start if opened.status_code != 206 else 0
                for piece in opened.iter_bytes():
                    if skip >= len(piece):
                        skip -= len(piece)
                        continue
                    yield piece[skip:]
                    skip = 0
            except Exception as error:
                if isinstance(error, openai.OpenAIError | ProviderError):
                    raise
                raise ProviderError(
                    f"The connection broke while a file was read ({type(error).__name__}).",
                    code="broken_off",
                    where=f"file {file.id}",
                    fix="fetch again; it goes on where it stopped",
                ) from error
            finally:
                opened.close()

    def stored(self, model: str | None = None) -> Iterator[dict[str, Any]]:
        """Completions that the application asked the host to store (``store=True``).

        Raises:
            ProviderError: The host has no such thing, or the key may not see it.
        """
        from unift_openai._stored import completions

        yield from completions(self._asked(), model)

    def _asked(self) -> Site:
        from unift_openai.hosts import site

        self.check()
        return site(self.name, self.address)

    @abstractmethod
    def check(self) -> None:
        """Raises MissingDependency unless the SDK is installed."""
