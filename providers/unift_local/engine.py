"""A base model with many adapters in one process, rows of all of them in one running batch.

peft mixes adapters inside a batch (``adapter_names``, peft 0.21, "Inference with different LoRA
adapters in the same batch"). Rows join and leave it between two steps (`running`); what is drawn is
each row's own business (`answering`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

import torch

from unift.data.rendering import prompt_text, stop_token_ids
from unift.engine import Delta, Prepared, Turn
from unift.errors import DataError
from unift_local.answering import Row
from unift_local.inference import _dtype, _load, _quiet, _tokenizer
from unift_local.models import download, resolve_model
from unift_local.running import Batch, Forward

_BASE = "__base__"  # peft's name for "no adapter"


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
        self._batch = Batch(Forward(self._model, self._model.config), self._pad)
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

    @property
    def running(self) -> int:
        """How many rows are being answered, those included that join at the next step."""
        return len(self._batch.rows)

    def join(self, prepared: Prepared, tell: Callable[[Delta], bool]) -> None:
        """Take a turn in, its adapter loaded if need be. See `Engine.join`."""
        with _quiet():
            name = self._name(prepared.turn.adapter)
        self._batch.join(Row(prepared, name, self, tell))

    def step(self) -> int:
        """One token for every row; new ones have their prompts read first. See `Engine.step`."""
        with _quiet(), torch.inference_mode():
            self._batch.step(self._model, mixed=bool(self._adapters))
        return self.running

    def abandon(self) -> None:
        """Forget every row. See `Engine.abandon`."""
        self._batch.clear()

    def close(self) -> None:
        """Free the memory. Closing twice is fine."""
        self._model = cast("Any", None)
        self._adapters.clear()
        self.abandon()

    def decode(self, tokens: list[int]) -> str:
        """Text of tokens, without special ones."""
        with self._lock:
            return self._tokenizer.decode(tokens, skip_special_tokens=True)

    def is_stop(self, token: int) -> bool:
        return token in self._stops

    # --- adapters -----------------------------------------------------------------------------

    def _name(self, folder: str | None) -> str:
        """peft's name of an adapter, loaded if need be."""
        if folder is None:
            return _BASE
        if folder not in self._adapters:
            self._adapters[folder] = self._load(folder)
        self._adapters.move_to_end(folder)
        busy = {row.adapter for row in self._batch.rows} | {self._adapters[folder]}
        idle = [one for one, name in self._adapters.items() if name not in busy]
        # A batch may need more than the bound; then it holds again when rows have left.
        for one in idle[: max(0, len(self._adapters) - self._most)]:
            self._model.delete_adapter(self._adapters.pop(one))
        return self._adapters[folder]

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
