"""The rows of a run under its model's own template: how long they are, and what carries loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unift.errors import DataError, UsageError
from unift.spec import TrainSpec
from unift_local.models import BaseModelFiles

if TYPE_CHECKING:
    from unift_local.tokens import Tokens


@dataclass(frozen=True)
class Data:
    """What the rows look like under the model's template."""

    train: list[int]  # tokens of each row
    validation: list[int]
    trained: int  # tokens of the training rows that carry loss
    #: Names under which tokens are kept (`tokens`), by part.
    tokens: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def longest(self) -> int:
        return max([*self.train, *self.validation])


def measure(
    spec: TrainSpec, base: BaseModelFiles, trust: bool, keep: bool
) -> tuple[Data, dict[str, str], dict[str, str]]:
    """Render every row, as training will; lengths, fingerprints and paths.

    Args:
        keep: Take tokens that are kept, and keep new ones.
    """
    from unift.data import fingerprint, read_examples
    from unift.data.rendering import render_all
    from unift.demo import resolve
    from unift_local import tokens

    tokenizer = load_tokenizer(base, trust)
    stops = stop_ids(base, tokenizer)
    pinned = spec.hyperparameters.max_length
    limit = min(pinned or base.context or 2**31, base.context or 2**31)
    lengths: dict[str, list[int]] = {"data": [], "validation": []}
    prints: dict[str, str] = {}
    files: dict[str, str] = {}
    names: dict[str, str] = {}
    trained = 0
    for part, source in (("data", spec.data), ("validation", spec.validation)):
        if source is None:
            continue
        path = Path(resolve(source)).absolute()
        name = tokens.key(path, base.folder, stops) if keep and path.is_file() else ""
        found = tokens.load(name, limit) if name else None
        if found is None:
            rendered = render_all(tokenizer, read_examples(path), limit, stop_ids=stops)
            if not rendered:
                raise UsageError(
                    "There are no rows to train on.",
                    code="no_rows",
                    where=str(path),
                    fix="give a file with at least one conversation a line",
                )
            found = tokens.Tokens.of(rendered)
            if name:
                tokens.save(name, found)
        _refuse_unknown(found, base, tokenizer, path)
        lengths[part] = found.lengths.tolist()
        if name:
            names[part] = name
        if part == "data":
            trained = int(found.trained.sum())
        prints[part] = fingerprint(path)
        files[part] = str(path)
    return Data(lengths["data"], lengths["validation"], trained, names), prints, files


def _refuse_unknown(found: Tokens, base: BaseModelFiles, tokenizer: Any, path: Path) -> None:
    """Raises DataError if a token has no embedding: on a card that would end in an assertion."""
    words, most = base.words, int(found.ids.max(initial=0))
    if words is None or most < words:
        return
    row = int(found.lengths.cumsum().searchsorted(int(found.ids.argmax()), side="right"))
    raise DataError(
        f"Row {row + 1} has the token {most} ({tokenizer.convert_ids_to_tokens(most)!r}), but the "
        f"model has embeddings for {words} tokens only: the tokenizer got tokens that the model "
        "never learnt.",
        code="unknown_token",
        where=str(path),
        fix="resize the model's embeddings to the tokenizer and save both "
        "(model.resize_token_embeddings), or use the tokenizer that came with the model",
    )


def load_tokenizer(base: BaseModelFiles, trust: bool) -> Any:
    """The tokenizer that lies beside the model.

    Raises:
        UsageError: There is none that can be read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            str(base.folder), trust_remote_code=trust, local_files_only=True
        )
    except (OSError, ValueError, ImportError) as error:
        needs_code = "trust_remote_code" in str(error)
        raise UsageError(
            "The model comes with Python code of its own, which is not run unasked."
            if needs_code
            else f"The tokenizer of the model cannot be loaded: {str(error).splitlines()[0]}",
            code="untrusted_code" if needs_code else "model_incomplete",
            where=str(base.folder),
            fix="if you trust its author, set the option trust_remote_code"
            if needs_code
            else "put tokenizer.json and tokenizer_config.json beside the weights",
        ) from error


def stop_ids(base: BaseModelFiles, tokenizer: Any) -> frozenset[int]:
    """Stop tokens, as the worker will see them."""
    import json

    from unift.data.rendering import stop_token_ids

    path = base.folder / "generation_config.json"
    generation = json.loads(path.read_bytes()) if path.is_file() else base.config
    return stop_token_ids(tokenizer, generation)
