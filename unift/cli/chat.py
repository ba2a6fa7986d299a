"""unift chat: talk to a model."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from unift.cli._output import Json, emit, err, out
from unift.errors import UsageError


def command(
    model: Annotated[str, typer.Argument(help="run:ID, demo, path:FOLDER, hf:OWNER/NAME.")],
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="Ask once and stop.")] = None,
    system: Annotated[str | None, typer.Option(help="The system message.")] = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 256,
    json: Json = False,
) -> None:
    """Chat with a model, or ask it one thing (--prompt, or a prompt on stdin)."""
    import unift
    from unift.provider import Sampling

    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read().strip()
        if not prompt:
            raise UsageError("There is no prompt.", where="stdin", fix="give --prompt 'Hello'")
    if prompt is not None and not prompt.isascii():
        try:
            prompt.encode()
        except UnicodeEncodeError:
            raise UsageError(
                "The prompt is not UTF-8.", where="prompt", fix="export LC_ALL=C.UTF-8"
            ) from None
    if json and prompt is None:
        raise UsageError("--json needs a prompt.", where="--json", fix="give --prompt 'Hello'")
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    start: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    answerer = unift.load(model)
    try:
        if prompt is not None:
            reply = answerer.chat([*start, {"role": "user", "content": prompt}], sampling)
            if json:
                emit({"model": model, **reply.model_dump()})
            else:
                out.print(reply.text)
            return
        err.print(f"Talking to {model}. An empty line or Ctrl-D ends it.", style="dim")
        messages = start
        while question := _ask():
            messages.append({"role": "user", "content": question})
            reply = answerer.chat(messages, sampling)
            messages.append({"role": "assistant", "content": reply.text})
            out.print(reply.text)
    finally:
        answerer.close()


def _ask() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""
