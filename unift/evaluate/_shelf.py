"""Models of an evaluation: where their weights are, and one of them in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unift.evaluate._candidates import Source, identity_of
from unift.provider import Model


@dataclass(frozen=True)
class Weights:
    """What a model on this machine is made of.

    Attributes:
        base: Folder or hub id.
        adapter: Folder of the adapter; None for a model that needs none.
        four_bit: Whether the base is held in 4 bits, as the adapter was trained on it.
    """

    base: str
    adapter: Path | None = None
    four_bit: bool = False

    @property
    def place(self) -> tuple[str, bool]:
        """The same for models that can share a base in memory."""
        return self.base, self.four_bit


def weights_of(source: Source) -> Weights | None:
    """Where the weights are; None for models that answer from elsewhere."""
    if not isinstance(source, str):
        return None
    from unift.reference import parse

    found = parse(source)
    name = found.rest
    if is_remote(source):
        return None
    if found.scheme == "run":
        from unift.runs import run as get_run

        artifact = get_run(found.rest).artifact
        if artifact is None:
            return None
        name = artifact.reference
    if name == "demo":
        return _demo()
    folder = Path(name.removeprefix("path:")).expanduser()
    if not folder.is_dir():
        return Weights(name)
    config = _read(folder / "adapter_config.json")
    if not config:
        return Weights(str(folder.resolve()))
    base = str(config.get("base_model_name_or_path") or "")
    if base == "demo":
        base = _demo().base
    elif Path(base).expanduser().is_dir():
        base = str(Path(base).expanduser().resolve())
    card = _read(folder / "unift.json")
    return Weights(base, folder.resolve(), bool(card.get("four_bit")))


def _demo() -> Weights:
    from unift.demo import model_path

    return Weights(str(model_path().resolve()))


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}  # whoever loads the model complains


def is_remote(reference: str) -> bool:
    """Whether somebody else's machine answers, one call each."""
    from unift.provider import get_provider
    from unift.reference import parse

    found = parse(reference)
    if found.scheme == "http":
        return True
    if found.scheme == "run":
        from unift.runs import run as get_run

        return get_provider(get_run(found.rest).provider).capabilities().place == "remote"
    if found.scheme in ("demo", "path", "hf"):
        return False
    return get_provider(found.scheme).capabilities().place == "remote"


def in_order(sources: Sequence[Source], place: Callable[[Weights], object]) -> list[Source]:
    """Each once, as given, but those of one `place` together and what needs no memory first."""
    places: list[object] = []  # of bases, in order of first appearance
    keyed: list[tuple[int, Source]] = []
    for source in sources:
        if any(source is one or source == one for _, one in keyed):
            continue
        weights = weights_of(source)
        if weights is None:
            keyed.append((-1, source))
            continue
        at = place(weights)
        if at not in places:
            places.append(at)
        keyed.append((places.index(at), source))
    return [source for _, source in sorted(keyed, key=lambda one: one[0])]


class Shelf:
    """One model in memory; the next one takes over its weights where it can."""

    engine = "transformers"  # what answers for weights on this machine

    def __init__(self) -> None:
        self._source: Source | None = None
        self._model: Model | None = None

    def expect(self, sources: Sequence[Source], tokens: int) -> None:
        """These will be asked for; no prompt with its answer is longer than so many tokens."""

    def identity(self, source: Source) -> str:
        """What an answer of this source depends on; answers are kept under it."""
        return identity_of(source)

    def place(self, weights: Weights) -> object:
        """The same for models that can follow each other without loading a base again."""
        return weights.place

    def at_once(self, source: Source) -> int | None:
        """Calls under way at a time; None where the model forms its batches itself."""
        return None

    def get(self, source: Source) -> Model:
        """The model of a reference, loaded if need be; a model is its own."""
        from unift.reference import load

        if not isinstance(source, str):
            return source
        if self._model is not None and self._source == source:
            return self._model
        old, self._model = self._model, None
        if old is not None and not hasattr(old, "become"):
            old.close()
            old = None
        try:
            new = load(source, reuse=old) if old is not None else load(source)
            self._source, self._model = source, new
        finally:
            if old is not None and self._model is not old:
                old.close()
        return new

    def weights(self, source: Source) -> Model:
        """The model in this process, whoever answers for it."""
        return self.get(source)

    def close(self) -> None:
        if self._model is not None:
            self._model.close()
        self._model = None
