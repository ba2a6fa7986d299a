"""``/v1/chat/completions`` and ``/v1/completions`` over an engine in this process."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from anyio import to_thread

from unift.engine import Delta, Prepared, TokenLogprob, Turn
from unift.serve._batcher import Batcher
from unift.serve._requests import ChatBody, CompletionBody

# How Qwen, Hermes and their kin write a call; a model that writes otherwise answers in plain text.
_OPENS = "<tool_call>"
_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


class Answer:
    """One answer of either kind, whole or in pieces."""

    def __init__(self, batcher: Batcher, body: ChatBody | CompletionBody, adapter: str | None):
        self._batcher = batcher
        self._body = body
        self._chat = isinstance(body, ChatBody)
        if isinstance(body, ChatBody):
            self._turn: Turn = body.turn(adapter, batcher.engine.takes_tools)
        else:
            self._turn = body.turn(adapter)
        self._id = f"{'chatcmpl' if self._chat else 'cmpl'}-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._prepared: Prepared | None = None
        self.completion_tokens = 0

    async def prepare(self) -> None:
        """Render the prompt. Raises DataError for messages that the template refuses."""
        self._prepared = await to_thread.run_sync(self._batcher.engine.prepare, self._turn)

    @property
    def prompt_tokens(self) -> int:
        return len(self._prepared.tokens) if self._prepared else 0

    def _pieces(self) -> AsyncGenerator[Delta]:
        assert self._prepared is not None
        return self._batcher.answer(self._prepared)

    # --- whole --------------------------------------------------------------------------------

    async def whole(self) -> dict[str, Any]:
        """The vendor's completion object."""
        text, logprobs, finish = "", list[TokenLogprob](), "stop"
        async for piece in self._pieces():
            text += piece.text
            logprobs += piece.logprobs
            self._count(piece)
            finish = piece.finish or finish
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        if self._chat:
            content, calls = self._calls(text)
            message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
            if calls:
                message["tool_calls"] = calls
                choice["finish_reason"] = "tool_calls"
            choice |= {"message": message, "logprobs": self._logprobs(logprobs)}
        else:
            choice |= {"text": text, "logprobs": self._logprobs(logprobs)}
        kind = "chat.completion" if self._chat else "text_completion"
        return {**self._head(kind), "choices": [choice], "usage": self._usage()}

    # --- in pieces ----------------------------------------------------------------------------

    async def stream(self) -> AsyncIterator[str]:
        """Server-sent events, as the vendor words them."""
        if self._chat:
            yield self._event({"role": "assistant", "content": "", "refusal": None})
        held = ""
        async for piece in self._pieces():
            finish = piece.finish
            self._count(piece)
            text = piece.text
            if self._turn.tools:
                held += text
                text, held = _before_a_call(held)  # a call is told when it is complete
                if finish is not None:
                    if text:
                        yield self._event({"content": text})
                    text, calls = self._calls(held)
                    for number, call in enumerate(calls):
                        yield self._event({"tool_calls": [{"index": number, **call}]})
                    finish = "tool_calls" if calls else finish
            if text or piece.logprobs:
                yield self._event({"content": text}, logprobs=piece.logprobs)
            if finish is not None:
                yield self._event({}, finish=finish)
        if self._body.include_usage:
            kind = "chat.completion.chunk" if self._chat else "text_completion"
            yield _sse({**self._head(kind), "choices": [], "usage": self._usage()})
        yield "data: [DONE]\n\n"

    def _event(
        self,
        delta: dict[str, Any],
        finish: str | None = None,
        logprobs: tuple[TokenLogprob, ...] = (),
    ) -> str:
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": finish,
            "logprobs": self._logprobs(list(logprobs)) if logprobs else None,
        }
        if self._chat:
            return _sse(
                {**self._head("chat.completion.chunk"), "choices": [{**choice, "delta": delta}]}
            )
        choice["text"] = delta.get("content", "")
        return _sse({**self._head("text_completion"), "choices": [choice]})

    def _count(self, piece: Delta) -> None:
        """The engine says the number of tokens at the end; until then a piece is about one."""
        self.completion_tokens = (
            piece.completion_tokens if piece.finish else (self.completion_tokens + 1)
        )

    # --- parts --------------------------------------------------------------------------------

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._body.model,
        }

    def _usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }

    def _calls(self, text: str) -> tuple[str | None, list[dict[str, Any]]]:
        """The calls in an answer and the text around them; text that only looks like one stays."""
        calls: list[dict[str, Any]] = []
        if not self._turn.tools:
            return text, calls
        # Whoever wants one call at a time gets the first; the text of the others goes, too.
        most = 1 if getattr(self._body, "parallel_tool_calls", None) is False else None
        for match in list(_CALL.finditer(text))[:most]:
            try:
                call: dict[str, Any] = json.loads(match[1])
                function = {
                    "name": str(call["name"]),
                    "arguments": json.dumps(call.get("arguments", {}), ensure_ascii=False),
                }
            except (ValueError, KeyError):
                return text, []
            calls.append(
                {"id": f"call_{secrets.token_hex(8)}", "type": "function", "function": function}
            )
        return (_CALL.sub("", text).strip() or None, calls) if calls else (text, calls)

    def _logprobs(self, found: list[TokenLogprob]) -> dict[str, Any] | None:
        if self._turn.top_logprobs is None:
            return None
        if self._chat:
            return {"content": [_chat_logprob(one) for one in found], "refusal": None}
        offsets: list[int] = []
        at = len(self._turn.prompt or "")
        for one in found:
            offsets.append(at)
            at += len(one.token)
        return {
            "tokens": [one.token for one in found],
            "token_logprobs": [one.logprob for one in found],
            "top_logprobs": [dict(one.top) for one in found],
            "text_offset": offsets,
        }


def _before_a_call(text: str) -> tuple[str, str]:
    """What may be shown already, and what is or may become a call."""
    at = text.find(_OPENS)
    if at < 0:
        tails = (n for n in range(min(len(text), len(_OPENS)), 0, -1))
        at = len(text) - next((n for n in tails if _OPENS.startswith(text[-n:])), 0)
    return text[:at], text[at:]


def _chat_logprob(one: TokenLogprob) -> dict[str, Any]:
    def entry(token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

    return {**entry(one.token, one.logprob), "top_logprobs": [entry(*top) for top in one.top]}


def _sse(document: dict[str, Any]) -> str:
    return f"data: {json.dumps(document, ensure_ascii=False)}\n\n"
