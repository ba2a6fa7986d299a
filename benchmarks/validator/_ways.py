"""What is measured: the validator and its peers, each a function of a path that returns rows."""

from __future__ import annotations

import json
import tempfile


def notebook(path: str) -> int:
    """The checks of OpenAI's cookbook: 'Data preparation ... for chat model fine-tuning'."""
    errors = rows = 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            rows += 1
            example = json.loads(line)
            if not isinstance(example, dict):
                errors += 1
                continue
            messages = example.get("messages", None)
            if not messages:
                errors += 1
                continue
            for message in messages:
                if "role" not in message or "content" not in message:
                    errors += 1
                known = ("role", "content", "name", "function_call", "weight")
                if any(key not in known for key in message):
                    errors += 1
                if message.get("role", None) not in ("system", "user", "assistant", "function"):
                    errors += 1
                content = message.get("content", None)
                call = message.get("function_call", None)
                if (not content and not call) or not isinstance(content, str):
                    errors += 1
            if not any(message.get("role", None) == "assistant" for message in messages):
                errors += 1
    return rows


def mistral(path: str) -> int:
    """What mistral-finetune's validator checks of the form of a conversation."""
    from pydantic import BaseModel, ConfigDict

    class Said(BaseModel):
        model_config = ConfigDict(extra="forbid")
        role: str
        content: str
        weight: float | None = None

    errors = 0
    with open(path, encoding="utf-8") as file:
        rows = file.readlines()
    for row in rows:
        try:
            value = json.loads(row)
            if ("messages" in value) == ("interactions" in value):
                raise ValueError("one of messages and interactions")
            said: list[Said] = []
            system = None
            for message in value.get("messages", value.get("interactions")):
                if "role" not in message or ("content" in message) == ("text" in message):
                    raise ValueError("role and content")
                role = message["role"]
                if role not in ("system", "user", "assistant", "tool"):
                    raise ValueError("role")
                text = message.get("content", message.get("text"))
                if role == "system":
                    if system is not None:
                        raise ValueError("two system prompts")
                    system = text
                else:
                    said.append(Said(role=role, content=text, weight=message.get("weight")))
            wanted = ["user", "assistant"] * len(said)
            if [one.role for one in said] != wanted[: len(said)] or said[-1].role != "assistant":
                raise ValueError("order")
        except ValueError:
            errors += 1
    return len(rows)


def pydantic_typed(path: str) -> int:
    """A typed model of a row, one line at a time."""
    from typing import Literal

    from pydantic import BaseModel, ConfigDict

    class Message(BaseModel):
        model_config = ConfigDict(extra="forbid")
        role: Literal["system", "user", "assistant"]
        content: str
        weight: Literal[0, 1] | None = None

    class Row(BaseModel):
        model_config = ConfigDict(extra="forbid")
        messages: list[Message]

    globals().update(Message=Message)
    Row.model_rebuild(_types_namespace={"Message": Message})
    read, rows = Row.model_validate_json, 0
    with open(path, "rb") as file:
        for line in file:
            read(line)
            rows += 1
    return rows


def msgspec_typed(path: str) -> int:
    """Typed decoding alone: what the fast path rests on."""
    from unift.data._shapes import CHAT  # type: ignore[reportPrivateUsage]  # the very same decoder

    decode, rows = CHAT.decoder.decode, 0
    with open(path, "rb") as file:
        for line in file:
            decode(line)
            rows += 1
    return rows


def hf_datasets(path: str) -> int:
    """Reading alone, with a cold cache."""
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        found = datasets.load_dataset("json", data_files=path, cache_dir=cache, split="train")
        return found.num_rows


def unift_form(path: str) -> int:
    """Everything but exact tokens."""
    from unift.data import validate

    return validate(path, max_findings=1000).rows


def unift_tokens(path: str) -> int:
    """Everything, with exact tokens of o200k_base."""
    from unift.data import validate

    return validate(path, model="gpt-4.1-mini-2025-04-14", max_findings=1000).rows


def tiktoken_alone(path: str) -> int:
    """Parsing and encoding every text, in one thread."""
    from unift.data._ranks import encoding

    encode, rows = encoding("o200k_base").encode_to_numpy, 0
    with open(path, "rb") as file:
        for line in file:
            for message in json.loads(line)["messages"]:
                encode(message["content"], disallowed_special=())
            rows += 1
    return rows


WAYS = {
    way.__name__: way
    for way in (
        notebook, mistral, pydantic_typed, msgspec_typed, hf_datasets, unift_form, unift_tokens,
        tiktoken_alone,
    )
}  # fmt: skip
