"""One answer in the making: its tokens, its dice, and for a stream its text and its stop texts.

Every row keeps its own temperature, seed, length and stop texts, whatever else is in its batch. A
token is drawn as the maximum of scores plus Gumbel noise (Gumbel 1954; the same distribution as
sampling), so a row's seed means the same in any company.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from unift.engine import Delta, Prepared, TokenLogprob
from unift.provider import Sampling

Likely = Sequence[tuple[int, float]]  # token and log probability, likeliest first
_NOT_WHOLE = "\ufffd"  # what a tokenizer gives for the first bytes of a character


class Words(Protocol):
    """What a row needs of a tokenizer."""

    def decode(self, tokens: list[int]) -> str: ...

    def is_stop(self, token: int) -> bool: ...


class Answer(ABC):
    """One answer as a batch sees it.

    Args:
        tokens: The prompt.
        sampling: How it is drawn.
        adapter: peft's name of the adapter that answers; used where a batch mixes them.
        top: Log probabilities: None for none, 0 for those of the drawn tokens, else also for so
            many of the likeliest.
    """

    def __init__(
        self, tokens: Sequence[int], sampling: Sampling, adapter: str = "", top: int | None = None
    ) -> None:
        self.prompt = tokens
        self.adapter = adapter
        self.top = top
        self.done = False
        self.last = 0  # the token drawn last
        self._sampling = sampling
        self._dice: torch.Generator | None = None

    @property
    def draws(self) -> bool:
        return self._sampling.temperature > 0

    def draw(self, scores: torch.Tensor) -> int:
        """A token for scores over the vocabulary (float32, on the CPU)."""
        wanted = self._sampling
        if self._dice is None:
            self._dice = torch.Generator()
            if wanted.seed is not None:
                self._dice.manual_seed(wanted.seed)
            else:
                self._dice.seed()
        warm = scores / wanted.temperature
        if wanted.top_p < 1:
            order = torch.argsort(warm, descending=True)
            share = torch.softmax(warm[order], dim=-1)
            warm[order[share.cumsum(-1) - share >= wanted.top_p]] = -torch.inf
        uniform = torch.rand(warm.shape, generator=self._dice).clamp_min(1e-20)
        return int(torch.argmax(warm - torch.log(-torch.log(uniform))))

    @abstractmethod
    def take(self, token: int, logprob: float | None, likely: Likely) -> None:
        """One more token, with the logarithm of its probability and the likeliest ones."""


class Whole(Answer):
    """An answer that nobody reads before it is whole. Stops are tokens.

    Args:
        number: Its place among the questions.
        room: How many tokens it may have.
        stops: Tokens that end it.
    """

    def __init__(
        self,
        number: int,
        tokens: Sequence[int],
        sampling: Sampling,
        *,
        room: int,
        stops: frozenset[int],
    ) -> None:
        super().__init__(tokens, sampling, top=0)
        self.number = number
        self.room = room
        self.seconds = 0.0
        self._stops = stops
        self.restart()

    @property
    def most(self) -> int:
        """Tokens that it may come to, prompt included."""
        return len(self.prompt) + self.room

    def restart(self) -> None:
        """Forget what was drawn."""
        self.kept: list[int] = []
        self.stopped = self.done = False
        self.logprob = 0.0  # of the tokens kept, natural logarithm
        self._dice = None

    def take(self, token: int, logprob: float | None, likely: Likely) -> None:
        self.last = token
        self.stopped = token in self._stops
        if not self.stopped:
            self.kept.append(token)
            self.logprob += logprob or 0.0
        self.done = self.stopped or len(self.kept) >= self.room


class Row(Answer):
    """One answer that is read while it grows.

    Args:
        prepared: The question.
        adapter: peft's name of the adapter that answers.
        words: The tokenizer.
        tell: Gets every piece; False from it ends the answer.
    """

    def __init__(
        self, prepared: Prepared, adapter: str, words: Words, tell: Callable[[Delta], bool]
    ) -> None:
        turn = prepared.turn
        super().__init__(prepared.tokens, turn.sampling, adapter, turn.top_logprobs)
        self.prepared = prepared
        self._turn = turn
        self._words = words
        self._tell = tell
        self._tokens: list[int] = []
        # Text is decoded in windows: what is before `_read` is text already, and the tokens from
        # `_window` on give a tokenizer what it needs to join the next ones to it.
        self._text = ""
        self._window = self._read = 0
        self._sent = 0
        self._logprobs: list[TokenLogprob] = []
        # Text that may turn out to be the beginning of a stop text is held back.
        self._hold = max((len(text) for text in self._turn.stop), default=1) - 1

    def take(self, token: int, logprob: float | None, likely: Likely) -> None:
        """Tells what is new."""
        self.last = token
        if self._words.is_stop(token):
            self._finish("stop", self._text + self._tail(), counted=len(self._tokens) + 1)
            return
        self._tokens.append(token)
        if logprob is not None:
            top = tuple((self._words.decode([one]), value) for one, value in likely)
            self._logprobs.append(
                TokenLogprob(token=self._words.decode([token]), logprob=logprob, top=top)
            )
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


def take(rows: Sequence[Answer], scores: torch.Tensor) -> None:
    """Draw the next token of every row from its scores (rows x vocabulary) and hand it over.

    Log probabilities are the model's own, whatever the temperature.
    """
    tokens: list[int] = scores.argmax(dim=-1).tolist()
    for i, row in enumerate(rows):
        if row.draws:
            tokens[i] = row.draw(scores[i].float().cpu())
    known: dict[int, float] = {}
    likely: dict[int, Likely] = {}
    asking = [i for i, row in enumerate(rows) if row.top is not None]
    if asking:
        own = (scores if len(asking) == len(rows) else scores[asking]).float()
        total = own.logsumexp(dim=-1)
        taken = torch.tensor([[tokens[i]] for i in asking], device=own.device)
        values: list[float] = (own.gather(1, taken)[:, 0] - total).tolist()
        known = dict(zip(asking, values, strict=True))
        for place, i in enumerate(asking):
            if rows[i].top:
                found = torch.topk(own[place] - total[place], rows[i].top or 0)
                likely[i] = list(zip(found.indices.tolist(), found.values.tolist(), strict=True))
    for i, row in enumerate(rows):
        row.take(tokens[i], known.get(i), likely.get(i, ()))
