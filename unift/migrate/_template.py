"""Does the served model read what the trained one learnt from? Checked token by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unift.errors import MissingDependency, ProviderError, RunError, UsageError

_AROUND = 5  # tokens shown before and after the first difference


@dataclass(frozen=True)
class TemplateCheck:
    """Rows and tokens that were compared. `difference` describes the first one, None if all agree.

    `served` says which side was asked: the tokenizer of the served base, or a running server.
    """

    rows: int
    tokens: int
    served: str
    difference: Mapping[str, Any] | None = None

    @property
    def same(self) -> bool:
        return self.difference is None

    def as_dict(self) -> dict[str, Any]:
        return {"same": self.same, **asdict(self)}


def check_template(
    trained: str, base: str, data: str, *, limit: int, server: str | None = None, name: str = ""
) -> TemplateCheck:
    """Compare the tokens of training and serving on rows of the test file.

    Training: `unift.data.rendering.render` of the whole row with the tokenizer beside the adapter,
    as the trainer did. Serving: the prompt as a server makes it, with the template of the base, or
    what a running server says (``POST /tokenize``, of vLLM and of `unift serve`).

    Args:
        trained: Folder of the trained adapter or model.
        base: What the server loads: a folder or a hub id.
        data: Chat rows.
        limit: Rows at most.
        server: Address ``http://HOST:PORT/v1`` of a running server; None: the base's tokenizer.
        name: Model name at that server.

    Raises:
        MissingDependency: transformers is not installed.
        ProviderError: The server does not answer.
        RunError: The served template refuses the messages.
    """
    from itertools import islice

    from unift.data import read_examples
    from unift.data.rendering import plain_messages, render

    trainer = _tokenizer(trained, base)
    serve = _asker(server, name) if server else _renderer(base)
    rows = tokens = 0
    for example in islice(read_examples(data), limit):
        where = f"{example.file}:{example.line}"
        learnt = render(trainer, example.messages, example.tools, where=where).input_ids
        read = serve(plain_messages(example.messages[:-1], where), example.tools)
        rows, tokens = rows + 1, tokens + len(read)
        found = _difference(trainer, learnt, read)
        if found is not None:
            found = {"row": rows, "line": example.line, **found}
            return TemplateCheck(rows, tokens, server or f"tokenizer of {base}", found)
    return TemplateCheck(rows, tokens, server or f"tokenizer of {base}")


def _difference(
    tokenizer: Any, learnt: Sequence[int], read: Sequence[int]
) -> dict[str, Any] | None:
    for place, (ours, theirs) in enumerate(zip(learnt, read, strict=False)):
        if ours != theirs:
            around = slice(max(0, place - _AROUND), place + _AROUND + 1)
            return {
                "token": place,
                "trained": tokenizer.decode(list(learnt[around])),
                "served": tokenizer.decode(list(read[around])),
                "trained_ids": list(learnt[around]),
                "served_ids": list(read[around]),
            }
    if len(read) >= len(learnt):
        return {
            "token": len(learnt),
            "trained": "(the row ends here)",
            "served": tokenizer.decode(list(read[len(learnt) - _AROUND :])),
            "trained_ids": [],
            "served_ids": list(read[len(learnt) :]),
        }
    return None


def _tokenizer(folder: str, base: str) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingDependency(
            "Comparing tokens needs transformers.",
            where="cutover",
            fix="pip install 'unift[local]'",
        ) from error
    loader: Any = AutoTokenizer
    for place in (folder, base):
        try:
            return loader.from_pretrained(place)
        except (OSError, ValueError):
            continue
    raise UsageError(
        f"No tokenizer can be loaded from {folder} or {base}.",
        code="no_tokenizer",
        where="cutover",
        fix="download the base first: hf download " + base,
    )


def _renderer(base: str) -> Callable[..., list[int]]:
    tokenizer = _tokenizer(base, base)

    def read(messages: Sequence[Mapping[str, Any]], tools: Any) -> list[int]:
        from jinja2.exceptions import TemplateError

        try:
            return list(
                tokenizer.apply_chat_template(
                    list(messages),
                    tools=tools or None,
                    add_generation_prompt=True,
                    tokenize=True,
                    return_dict=False,
                )
            )
        except TemplateError as error:
            raise RunError(
                f"The template of the served base refuses what was trained on: {error}.",
                code="template_differs",
                where=base,
                fix="serve with the template that lies beside the model",
            ) from error

    return read


def _asker(server: str, name: str) -> Callable[..., list[int]]:
    import os

    import httpx2

    root = server.rstrip("/").removesuffix("/v1")
    key = os.environ.get("UNIFT_API_KEY", "none")

    def read(messages: Sequence[Mapping[str, Any]], tools: Any) -> list[int]:
        body: dict[str, Any] = {"model": name, "messages": list(messages)}
        if tools:
            body["tools"] = tools
        try:
            answer = httpx2.post(
                f"{root}/tokenize",
                json=body,
                headers={"Authorization": f"Bearer {key}"},
                timeout=60,
            )
            answer.raise_for_status()
            return [int(token) for token in answer.json()["tokens"]]
        except (httpx2.HTTPError, KeyError, ValueError) as error:
            raise ProviderError(
                f"The server does not say how it tokenizes: {error}.",
                code="no_tokenize",
                where=f"{root}/tokenize",
                fix="start it with the command of the cutover; its key goes into UNIFT_API_KEY",
            ) from error

    return read
