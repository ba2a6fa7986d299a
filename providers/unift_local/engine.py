"""A base model with many adapters in one process, rows of all of them in one batch.

peft mixes adapters inside a batch (``generate(adapter_names=[...])``, peft 0.21, "Inference with
different LoRA adapters in the same batch"). Every row keeps its own temperature, seed, length and
stop texts: drawing is done here, as the maximum of scores plus Gumbel noise (Gumbel 1954; the same
distribution as sampling), so that one greedy generation serves them all and a row's seed means the
same whatever else is in its batch.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from unift.data.rendering import prompt_text, stop_token_ids
from unift.engine import Delta, Prepared, TokenLogprob, Turn
from unift.errors import DataError
from unift_local.inference import _dtype, _load, _quiet, _tokenizer
from unift_local.models import download, resolve_model

_BASE = "__base__"  # peft's name for "no adapter"
_NOT_WHOLE = "\ufffd"  # what a tokenizer gives for the first bytes of a character


class LocalEngine:
    """Implements `unift.engine.Engine`.

    Args:
        base: ``demo``, a folder or a hub id.
        max_adapters: How many stay loaded; the one unused for longest goes first.
        four_bit: Hold the base in 4 bits, for adapters that were trained on it that way.

    Raises:
        UsageError, ProviderError: As `unift_local.models.resolve_model`.
    """

    def __init__(self, base: str, max_adapters: int, *, four_bit: bool = False) -> None:
        self.base = base
        files = resolve_model(base)
        cuda = torch.cuda.is_available()
        folder = files.folder if files.complete else download(files.reference, files.revision)
        with _quiet():
            model: Any = _load(str(folder), _dtype({}, files, cuda), four_bit, cuda)
            self._model: Any = model.eval()
        self._tokenizer = _tokenizer(folder, folder)
        self._lock = threading.Lock()  # a tokenizer is for one thread at a time
        self._context = files.context
        self._stops = sorted(stop_token_ids(self._tokenizer, self._model.generation_config))
        pad = self._tokenizer.pad_token_id
        self._pad = int(self._stops[0] if pad is None else pad)
        self._adapters: OrderedDict[str, str] = OrderedDict()  # folder -> peft's name, oldest first
        self._most = max_adapters
        self._made = 0
        template = str(getattr(self._tokenizer, "chat_template", "") or "")
        self.takes_tools = "tools" in template

    @property
    def adapters(self) -> tuple[str, ...]:
        """Folders of the loaded adapters, the one unused for longest first."""
        return tuple(self._adapters)

    def prepare(self, turn: Turn) -> Prepared:
        """The tokens of a turn. See `Engine.prepare`."""
        with self._lock:
            text = turn.prompt
            if text is None:
                text = prompt_text(self._tokenizer, list(turn.messages), list(turn.tools) or None)
            ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise DataError("The prompt is empty.", code="empty_prompt", where="prompt")
        room = turn.sampling.max_tokens
        if self._context is not None:
            room = min(room, self._context - len(ids))
        if room < 1:
            raise DataError(
                f"The prompt has {len(ids)} tokens, the context holds {self._context}, answer "
                "included.",
                code="context_length_exceeded",
                where="messages",
                fix="shorten the conversation",
            )
        return Prepared(turn=turn, tokens=tuple(ids), room=room)

    def answer(self, batch: Sequence[Prepared], on_delta: Callable[[int, Delta], bool]) -> None:
        """One generation for all rows. See `Engine.answer`."""
        with _quiet(), torch.inference_mode():
            names = self._names(batch)
            rows = [_Row(self, one, i, on_delta) for i, one in enumerate(batch)]
            width = max(len(one.tokens) for one in batch)
            fill = [[self._pad] * (width - len(one.tokens)) for one in batch]
            device = self._model.device
            ids = [[*left, *one.tokens] for left, one in zip(fill, batch, strict=True)]
            mask = [
                [0] * len(left) + [1] * len(one.tokens)
                for left, one in zip(fill, batch, strict=True)
            ]
            draw = _Draw(rows)
            extra: dict[str, Any] = {"adapter_names": names} if self._adapters else {}
            self._model.generate(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=GenerationConfig(
                    max_new_tokens=max(one.room for one in batch),
                    do_sample=False,
                    eos_token_id=self._stops,
                    pad_token_id=self._pad,
                    use_cache=True,
                ),
                logits_processor=[draw],
                stopping_criteria=[_Ended(rows)],
                streamer=_Feed(rows, draw),
                **extra,
            )

    def close(self) -> None:
        """Free the memory. Closing twice is fine."""
        self._model = cast("Any", None)
        self._adapters.clear()

    def decode(self, tokens: list[int]) -> str:
        """Text of tokens, without special ones."""
        with self._lock:
            return self._tokenizer.decode(tokens, skip_special_tokens=True)

    def is_stop(self, token: int) -> bool:
        return token in self._stops

    # --- adapters -----------------------------------------------------------------------------

    def _names(self, batch: Sequence[Prepared]) -> list[str]:
        """peft's name of every row's adapter, loaded if need be."""
        wanted = {one.turn.adapter for one in batch if one.turn.adapter is not None}
        for folder in sorted(wanted):
            if folder not in self._adapters:
                self._adapters[folder] = self._load(folder)
            self._adapters.move_to_end(folder)
        # Only after all are in: a batch may need more than the bound.
        while len(self._adapters) > max(self._most, len(wanted)):
            _, name = self._adapters.popitem(last=False)
            self._model.delete_adapter(name)
        return [_BASE if a is None else self._adapters[a] for a in (o.turn.adapter for o in batch)]

    def _load(self, folder: str) -> str:
        from peft import PeftModel

        self._made += 1
        name = f"adapter{self._made}"
        if isinstance(self._model, PeftModel):
            self._model.load_adapter(folder, adapter_name=name)
        else:
            self._model = PeftModel.from_pretrained(self._model, folder, adapter_name=name)
        self._model.eval()
        return name


class _Row:
    """One answer in the making."""

    def __init__(
        self,
        engine: LocalEngine,
        prepared: Prepared,
        index: int,
        on_delta: Callable[[int, Delta], bool],
    ) -> None:
        self.turn = prepared.turn
        self.done = False
        self._engine = engine
        self._room = prepared.room
        self._index = index
        self._tell = on_delta
        self._tokens: list[int] = []
        self._sent = ""
        self._logprobs: list[TokenLogprob] = []
        self.generator = torch.Generator()
        if self.turn.sampling.seed is not None:
            self.generator.manual_seed(self.turn.sampling.seed)
        else:
            self.generator.seed()
        # Text that may turn out to be the beginning of a stop text is held back.
        self._hold = max((len(text) for text in self.turn.stop), default=1) - 1

    def take(self, token: int, scores: torch.Tensor | None) -> None:
        """One more token; tells what is new."""
        if self.done:
            return
        if self._engine.is_stop(token):
            self._finish("stop", counted=len(self._tokens) + 1)
            return
        self._tokens.append(token)
        if scores is not None:
            self._logprobs.append(self._logprob(token, scores))
        text = self._engine.decode(self._tokens)
        cuts = [at for stop in self.turn.stop if (at := text.find(stop)) >= 0]
        if cuts:
            self._finish("stop", text[: min(cuts)])
        elif len(self._tokens) >= self._room:
            self._finish("length", text)
        elif not text.endswith(_NOT_WHOLE):
            self._send(text[: len(text) - self._hold] if self._hold else text)

    def _finish(self, why: str, text: str | None = None, counted: int | None = None) -> None:
        self._send(
            self._engine.decode(self._tokens) if text is None else text,
            why,
            len(self._tokens) if counted is None else counted,
        )
        self.done = True

    def _send(self, text: str, finish: str | None = None, count: int = 0) -> None:
        new = text[len(self._sent) :]
        if not (new or finish or self._logprobs):
            return
        self._sent = max(self._sent, text, key=len)
        piece = Delta(
            text=new, logprobs=tuple(self._logprobs), finish=finish, completion_tokens=count
        )
        self._logprobs = []
        if not self._tell(self._index, piece):
            self.done = True

    def _logprob(self, token: int, scores: torch.Tensor) -> TokenLogprob:
        many = self.turn.top_logprobs or 0
        top = torch.topk(scores, many) if many else None
        likely = (
            ()
            if top is None
            else tuple(
                (self._engine.decode([int(i)]), float(v))
                for v, i in zip(top.values, top.indices, strict=True)
            )
        )
        return TokenLogprob(
            token=self._engine.decode([token]), logprob=float(scores[token]), top=likely
        )


class _Draw(LogitsProcessor):
    """Scores -> scores whose maximum is the drawn token, row by row."""

    def __init__(self, rows: Sequence[_Row]) -> None:
        self._rows = rows
        self.logprobs: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if any(row.turn.top_logprobs is not None for row in self._rows):
            self.logprobs = torch.log_softmax(scores.float(), dim=-1).cpu()
        drawn = scores.float().clone()
        for i, row in enumerate(self._rows):
            wanted = row.turn.sampling
            if row.done or wanted.temperature <= 0:
                continue
            warm = drawn[i] / wanted.temperature
            if wanted.top_p < 1:
                order = torch.argsort(warm, descending=True)
                share = torch.softmax(warm[order], dim=-1)
                warm[order[share.cumsum(-1) - share >= wanted.top_p]] = -torch.inf
            uniform = torch.rand(warm.shape, generator=row.generator).clamp_min(1e-20)
            drawn[i] = warm - torch.log(-torch.log(uniform)).to(warm.device)
        return drawn


class _Ended(StoppingCriteria):
    def __init__(self, rows: Sequence[_Row]) -> None:
        self._rows = rows

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> Any:
        return torch.tensor([row.done for row in self._rows], device=input_ids.device)


class _Feed(BaseStreamer):
    """Hands each step's tokens to their rows; the first call carries the prompts."""

    def __init__(self, rows: Sequence[_Row], draw: _Draw) -> None:
        self._rows = rows
        self._draw = draw
        self._began = False

    def put(self, value: torch.Tensor) -> None:
        if not self._began:
            self._began = True
            return
        for i, row in enumerate(self._rows):
            known = self._draw.logprobs if row.turn.top_logprobs is not None else None
            row.take(int(value[i]), None if known is None else known[i])

    def end(self) -> None:
        """Nothing is left to say."""
