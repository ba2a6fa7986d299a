"""One answer in the making: its tokens, its text as it grows, its stop texts, its dice.

Every row keeps its own temperature, seed, length and stop texts, whatever else is in its batch. A
token is drawn as the maximum of scores plus Gumbel noise (Gumbel 1954; the same distribution as
sampling), so a row's seed means the same in any company.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from unift.engine import Delta, Prepared, TokenLogprob

_NOT_WHOLE = "\ufffd"  # what a tokenizer gives for the first bytes of a character


class Words(Protocol):
    """What a row needs of a tokenizer."""

    def decode(self, tokens: list[int]) -> str: ...

    def is_stop(self, token: int) -> bool: ...


class Row:
    """One answer.

    Args:
        prepared: The question.
        adapter: peft's name of the adapter that answers.
        words: The tokenizer.
        tell: Gets every piece; False from it ends the answer.
    """

    def __init__(
        self, prepared: Prepared, adapter: str, words: Words, tell: Callable[[Delta], bool]
    ) -> None:
        self.prepared = prepared
        self.adapter = adapter
        self.done = False
        self.last = 0  # the token drawn last
        self._turn = prepared.turn
        self._words = words
        self._tell = tell
        self._tokens: list[int] = []
        # Text is decoded in windows: what is before `_read` is text already, and the tokens from
        # `_window` on give a tokenizer what it needs to join the next ones to it.
        self._text = ""
        self._window = self._read = 0
        self._sent = 0
        self._logprobs: list[TokenLogprob] = []
        self._dice = torch.Generator()
        if self._turn.sampling.seed is not None:
            self._dice.manual_seed(self._turn.sampling.seed)
        else:
            self._dice.seed()
        # Text that may turn out to be the beginning of a stop text is held back.
        self._hold = max((len(text) for text in self._turn.stop), default=1) - 1

    @property
    def wants_logprobs(self) -> bool:
        return self._turn.top_logprobs is not None

    @property
    def draws(self) -> bool:
        return self._turn.sampling.temperature > 0

    def draw(self, scores: torch.Tensor) -> int:
        """A token for scores over the vocabulary (float32, on the CPU)."""
        wanted = self._turn.sampling
        warm = scores / wanted.temperature
        if wanted.top_p < 1:
            order = torch.argsort(warm, descending=True)
            share = torch.softmax(warm[order], dim=-1)
            warm[order[share.cumsum(-1) - share >= wanted.top_p]] = -torch.inf
        uniform = torch.rand(warm.shape, generator=self._dice).clamp_min(1e-20)
        return int(torch.argmax(warm - torch.log(-torch.log(uniform))))

    def take(self, token: int, logprobs: torch.Tensor | None) -> None:
        """One more token; tells what is new."""
        self.last = token
        if self._words.is_stop(token):
            self._finish("stop", self._text + self._tail(), counted=len(self._tokens) + 1)
            return
        self._tokens.append(token)
        if logprobs is not None:
            self._logprobs.append(self._logprob(token, logprobs))
        tail = self._tail()
        text = self._text + tail
        cuts = [at for stop in self._turn.stop if (at := text.find(stop)) >= 0]
        if cuts:
            self._finish("stop", text[: min(cuts)])
        elif len(self._tokens) >= self.prepared.room:
            self._finish("length", text)
        elif not tail.endswith(_NOT_WHOLE):
            self._text = text
            self._window, self._read = self._read, len(self._tokens)
            self._send(text[: len(text) - self._hold] if self._hold else text)

    def _tail(self) -> str:
        """Text of the tokens that are no text yet."""
        before = self._words.decode(self._tokens[self._window : self._read])
        return self._words.decode(self._tokens[self._window :])[len(before) :]

    def _finish(self, why: str, text: str, counted: int | None = None) -> None:
        self._send(text, why, len(self._tokens) if counted is None else counted)
        self.done = True

    def _send(self, text: str, finish: str | None = None, count: int = 0) -> None:
        new = text[self._sent :]
        if not (new or finish or self._logprobs):
            return
        self._sent = max(self._sent, len(text))
        piece = Delta(
            text=new, logprobs=tuple(self._logprobs), finish=finish, completion_tokens=count
        )
        self._logprobs = []
        if not self._tell(piece):
            self.done = True

    def _logprob(self, token: int, logprobs: torch.Tensor) -> TokenLogprob:
        many = self._turn.top_logprobs or 0
        top = torch.topk(logprobs, many) if many else None
        likely = (
            ()
            if top is None
            else tuple(
                (self._words.decode([int(i)]), float(v))
                for v, i in zip(top.values, top.indices, strict=True)
            )
        )
        return TokenLogprob(
            token=self._words.decode([token]), logprob=float(logprobs[token]), top=likely
        )


def take(rows: Sequence[Row], scores: torch.Tensor) -> None:
    """Draw the next token of every row from its scores (rows x vocabulary) and hand it over."""
    likeliest: list[int] = scores.argmax(dim=-1).tolist()
    for i, row in enumerate(rows):
        own = scores[i].float().cpu() if row.draws or row.wants_logprobs else None
        token = row.draw(own) if own is not None and row.draws else likeliest[i]
        known = torch.log_softmax(own, dim=-1) if own is not None and row.wants_logprobs else None
        row.take(token, known)
