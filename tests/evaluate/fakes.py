"""Small models that answer by rule, and count how often they are asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from unift.provider import Messages, Reply, Sampling


class Fake:
    """Answers with ``answer(messages)``; remembers every conversation it was asked."""

    def __init__(self, reference: str, answer: Callable[[Messages], str]) -> None:
        self.reference = reference
        self.answer = answer
        self.asked: list[Messages] = []
        self.closed = 0

    def chat(self, messages: Messages, sampling: Sampling | None = None) -> Reply:
        self.asked.append(messages)
        return Reply(text=self.answer(messages), seconds=0.5)

    def chat_many(
        self,
        conversations: Sequence[Messages],
        sampling: Sampling | None = None,
        on_reply: Callable[[int, Reply], None] | None = None,
    ) -> list[Reply]:
        replies: list[Reply] = []
        for index, messages in enumerate(conversations):
            replies.append(self.chat(messages, sampling))
            if on_reply:
                on_reply(index, replies[-1])
        return replies

    def close(self) -> None:
        self.closed += 1


def question(messages: Messages) -> str:
    """The last thing the user said."""
    return str(messages[-1]["content"])


def knows(answers: dict[str, str], every: int = 1, otherwise: str = "no idea") -> Any:
    """A rule that is right on every `every`-th question of `answers` and else says `otherwise`."""
    right = set(list(answers)[::every])

    def rule(messages: Messages) -> str:
        asked = question(messages)
        return answers[asked] if asked in right else otherwise

    return rule
