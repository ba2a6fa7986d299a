"""Which tokens carry loss, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unift.data.rendering import plain_messages, prompt_text, render, render_all
from unift.errors import DataError

SPECIALS = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
MARKED = (
    "{%- for m in messages -%}"
    "{%- if m['role'] == 'assistant' -%}{{- '<|assistant|>' -}}"
    "{%- generation -%}{{- m['content'] + '<|end|>' -}}{%- endgeneration -%}"
    "{%- elif m['role'] in ['system', 'user'] -%}"
    "{{- '<|' + m['role'] + '|>' + m['content'] + '<|end|>' -}}"
    "{%- else -%}{{- raise_exception('no role ' + m['role']) -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
# As most published templates are: no marks, and a newline after the stop token.
PLAIN = (
    "{%- if tools -%}{{- '<|system|>' + (tools | tojson) + '<|end|>\\n' -}}{%- endif -%}"
    "{%- for m in messages -%}"
    "{{- '<|' + m['role'] + '|>' + m['content'] -}}"
    "{%- for c in m['tool_calls'] or [] -%}{{- c.function.name + c.function.arguments.city -}}"
    "{%- endfor -%}"
    "{{- '<|end|>\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
UNENDED = PLAIN.replace("{{- '<|end|>\\n' -}}{%- endfor -%}", "{{- '\\n' -}}{%- endfor -%}")
# Writes earlier answers shorter once later messages follow, as templates of thinking models do.
REWRITING = (
    "{%- for m in messages -%}{{- '<|' + m['role'] + '|>' -}}"
    "{{- m['content'] if loop.last or m['role'] != 'assistant' else '...' -}}"
    "{{- '<|end|>' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def build(template: str | None) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: number for number, token in enumerate(SPECIALS + alphabet)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=SPECIALS[2:],
    )
    made.chat_template = template
    return made


@pytest.fixture(scope="module")
def marked() -> Any:
    return build(MARKED)


@pytest.fixture(scope="module")
def plain() -> Any:
    return build(PLAIN)


def turn(role: str, content: str, **extra: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **extra}


TALK = [
    turn("system", "be kind"),
    turn("user", "hi"),
    turn("assistant", "hello"),
    turn("user", "name?"),
    turn("assistant", "ada"),
]


def learnt(tokenizer: Any, rendered: Any) -> str:
    pairs = zip(rendered.input_ids, rendered.trained, strict=True)
    return tokenizer.decode([token for token, trained in pairs if trained])


@pytest.mark.parametrize("template", [MARKED, PLAIN])
def test_loss_falls_on_answers_and_their_stop_tokens_only(template: str) -> None:
    tokenizer = build(template)
    rendered = render(tokenizer, TALK)
    assert learnt(tokenizer, rendered) == "hello<|end|>ada<|end|>"
    assert rendered.text == tokenizer.apply_chat_template(TALK, tokenize=False)
    assert rendered.input_ids == tokenizer.apply_chat_template(TALK)["input_ids"]
    assert [rendered.text[a:b] for a, b in rendered.spans] == ["hello<|end|>", "ada<|end|>"]
    assert rendered.trained_tokens == len("hello") + len("ada") + 2


@pytest.mark.parametrize("template", [MARKED, PLAIN])
def test_weight_0_takes_a_turn_out_of_the_loss(template: str) -> None:
    tokenizer = build(template)
    messages = [*TALK[:2], {**TALK[2], "weight": 0}, TALK[3], {**TALK[4], "weight": 1}]
    assert learnt(tokenizer, render(tokenizer, messages)) == "ada<|end|>"


def test_tools_and_tool_arguments_reach_the_template(plain: Any) -> None:
    call = {"type": "function", "function": {"name": "w", "arguments": '{"city": "Oslo"}'}}
    messages = [turn("user", "weather"), turn("assistant", None, tool_calls=[call])]
    rendered = render(plain, messages, tools=[{"type": "function", "function": {"name": "w"}}])
    assert learnt(plain, rendered) == "wOslo<|end|>"
    assert '"name": "w"' in rendered.text


def test_text_parts_are_joined_and_other_parts_refused(plain: Any) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert plain_messages([turn("user", parts)])[0]["content"] == "ab"  # type: ignore[arg-type]  # parts
    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    with pytest.raises(DataError, match="image_url") as caught:
        render(plain, [turn("user", image), turn("assistant", "ok")], where="f.jsonl:3")  # type: ignore[arg-type]  # parts
    assert (caught.value.code, caught.value.where) == ("content_type", "f.jsonl:3")


@pytest.mark.parametrize(
    ("messages", "code", "words"),
    [
        ([turn("user", "hi")], "empty_mask", "no assistant turn"),
        ([turn("user", "hi"), turn("assistant", "x", weight=0)], "empty_mask", "weight"),
        ([turn("pope", "hi"), turn("assistant", "x")], "template_refused", "no role pope"),
    ],
)
def test_rows_without_use_are_refused_with_the_reason(
    marked: Any, messages: list[dict[str, Any]], code: str, words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        render(marked, messages, where="d.jsonl:7")
    assert caught.value.code == code
    assert caught.value.where == "d.jsonl:7"
    assert caught.value.fix


def test_a_template_that_never_ends_the_turn_is_refused() -> None:
    with pytest.raises(DataError, match=r"stop token .* carries no loss") as caught:
        render(build(UNENDED), TALK)
    assert caught.value.code == "stop_untrained"


def test_the_stop_tokens_of_the_generation_config_count(marked: Any) -> None:
    from unift.data.rendering import stop_token_ids

    ids = stop_token_ids(marked, {"eos_token_id": [1, 4]})
    assert ids == {marked.eos_token_id, 1, 4}
    only_system = frozenset({marked.convert_tokens_to_ids("<|system|>")})
    with pytest.raises(DataError, match="never learn to stop"):
        render(marked, TALK, stop_ids=only_system)


def test_a_turn_that_the_template_rewrites_is_named() -> None:
    tokenizer = build(REWRITING)
    with pytest.raises(DataError, match=r"messages\[2\]") as caught:
        render(tokenizer, TALK)
    assert caught.value.code == "turn_not_found"
    last_only = [*TALK[:2], {**TALK[2], "weight": 0}, *TALK[3:]]
    assert learnt(tokenizer, render(tokenizer, last_only)) == "ada<|end|>"


def test_a_long_row_is_refused_and_never_cut(marked: Any) -> None:
    length = len(render(marked, TALK).input_ids)
    assert len(render(marked, TALK, max_length=length).input_ids) == length
    with pytest.raises(DataError, match=f"{length} tokens, 3 more than") as caught:
        render(marked, TALK, max_length=length - 3)
    assert caught.value.code == "row_too_long"


def test_no_template_is_said_once_and_not_for_every_row() -> None:
    rows = [SimpleNamespace(messages=TALK, tools=None, file="d", line=n) for n in (1, 2)]
    with pytest.raises(DataError, match="no chat template") as caught:
        render_all(build(None), rows)
    assert caught.value.code == "no_chat_template"


def test_all_bad_rows_are_reported_together(marked: Any) -> None:
    good = SimpleNamespace(messages=TALK, tools=None, file="d.jsonl", line=1)
    empty = SimpleNamespace(messages=TALK[:2], tools=None, file="d.jsonl", line=2)
    pope = SimpleNamespace(
        messages=[turn("pope", "x"), turn("assistant", "y")], tools=None, file="d.jsonl", line=3
    )
    assert len(render_all(marked, [good, good])) == 2
    with pytest.raises(DataError, match="2 of 3 rows") as caught:
        render_all(marked, [good, empty, pope])
    found = [(one.code, one.line) for one in caught.value.findings]
    assert found == [("empty_mask", 2), ("template_refused", 3)]
    assert all(one.message and one.fix for one in caught.value.findings)


def test_the_prompt_ends_where_the_answer_begins(marked: Any) -> None:
    prompt = prompt_text(marked, TALK[:-1])
    assert render(marked, TALK).text == prompt + "ada<|end|>"


words = st.text(min_size=0, max_size=20).filter(lambda text: "<|" not in text)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(words, words, st.booleans()), min_size=1, max_size=4))
def test_marks_and_prefixes_find_the_same_tokens(
    marked: Any, turns: list[tuple[str, str, bool]]
) -> None:
    unmarked = build(MARKED.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", ""))
    messages = [
        message
        for question, answer, trained in turns
        for message in (turn("user", question), turn("assistant", answer, weight=int(trained)))
    ]
    messages[-1]["weight"] = 1
    one, other = render(marked, messages), render(unmarked, messages)
    assert one == other
    wanted = "".join(
        answer + "<|end|>"
        for answer, message in zip((a for _, a, _ in turns), messages[1::2], strict=True)
        if message["weight"]
    )
    assert learnt(marked, one) == wanted


@pytest.mark.parametrize("how", ["tool_calls", "function_call"])
def test_a_call_that_the_template_does_not_write_is_refused(how: str) -> None:
    function = {"name": "weather", "arguments": "{}"}
    call = {"id": "c", "type": "function", "function": function}
    said = {"tool_calls": [call]} if how == "tool_calls" else {"function_call": function}
    with pytest.raises(DataError, match="weather") as caught:
        render(build(MARKED), [{"role": "user", "content": "Oslo?"}, {"role": "assistant", **said}])
    assert caught.value.code == "call_not_rendered"
