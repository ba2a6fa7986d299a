"""Chat messages -> the tokens a model is trained on, and which of them carry loss.

The tokenizer's own chat template decides the text. Loss falls on assistant turns whose ``weight``
is not 0, the stop token included: a model that never sees a loss on its stop token learns to
answer and then to go on talking. A conversation for which that cannot be had is an error here,
because training on it gives a healthy-looking loss and a useless model.

Which characters belong to which turn is found in one of two ways:

1. ``{% generation %}`` marks in the template (Hugging Face's convention since transformers 4.42,
   https://huggingface.co/docs/transformers/chat_templating_writing), one block per assistant turn;
2. otherwise by rendering prefixes: the text of ``messages[:i]`` with the generation prompt and of
   ``messages[:i+1]`` enclose turn ``i``, provided that both really are prefixes of the whole text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from unift.data._templates import items, plain_messages
from unift.errors import DataError

#: At most so many bad rows are quoted in the summary of `render_all`; `findings` holds them all.
_QUOTED = 3


class Example(Protocol):
    """What is needed of a training example (see `unift.data.Example`)."""

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def tools(self) -> Sequence[Mapping[str, Any]] | None: ...
    @property
    def file(self) -> str: ...
    @property
    def line(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Rendered:
    """One conversation as the model sees it.

    `input_ids` and `trained` have one entry per token; `spans` are the half-open character ranges
    of `text` that carry loss.
    """

    input_ids: list[int]
    trained: list[bool]
    text: str
    spans: tuple[tuple[int, int], ...]

    @property
    def trained_tokens(self) -> int:
        """How many tokens carry loss."""
        return sum(self.trained)


@dataclass(frozen=True, slots=True)
class RowFinding:
    """Why one row cannot be trained on: stable `code`, place, reason and remedy."""

    code: str
    file: str
    line: int
    message: str
    fix: str
    severity: str = "error"


def stop_token_ids(tokenizer: Any, generation_config: Any = None) -> frozenset[int]:
    """Tokens that end an answer: the tokenizer's eos and all eos of the generation config."""
    ids: set[int] = set()
    if tokenizer.eos_token_id is not None:
        ids.add(int(tokenizer.eos_token_id))
    extra = getattr(generation_config, "eos_token_id", None)
    if isinstance(generation_config, Mapping):
        extra = cast("Mapping[str, Any]", generation_config).get("eos_token_id")
    if isinstance(extra, int):
        ids.add(extra)
    elif extra is not None:
        ids.update(int(one) for one in extra)
    return frozenset(ids)


def prompt_text(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], tools: Any = None, *, where: str = ""
) -> str:
    """The text that asks the model for the next assistant turn.

    Raises:
        DataError: No chat template, or the template refuses the messages.
    """
    _need_template(tokenizer, where)
    return _template(tokenizer, plain_messages(messages, where), tools, where, prompt=True)


