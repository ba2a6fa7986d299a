"""A model on Google's platform that answers: Gemini, a tuned Gemini, or an endpoint of your own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from google.genai import errors, types

from unift.data.formats import Row, format_named
from unift.errors import UsageError
from unift.provider import Messages, Reply, Sampling, check_messages
from unift.remote import ask_many
from unift_google._calls import client, our_words, politely, rest
from unift_google.site import Site

_REFUSED = (400, 404, 501)  # what an endpoint says that speaks another language


class EndpointModel:
    """Implements `unift.provider.Model`.

    A tuned Gemini speaks ``generateContent``. An endpoint to which you deployed an open model
    speaks chat completions instead: the first refusal is believed, once.

    Args:
        place: Project and location; a reference that names its own location wins.
        reference: ``projects/P/locations/L/endpoints/E``, ``.../models/M``, or a Gemini id.

    Raises:
        UsageError: A tuned model that is deployed nowhere.
        ProviderError: Google does not answer, or refuses.
    """

    def __init__(self, place: Site, reference: str) -> None:
        self.reference = reference
        parts = reference.split("/")
        if reference.startswith("projects/") and len(parts) >= 6:
            place = Site(parts[1], parts[3], place.bucket)
        self._place = place
        with our_words(f"model {reference}"):
            self._model = self._deployed(reference) if "/models/" in reference else reference
            self._api = client(place)
        self._chats = False

    def chat(self, messages: Messages, sampling: Sampling | None = None) -> Reply:
        """Answer one conversation.

        Raises:
            UsageError: It holds what Gemini's form has no place for.
        """
        check_messages(messages)
        wanted = sampling or Sampling()
        began = time.perf_counter()
        with our_words(f"model {self.reference}"):
            reply = self._ask(messages, wanted)
        return reply.model_copy(update={"seconds": time.perf_counter() - began})

    def chat_many(
        self,
        conversations: Sequence[Messages],
        sampling: Sampling | None = None,
        on_reply: Callable[[int, Reply], None] | None = None,
    ) -> list[Reply]:
        """Answer many, eight at a time; replies in the order given, `on_reply` as each is ready."""
        return ask_many(lambda messages: self.chat(messages, sampling), conversations, on_reply)

    def close(self) -> None:
        """Nothing to free: connections are shared and kept."""

    def _ask(self, messages: Messages, wanted: Sampling) -> Reply:
        if self._chats:
            return self._completion(messages, wanted)
        try:
            return self._content(messages, wanted)
        except errors.APIError as error:
            if error.code not in _REFUSED or "/endpoints/" not in self._model:
                raise
            try:
                reply = self._completion(messages, wanted)
            except errors.APIError:
                raise error from None
            self._chats = True
            return reply

    def _content(self, messages: Messages, wanted: Sampling) -> Reply:
        row = format_named("gemini").write(Row("chat", [dict(one) for one in messages]), _lose)
        config = types.GenerateContentConfig(
            temperature=wanted.temperature,
            top_p=wanted.top_p,
            max_output_tokens=wanted.max_tokens,
            seed=wanted.seed,
            system_instruction=row.get("systemInstruction"),
        )
        answer = politely(
            lambda: self._api.models.generate_content(
                model=self._model, contents=row["contents"], config=config
            )
        )
        candidate = answer.candidates[0] if answer.candidates else None
        parts = (candidate.content.parts if candidate and candidate.content else None) or []
        usage = answer.usage_metadata
        blocked = answer.prompt_feedback.block_reason if answer.prompt_feedback else None
        reason = candidate.finish_reason if candidate else blocked
        return Reply(
            text="".join(part.text for part in parts if part.text and not part.thought),
            finish_reason=_reason(reason),
            prompt_tokens=usage.prompt_token_count if usage else None,
            completion_tokens=usage.candidates_token_count if usage else None,
        )

    def _completion(self, messages: Messages, wanted: Sampling) -> Reply:
        body: dict[str, Any] = {
            "messages": list(messages),
            "temperature": wanted.temperature,
            "top_p": wanted.top_p,
            "max_tokens": wanted.max_tokens,
        }
        if wanted.seed is not None:
            body["seed"] = wanted.seed
        path = f"{self._model}/chat/completions"
        answer = politely(lambda: rest(self._place, "POST", path, json=body))
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        return Reply(
            text=choice["message"].get("content") or "",
            finish_reason=choice.get("finish_reason") or "stop",
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
        )

    def _deployed(self, reference: str) -> str:
        """The endpoint of a tuned model."""
        found = politely(lambda: rest(self._place, "GET", reference))
        for one in found.get("deployedModels", ()):
            return str(one["endpoint"])
        raise UsageError(
            f"The model '{found.get('displayName', reference)}' is deployed nowhere.",
            code="model_not_deployed",
            where=reference,
            fix="deploy it in the Cloud console, then name its endpoint",
        )


def _lose(kind: str, what: str) -> None:
    raise UsageError(f"Gemini's form has no place for {what}.", where=kind, fix="leave it out")


def _reason(word: Any) -> str:
    """``stop`` and ``length`` as everywhere; any other word as Google says it, in lower case."""
    text = str(getattr(word, "value", word) or "stop").lower()
    return {"max_tokens": "length", "finish_reason_unspecified": "stop"}.get(text, text)
