"""Rows for property tests: plain ones, odd ones, and nearly valid JSON."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

# Pieces that some check looks for, so that they occur more often than by chance.
SPICE = [
    "TODO", "...", "{{name}}", "I'm sorry, but I can't", "<think>", "</think>", "cafÃ©", "â€™",
    "\ufffd", "<|im_end|>", "[INST]", "</s>", "```", "```\n", "\0", " ", "\n", "\u00a0", "As an AI",
    '":', '\\":', '"', "\\", "ï»¿", "Â°", "Äpfel", "/", "😀", "lorem ipsum", "<<SYS>>",
]  # fmt: skip
texts = st.lists(st.one_of(st.text(max_size=8), st.sampled_from(SPICE)), max_size=4).map("".join)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
roles = st.sampled_from(["system", "developer", "user", "assistant", "tool"])
plain_messages = st.fixed_dictionaries(
    {"role": roles, "content": texts}, optional={"weight": st.sampled_from([0, 1])}
)
odd_messages = st.one_of(
    plain_messages,
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.one_of(roles, json_values),
            "content": json_values,
            "weight": json_values,
            "name": json_values,
            "tool_calls": json_values,
            "tool_call_id": json_values,
            "extra": json_values,
        },
    ),
)
plain_rows = st.fixed_dictionaries({"messages": st.lists(plain_messages, max_size=4)})
tidy_rows = st.builds(
    lambda system, turns: {
        "messages": [
            *([{"role": "system", "content": system}] if system else []),
            *(
                message
                for question, answer in turns
                for message in (
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": answer},
                )
            ),
        ]
    },
    texts,
    st.lists(st.tuples(texts, texts), min_size=1, max_size=2),
)


def _turn(**spoken: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(spoken)


_shared = st.one_of(
    _turn(**{"from": st.sampled_from(["human", "gpt", "system", "user", "tool"]), "value": texts}),
    _turn(role=roles, content=texts),
)
_parts = st.lists(_turn(text=texts), min_size=1, max_size=2)
_content = _turn(role=st.sampled_from(["user", "model"]), parts=_parts)
_answer = _turn(role=st.just("assistant"), content=texts)
_instruction = st.fixed_dictionaries({"parts": _parts}, optional={"role": st.just("system")})


def _pairs(first: Any, second: Any, more: Any) -> st.SearchStrategy[Any]:
    """Mostly conversations in order, sometimes any."""
    order = st.lists(st.tuples(first, second), min_size=1, max_size=2)
    return st.one_of(order.map(lambda pairs: [one for pair in pairs for one in pair]), more)


_contents = _pairs(
    _turn(role=st.just("user"), parts=_parts), _turn(role=st.just("model"), parts=_parts),
    st.lists(_content, max_size=3),
)  # fmt: skip
#: Format -> rows of it, most of them plain.
format_rows = {
    "openai-preference": st.fixed_dictionaries(
        {
            "input": st.fixed_dictionaries(
                {
                    "messages": st.one_of(
                        st.lists(plain_messages, max_size=3),
                        st.lists(_turn(role=st.just("user"), content=texts), min_size=1),
                    )
                },
                optional={"parallel_tool_calls": st.booleans()},
            ),
            "preferred_output": st.lists(_answer, min_size=1, max_size=2),
            "non_preferred_output": st.lists(_answer, min_size=1, max_size=1),
        }
    ),
    "gemini": st.fixed_dictionaries(
        {"contents": _contents}, optional={"systemInstruction": _instruction, "x": json_values}
    ),
    "gemini-preference": st.fixed_dictionaries(
        {
            "contents": _contents.map(lambda turns: turns[:1]),
            "completions": st.lists(
                st.fixed_dictionaries(
                    {
                        "score": st.sampled_from([0, 1, 1.0, 0.0, 0.5]),
                        "completion": _turn(role=st.just("model"), parts=_parts),
                    }
                ),
                min_size=2,
                max_size=2,
            ),
        },
        optional={"systemInstruction": _instruction},
    ),
    "prompt-completion": st.fixed_dictionaries(
        {"prompt": texts, "completion": texts}, optional={"x": texts}
    ),
    "alpaca": st.fixed_dictionaries(
        {"instruction": texts, "output": texts},
        optional={"input": st.one_of(texts, st.none()), "system": texts},
    ),
    "sharegpt": st.fixed_dictionaries(
        {
            "conversations": _pairs(
                _turn(**{"from": st.just("human"), "value": texts}),
                _turn(**{"from": st.just("gpt"), "value": texts}),
                st.lists(_shared, max_size=3),
            )
        },
        optional={"system": texts},
    ),
}
_pair = st.fixed_dictionaries({"chosen": texts, "rejected": texts})
_asked = st.lists(_turn(role=st.just("user"), content=texts), min_size=1, max_size=2)
_one_answer = st.lists(_answer, min_size=1, max_size=1)
format_rows["openai-chat"] = plain_rows
format_rows["trl-preference"] = st.one_of(
    st.fixed_dictionaries({"prompt": texts, "chosen": texts, "rejected": texts}),
    st.fixed_dictionaries({"prompt": _asked, "chosen": _one_answer, "rejected": _one_answer}),
    st.tuples(_asked, _one_answer, st.lists(_answer, min_size=1, max_size=2)).map(
        lambda row: {"chosen": row[0] + row[1], "rejected": row[0] + row[2]}
    ),
    _pair,
)
_note_values = st.recursive(
    st.one_of(texts, st.booleans(), st.integers(), st.just(2**64), st.floats(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(texts | st.just("a"), inner, max_size=2)
    ),
    max_leaves=4,
)
_notes = st.dictionaries(st.sampled_from(["id", "metadata", "source"]), _note_values, max_size=2)


def noted_rows(rows: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The rows, many of them with notes beside what is learnt."""
    return st.one_of(
        rows, st.tuples(_notes, rows, _notes).map(lambda row: {**row[0], **row[1], **row[2]})
    )


odd_rows = st.one_of(
    plain_rows,
    tidy_rows,
    st.fixed_dictionaries(
        {"messages": st.one_of(st.lists(odd_messages, max_size=3), json_values)},
        optional={"tools": json_values, "parallel_tool_calls": json_values, "x": json_values},
    ),
    json_values,
)


@st.composite
def spellings(draw: st.DrawFn, rows: st.SearchStrategy[Any]) -> bytes:
    """One row as a line, in one of the ways that programs write JSON."""
    row = draw(rows)
    text = json.dumps(
        row,
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : ")])),
        sort_keys=draw(st.booleans()) and not _mixed(row),
    )
    if draw(st.booleans()):  # as PHP and .NET escape
        text = text.replace("/", "\\/")
    if draw(st.booleans()):
        text = text.replace("<", "\\u003c").replace("'", "\\u0027")
    return text.encode("utf-8", "surrogatepass")


def _mixed(row: Any) -> bool:
    return not isinstance(row, dict)


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A line with bytes taken out, put in or swapped, without a line end."""
    line = bytearray(draw(spellings(odd_rows)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(line)))
        match draw(st.sampled_from(["cut", "insert", "drop"])):
            case "cut":
                del line[at:]
            case "insert":
                line[at:at] = draw(
                    st.one_of(
                        st.binary(min_size=1, max_size=3),
                        st.sampled_from([b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"NaN"]),
                    )
                )
            case _:
                del line[at : at + 2]
    return bytes(line).replace(b"\n", b"")


lines = st.one_of(spellings(odd_rows), broken(), st.binary(max_size=40)).map(
    lambda line: line.replace(b"\n", b"")
)