def render(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
    *,
    where: str = "",
    max_length: int | None = None,
    stop_ids: frozenset[int] | None = None,
) -> Rendered:
    """Render one conversation with the tokenizer's own chat template.

    Args:
        tokenizer: A fast tokenizer of transformers (character offsets are needed).
        messages: Chat messages; an assistant message may carry ``weight`` 0 (no loss) or 1.
        tools: Tool definitions handed to the template.
        where: ``file:line``, for errors.
        max_length: Longest row that is allowed, in tokens. Nothing is ever cut.
        stop_ids: Tokens that end an answer (`stop_token_ids`); default: the tokenizer's eos.

    Raises:
        DataError: No template, messages that the template refuses, no trained token, a stop token
            without loss, a turn that cannot be located, or more than `max_length` tokens.
    """
    _need_template(tokenizer, where)
    chat = plain_messages(messages, where)
    turns = [i for i, message in enumerate(chat) if message.get("role") == "assistant"]
    wanted = [i for i in turns if messages[i].get("weight", 1) != 0]
    if not wanted:
        raise DataError(
            "No token would be trained: the row has no assistant turn with a weight other than 0.",
            code="empty_mask",
            where=where,
            fix="add the answer as an assistant message, or remove the row",
        )
    text, blocks = _generation_blocks(tokenizer, chat, tools, where)
    if len(blocks) == len(turns):
        by_turn = dict(zip(turns, blocks, strict=True))
        spans = [by_turn[i] for i in wanted]
    else:
        spans = [_turn_span(tokenizer, chat, i, text, tools, where) for i in wanted]
    for i, (start, end) in zip(wanted, spans, strict=True):
        _check_calls(chat[i], text[start:end], i, where)

    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids: list[int] = list(encoded["input_ids"])
    offsets: list[tuple[int, int]] = [(int(a), int(b)) for a, b in encoded["offset_mapping"]]
    stops = stop_ids if stop_ids is not None else stop_token_ids(tokenizer)
    trained = [False] * len(ids)
    kept: list[tuple[int, int]] = []
    last: list[int] = []
    for start, end in spans:
        # A token that straddles the start belongs to the prompt: at inference it is given.
        inside = [n for n, (a, _) in enumerate(offsets) if start <= a < end]
        inside = _until_stop(inside, ids, offsets, text, stops)
        for n in inside:
            trained[n] = True
        if inside:
            kept.append((offsets[inside[0]][0], offsets[inside[-1]][1]))
        last = inside
    if not any(trained):
        raise DataError(
            "No token would be trained: the trained turns are empty under the chat template.",
            code="empty_mask",
            where=where,
            fix="give the assistant turns some content, or remove the row",
        )
    if not last or ids[last[-1]] not in stops:
        names = ", ".join(repr(tokenizer.decode([one])) for one in sorted(stops)) or "none"
        raise DataError(
            f"The stop token after the last trained turn carries no loss (stop tokens: {names}; "
            f"the turn ends with {text[kept[-1][0] : kept[-1][1]][-24:]!r}), so the model would "
            "never learn to stop.",
            code="stop_untrained",
            where=where,
            fix="use a chat template that ends each assistant turn with the tokenizer's eos token, "
            "inside the {% generation %} block if it has one",
        )
    if max_length is not None and len(ids) > max_length:
        raise DataError(
            f"The row has {len(ids)} tokens, {len(ids) - max_length} more than max_length "
            f"{max_length}.",
            code="row_too_long",
            where=where,
            fix=f"shorten or split the row, or set max_length to at least {len(ids)} "
            "if the model's context allows it",
        )
    return Rendered(input_ids=ids, trained=trained, text=text, spans=tuple(kept))


def render_all(
    tokenizer: Any,
    examples: Iterable[Example],
    max_length: int | None = None,
    *,
    stop_ids: frozenset[int] | None = None,
) -> list[Rendered]:
    """Render every example; none is dropped and none is cut.

    Raises:
        DataError: `findings` holds a `RowFinding` for every bad row, in file order.
    """
    rows: list[Rendered] = []
    bad: list[RowFinding] = []
    for example in examples:
        try:
            rows.append(
                render(
                    tokenizer,
                    example.messages,
                    example.tools,
                    where=f"{example.file}:{example.line}",
                    max_length=max_length,
                    stop_ids=stop_ids,
                )
            )
        except DataError as error:
            if error.code == "no_chat_template":  # the same for every row
                raise
            bad.append(RowFinding(error.code, example.file, example.line, error.message, error.fix))
    if bad:
        quoted = " ".join(f"{one.file}:{one.line}: {one.message}" for one in bad[:_QUOTED])
        more = f" And {len(bad) - _QUOTED} more." if len(bad) > _QUOTED else ""
        raise DataError(
            f"{len(bad)} of {len(bad) + len(rows)} rows cannot be trained on. {quoted}{more}",
            code=bad[0].code if len({one.code for one in bad}) == 1 else "bad_rows",
            where=f"{bad[0].file}:{bad[0].line}",
            fix=bad[0].fix,
            findings=bad,
        )
    return rows


