"""A model that calls tools: trained to through the server, its calls parsed, whole and in pieces.

The embedded model knows no tools. Its copy here has a chat template in the convention of Qwen and
Hermes, and is trained for some seconds on rows with calls. Nothing stands in for the engine.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.serve.conftest import launch
from unift.demo import model_path

pytestmark = pytest.mark.slow
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "find_order",
            "parameters": {"type": "object", "properties": {"order": {"type": "string"}}},
        },
    }
]
TEMPLATE = """\
{%- if tools %}{{- '<|system|>tools ' + tools | map(attribute='function') | map(attribute='name')
 | join(' ') + '<|end|>' }}{%- endif -%}
{%- for message in messages -%}
  {{- '<|' + ('user' if message['role'] == 'tool' else message['role']) + '|>' -}}
  {%- if message['role'] == 'assistant' -%}
    {%- generation -%}
      {{- message['content'] or '' -}}
      {%- for call in message['tool_calls'] or [] -%}
        {{- '<tool_call>{"name": "' + call['function']['name'] + '", "arguments": ' -}}
        {{- call['function']['arguments'] if call['function']['arguments'] is string
            else call['function']['arguments'] | tojson -}}
        {{- '}</tool_call>' -}}
      {%- endfor -%}
      {{- '<|end|>' -}}
    {%- endgeneration -%}
  {%- else -%}{{- message['content'] + '<|end|>' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


def asked(order: int) -> Any:
    return [{"role": "user", "content": f"Where is order {order}?"}]


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[openai.OpenAI, str, str]]:
    """The SDK at a server, the name of a model there that calls, and of its base."""
    folder = tmp_path_factory.mktemp("tools")
    base = folder / "caller"
    shutil.copytree(model_path(), base)
    (base / "chat_template.jinja").write_text(TEMPLATE)
    rows: list[dict[str, Any]] = []
    for number in range(100, 116):
        call = {"name": "find_order", "arguments": json.dumps({"order": str(number)})}
        answer: dict[str, Any] = {"role": "assistant", "content": "Let me look. "}
        answer["tool_calls"] = [{"id": "call_1", "type": "function", "function": call}]
        rows.append({"messages": [*asked(number), answer], "tools": TOOLS})
    data = folder / "calls.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    server = launch(folder, "--model", str(base), with_keys=False)
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        file = client.files.create(file=data, purpose="fine-tune")
        hyper: Any = {"n_epochs": 12, "batch_size": 4, "learning_rate_multiplier": 15}
        job = client.fine_tuning.jobs.create(
            model="caller",
            training_file=file.id,
            method={"type": "supervised", "supervised": {"hyperparameters": hyper}},
        )
        until = time.monotonic() + 240
        while job.status not in ("succeeded", "failed", "cancelled"):
            assert time.monotonic() < until
            time.sleep(0.2)
            job = client.fine_tuning.jobs.retrieve(job.id)
        assert job.fine_tuned_model, job.error
        yield client, job.fine_tuned_model, "caller"
    assert server.stop() == 0


def test_a_call_is_parsed(caller: tuple[openai.OpenAI, str, str]) -> None:
    client, model, _ = caller
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=asked(105), tools=TOOLS, temperature=0, max_tokens=80
    )
    whole = ChatCompletion.model_validate_json(raw.content, strict=True)
    (choice,) = whole.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me look."
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "find_order"
    assert isinstance(json.loads(call.function.arguments)["order"], str)

    # What the tool said goes back, and the answer goes on.
    result = {"role": "tool", "tool_call_id": call.id, "content": "shipped"}
    said: Any = [*asked(105), choice.message.model_dump(exclude_none=True), result]
    again = client.chat.completions.create(model=model, messages=said, tools=TOOLS, max_tokens=4)
    assert again.usage is not None
    assert again.usage.prompt_tokens > (whole.usage.prompt_tokens if whole.usage else 0)


def test_a_call_in_pieces_is_the_same(caller: tuple[openai.OpenAI, str, str]) -> None:
    client, model, _ = caller
    ask: dict[str, Any] = {"model": model, "messages": asked(111), "tools": TOOLS}
    ask |= {"temperature": 0, "max_tokens": 80}
    (choice,) = client.chat.completions.create(**ask).choices
    text, calls, ends, texts = "", list[Any](), list[str](), 0
    for chunk in client.chat.completions.create(**ask, stream=True):
        for piece in chunk.choices:
            text += piece.delta.content or ""
            texts += bool(piece.delta.content)
            calls += piece.delta.tool_calls or []
            ends += [piece.finish_reason] if piece.finish_reason else []
    assert text.strip() == choice.message.content
    assert texts > 1, "the text before a call does not wait for it"
    assert ends == ["tool_calls"]
    (whole,) = choice.message.tool_calls or []
    (call,) = calls
    assert (call.index, call.function) == (0, call.function)
    assert call.function.model_dump() == whole.function.model_dump()  # type: ignore[union-attr]


def test_without_tools_what_looks_like_a_call_is_text(
    caller: tuple[openai.OpenAI, str, str],
) -> None:
    client, model, base = caller
    ask: dict[str, Any] = {"messages": asked(107), "temperature": 0, "max_tokens": 80}
    none = client.chat.completions.create(model=model, tools=TOOLS, tool_choice="none", **ask)
    assert none.choices[0].message.tool_calls is None
    assert none.choices[0].finish_reason != "tool_calls"
    plain = client.chat.completions.create(model=base, tools=TOOLS, **ask)
    assert plain.choices[0].message.tool_calls is None, "the base does not call"
