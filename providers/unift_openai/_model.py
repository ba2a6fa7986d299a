"""A hosted model that answers over chat completions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx2
import openai

from unift import remote
from unift.errors import ProviderError, UsageError
from unift.holdings import Busy, Completion
from unift.provider import Messages, Reply, Sampling, check_messages
from unift.remote import ask_many
from unift_openai._calls import connect, our_words, politely, retry_after, transient, translate
from unift_openai.hosts import Site

# Newer models refuse older names; each refusal names the parameter, and is believed once.
_OTHER_NAME = {"max_tokens": "max_completion_tokens"}
_DROPPABLE = ("temperature", "top_p", "seed", "logprobs")
# How a filter of a host says that it will not answer: OpenAI's, and Azure's name for it.
_FILTERED = ("content_filter", "content_policy_violation")
_AGAIN = 2


class HostedModel:
    """Implements `unift.provider.Model`.

    Args:
        place: Where it is.
        model: Its name there; None: the only one that the host lists.
        reference: How the user named it.

    Attributes:
        lost: Answers of `chat` that never came, and that the host may have charged.

    Raises:
        ProviderError: The host does not answer, or there is no key.
        UsageError: No name was given and there is not exactly one.
    """

    def __init__(self, place: Site, model: str | None, reference: str) -> None:
        self.reference = reference
        self._place = place
        # A server of one's own may be slow and queue its questions; waiting for it costs nothing.
        self._api = connect(place, timeout=3600.0 if place.loopback else 120.0)
        self._model = model or self._only_one()
        self._renamed: dict[str, str | None] = {}
        self._lock = threading.Lock()
        self.lost = 0

    def chat(
        self,
        messages: Messages,
        sampling: Sampling | None = None,
        tools: Messages | None = None,
    ) -> Reply:
        """Answer one conversation; `tools` are declarations as OpenAI writes them.

        What a filter of the host refuses is an empty answer, as it would be in production.

        Raises:
            ProviderError: The host refuses, or its answers are none.
        """
        check_messages(messages)
        wanted = sampling or Sampling()
        began = time.perf_counter()
        with our_words(self._place, f"model {self._model}"):
            try:
                answer = self._completion(messages, wanted, tools)
            except openai.BadRequestError as error:
                if error.code not in _FILTERED:
                    raise
                return Reply(text="", finish_reason="content_filter")
        choice = answer["choices"][0]
        message: Any = choice["message"]
        usage: Any = answer.get("usage") or {}
        return Reply(
            text=_text(message.get("content")) or message.get("refusal") or "",
            finish_reason=choice.get("finish_reason") or "stop",
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            seconds=time.perf_counter() - began,
            tool_calls=tuple(message.get("tool_calls") or ()),
            logprob=_logprob(choice.get("logprobs")),
        )

    def _completion(
        self, messages: Messages, wanted: Sampling, tools: Messages | None
    ) -> dict[str, Any]:
        """What the host answers, asked again where that may help.

        What may have been charged although it never came (a connection that broke, an answer that
        is none) is asked for `_AGAIN` times more, and counted in `lost`.
        """
        left = _AGAIN

        def once() -> dict[str, Any]:
            try:
                answer: Any = self._ask(messages, wanted, tools)
            except ValueError as error:
                raise self._none() from error
            if not _is_completion(answer):
                raise self._none()
            return answer

        def again(error: BaseException) -> bool:
            nonlocal left
            if isinstance(error, ProviderError) or _may_be_charged(error):
                with self._lock:
                    self.lost += 1
                left -= 1
                return left >= 0
            return transient(error)

        return remote.politely(once, again, retry_after)

    def _none(self) -> ProviderError:
        return ProviderError(
            f"{self._place.host.name} answered with something that is no chat completion.",
            code="no_completion",
            where=f"model {self._model}",
            fix="check the address: it has to end where /chat/completions begins",
        )

    def chat_many(
        self,
        conversations: Sequence[Messages],
        sampling: Sampling | None = None,
        on_reply: Callable[[int, Reply], None] | None = None,
        tools: Messages | None = None,
    ) -> list[Reply]:
        """Answer many, eight at a time; replies in the order given, `on_reply` as each is ready.

        Raises:
            ProviderError: One of them failed for good; the rest is not asked any more.
        """
        return ask_many(lambda one: self.chat(one, sampling, tools), conversations, on_reply)

    def complete(self, body: Mapping[str, Any]) -> Completion:
        """Ask once, with everything that the host says of the answer.

        See `unift.verbs.Completes`. Only a refused parameter name is put right and sent again:
        a refusal costs nothing.

        Raises:
            Busy: Asking again later may help.
            ProviderError: It would not.
        """
        given = dict(body)
        messages = given.pop("messages")
        began = time.perf_counter()
        try:
            answer: Any = self._send(messages, given)
        except ValueError:
            answer = None  # no JSON
        except openai.OpenAIError as error:
            told = translate(error, self._place, f"model {self._model}")
            if not transient(error):
                raise told from error
            raise Busy(
                told.message,
                code=told.code,
                where=told.where,
                fix=told.fix,
                after=retry_after(error),
                billed=_may_be_charged(error),
            ) from error
        seconds = time.perf_counter() - began
        if not _is_completion(answer):
            raise self._none()
        choice = answer["choices"][0]
        return Completion(
            message={k: v for k, v in choice["message"].items() if v is not None},
            finish_reason=choice.get("finish_reason") or "stop",
            model=answer.get("model") or self._model,
            logprobs=choice.get("logprobs"),
            usage=answer.get("usage"),
            seconds=seconds,
        )

    def close(self) -> None:
        """Close the connections. Closing twice is fine."""
        self._api.close()

    def _ask(self, messages: Messages, wanted: Sampling, tools: Messages | None) -> dict[str, Any]:
        given: dict[str, Any] = {
            "temperature": wanted.temperature,
            "top_p": wanted.top_p,
            "max_tokens": wanted.max_tokens,
            "logprobs": True,
        }
        if wanted.seed is not None:
            given["seed"] = wanted.seed
        if tools:
            given["tools"] = list(tools)
        return self._send(messages, given)

    def _send(self, messages: Messages, given: Mapping[str, Any]) -> dict[str, Any]:
        while True:
            names = dict(self._renamed)  # as of now: other threads learn at the same time
            body: dict[str, Any] = {
                new: value
                for key, value in given.items()
                if (new := names.get(key, key)) is not None
            }
            body |= {"model": self._model, "messages": list(messages)}
            try:
                # The SDK's way without its types: building them takes longer than the rest of the
                # call, and bounds how many answers a second one process can ask for.
                return self._api.post(
                    "/chat/completions", cast_to=httpx2.Response, body=body
                ).json()
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                key = _refused(error)
                if key is None or key in names:
                    raise
                self._renamed[key] = _OTHER_NAME.get(key)

    def _only_one(self) -> str:
        with our_words(self._place, self._place.url):
            names = [model.id for model in politely(lambda: self._api.models.list()).data]
        if len(names) == 1:
            return names[0]
        raise UsageError(
            f"{self._place.url} serves {len(names)} models; say which one.",
            code="model_not_named",
            where=self.reference,
            fix=f"add #NAME: {', '.join(names[:5])}",
        )


def _text(content: Any) -> str:
    """The text of a message, which some hosts give in parts."""
    if isinstance(content, list):
        parts: list[Any] = content
        return "".join(str(one.get("text") or "") for one in parts if isinstance(one, dict))
    return content if isinstance(content, str) else ""


def _is_completion(answer: Any) -> bool:
    choices: Any = answer.get("choices") if isinstance(answer, dict) else None
    first: Any = choices[0] if isinstance(choices, list) and choices else None
    return isinstance(first, dict) and isinstance(first.get("message"), dict)


def _may_be_charged(error: BaseException) -> bool:
    """A refusal (429) did nothing, nor did a host that was not reached; of a connection that broke
    while an answer was awaited nobody knows."""
    unreached = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
    return isinstance(error, openai.APIConnectionError) and not isinstance(
        error.__cause__, unreached
    )


def _refused(error: openai.APIStatusError) -> str | None:
    """The parameter that a model does not take, if unift can do without it or name it otherwise."""
    key = str(error.param or "")
    # The whole answer: not every host words its refusals as OpenAI does.
    if "logprobs" in f"{key} {error.message} {error.response.text}":
        return "logprobs"
    known = key in _OTHER_NAME or key in _DROPPABLE
    return key if known and str(error.code).startswith("unsupported") else None


def _logprob(value: Any) -> float | None:
    """The log probability of the whole answer; None where not every token has one."""
    tokens: Any = value.get("content") if isinstance(value, dict) else None
    known: list[Any] = [one.get("logprob") for one in tokens or ()]
    return sum(known) if known and all(isinstance(one, int | float) for one in known) else None