def _check_calls(message: Mapping[str, Any], text: str, number: int, where: str) -> None:
    """A template without tools writes nothing for a call: the model would learn to be silent."""
    calls = [one["function"] for one in items(message.get("tool_calls") or [])]
    old = message.get("function_call")
    if isinstance(old, Mapping):
        calls.append(old)
    lost = next((one.get("name") for one in calls if str(one.get("name")) not in text), None)
    if lost is None:
        return
    fix = "use a model whose chat template has tools, or take them out: unift convert --drop tools"
    if old is not None:
        fix = "write it as tool_calls, or mend the file: unift validate FILE --fix OUT"
    raise DataError(
        f"The chat template does not write the call of {lost!r} in messages[{number}], so it would "
        "not be learnt.",
        code="call_not_rendered",
        where=where,
        fix=fix,
    )


def _need_template(tokenizer: Any, where: str) -> None:
    if not getattr(tokenizer, "chat_template", None):
        raise DataError(
            "The tokenizer has no chat template, so chat messages have no defined text.",
            code="no_chat_template",
            where=where,
            fix="use the chat ('instruct') variant of the model, or put a chat_template.jinja "
            "beside its tokenizer.json",
        )
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(
            "The tokenizer gives no character offsets, so the loss cannot be put on answers.",
            code="no_chat_template",
            where=where,
            fix="use a model with a tokenizer.json (a fast tokenizer)",
        )


def _template(
    tokenizer: Any,
    chat: list[dict[str, Any]],
    tools: Any,
    where: str,
    *,
    prompt: bool = False,
) -> str:
    from jinja2.exceptions import TemplateError

    try:
        return str(
            tokenizer.apply_chat_template(
                chat, tools=tools, tokenize=False, add_generation_prompt=prompt
            )
        )
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise _refused(chat, error, where) from error


def _refused(chat: list[dict[str, Any]], error: Exception, where: str) -> DataError:
    order = ", ".join(str(message.get("role")) for message in chat)
    return DataError(
        f"The model's chat template refuses this conversation (roles: {order}): {error}",
        code="template_refused",
        where=where,
        fix="change the order or the roles of the messages as the template asks",
    )


def _generation_blocks(
    tokenizer: Any, chat: list[dict[str, Any]], tools: Any, where: str
) -> tuple[str, list[tuple[int, int]]]:
    """The whole text and the character ranges of its ``{% generation %}`` blocks (if any)."""
    from jinja2.exceptions import TemplateError
    from transformers.utils import chat_template_utils

    template = tokenizer.get_chat_template(None, list(tools) if tools else None)
    if "generation" not in template.replace("add_generation_prompt", ""):
        return _template(tokenizer, chat, tools, where), []
    try:
        texts, blocks = cast("Any", chat_template_utils).render_jinja_template(
            conversations=[chat],
            tools=list(tools) if tools else None,
            chat_template=template,
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise _refused(chat, error, where) from error
    return str(texts[0]), [(int(a), int(b)) for a, b in blocks[0]]


def _turn_span(
    tokenizer: Any, chat: list[dict[str, Any]], turn: int, text: str, tools: Any, where: str
) -> tuple[int, int]:
    """Characters of one turn, from the texts of the conversation before and after it."""
    before = _template(tokenizer, chat[:turn], tools, where, prompt=True) if turn else ""
    after = _template(tokenizer, chat[: turn + 1], tools, where)
    if not text.startswith(before) or not text.startswith(after) or len(before) > len(after):
        raise DataError(
            f"The turn at messages[{turn}] cannot be located: the chat template writes it "
            "differently once later messages follow, and it has no {% generation %} marks.",
            code="turn_not_found",
            where=where,
            fix="set weight 0 on all but the last assistant turn, split the conversation into one "
            "row per answer, or add {% generation %} marks to the chat template",
        )
    return len(before), len(after)


def _until_stop(
    inside: list[int],
    ids: list[int],
    offsets: list[tuple[int, int]],
    text: str,
    stops: frozenset[int],
) -> list[int]:
    """Without what follows the stop token if that is only white space (a newline, as a rule)."""
    for position in range(len(inside) - 1, -1, -1):
        if ids[inside[position]] in stops:
            rest = text[offsets[inside[position]][1] : offsets[inside[-1]][1]]
            return inside[: position + 1] if not rest.strip() else inside
    return inside
