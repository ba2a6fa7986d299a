"""Answers from a model on this machine: an adapter, full weights or a base model."""

from __future__ import annotations

import gc
import json
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from unift.data.rendering import prompt_text, stop_token_ids
from unift.engine import read_calls
from unift.errors import DataError, UsageError
from unift.provider import Messages, Reply, Sampling, check_messages
from unift_local import guards
from unift_local.answering import Whole
from unift_local.export import read_card
from unift_local.generating import answer_all
from unift_local.models import BaseModelFiles, download, resolve_model
from unift_local.rundir import running_jobs
from unift_local.running import Batch, Forward


class LocalModel:
    """A model that answers; implements `unift.provider.Model`.

    Args:
        reference: A folder (an adapter or weights; ``path:`` is allowed), a hub id, or ``demo``.
        four_bit: Load the base in 4 bits. None: as the adapter was trained, because an adapter
            corrects the errors of the base that it was trained on.

    Raises:
        UsageError: No such model, no weights, weights only as pickles, or no tokenizer.
        ProviderError: A hub model that cannot be had.
    """

    def __init__(self, reference: str, *, four_bit: bool | None = None) -> None:
        wanted = _Wanted(reference, four_bit)
        cuda = torch.cuda.is_available()
        if not cuda and running_jobs():  # leave the training its share of the cores
            torch.set_num_threads(max(1, torch.get_num_threads() // (running_jobs() + 1)))
        base = wanted.base
        with _quiet():
            path = str(base.folder if base.complete else download(base.reference, base.revision))
            self._base: Any = _load(path, wanted.dtype, wanted.four_bit, cuda)
        self._loaded = wanted
        self._path = Path(path)
        self._kept: dict[str, torch.Tensor] | None = {}
        self._take_up(wanted)

    def become(self, reference: str) -> bool:
        """Answer as another model on the same base from now on, without loading the base again.

        Returns:
            False, and nothing is changed, if that cannot be done: another base or precision.
        """
        wanted = _Wanted(reference, None)
        if self._kept is None or not wanted.same_base(self._loaded):
            return False
        if isinstance(self._model, _peft().PeftModel):
            self._base = self._model.unload()
        with torch.no_grad():
            for name, weight in self._kept.items():
                self._base.get_parameter(name).copy_(weight)
        self._take_up(wanted)
        return True

    def _take_up(self, wanted: _Wanted) -> None:
        self.reference = wanted.reference
        self.four_bit = wanted.four_bit
        self._context = wanted.base.context
        self._kept = {}
        adapter = wanted.adapter
        with _quiet():
            self._model: Any = self._base
            if adapter:
                adapted = _peft().PeftModel.from_pretrained(self._base, str(adapter))
                self._model = adapted
                # In fp32 merging is exact to rounding and saves time; in lower precision it rounds
                # the update.
                if wanted.dtype == torch.float32 and not model_is_four_bit(self._base):
                    self._kept = _touched(adapted)
                    self._model = self._base = adapted.merge_and_unload()
            self._tokenizer = _tokenizer(adapter or self._path, self._path)
        self._model.eval()
        self._stops = sorted(stop_token_ids(self._tokenizer, self._model.generation_config))
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    def chat(
        self,
        messages: Messages,
        sampling: Sampling | None = None,
        tools: Messages | None = None,
    ) -> Reply:
        """Answer one conversation."""
        return self.chat_many([messages], sampling, tools=tools)[0]

    def chat_many(
        self,
        conversations: Sequence[Messages],
        sampling: Sampling | None = None,
        on_reply: Callable[[int, Reply], None] | None = None,
        tools: Messages | None = None,
    ) -> list[Reply]:
        """Answer many conversations, in the order given; `tools` are on offer in all of them.

        `Reply.seconds` is an answer's share of the time of its batch. With a seed, an answer
        depends on its conversation alone (the second of two equal ones is drawn anew).
        `Reply.logprob` is that of the text, without the token that ends it.

        Raises:
            DataError: A conversation that the chat template refuses or that fills the context.
            ProviderError: The card has too little memory for one answer.
        """
        wanted = sampling or Sampling(temperature=0.0, top_p=1.0, max_tokens=256)
        stops = frozenset(self._stops)
        rows: list[Whole] = []
        seen: Counter[tuple[int, ...]] = Counter()
        for number, messages in enumerate(conversations):
            check_messages(messages)
            prompt = self._encode(messages, number, tools)
            room = wanted.max_tokens
            if self._context is not None:
                room = min(room, self._context - len(prompt))
            own = wanted
            if wanted.seed is not None and wanted.temperature > 0:
                own = wanted.model_copy(update={"seed": wanted.seed + seen[tuple(prompt)]})
                seen[tuple(prompt)] += 1
            rows.append(Whole(number, prompt, own, room=room, stops=stops))
        replies: dict[int, Reply] = {}

        def done(row: Whole) -> None:
            reply = replies[row.number] = self._reply(row, bool(tools))
            if on_reply is not None:
                on_reply(row.number, reply)

        with _quiet(), torch.inference_mode():
            # The signature of the base: a wrapper around it hides what it takes.
            forward = Forward(self._base, self._base.config)
            batch = Batch(forward, self._tokenizer.pad_token_id)
            answer_all(self._model, batch, rows, done)
        return [replies[number] for number in range(len(rows))]

    def losses(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """See `unift.verbs.Reads`."""
        from unift_local.reading import losses

        with _quiet(), torch.inference_mode():
            return losses(self._model, self._tokenizer, texts, self._context)

    def in_memory(self) -> tuple[Any, Any]:
        """See `unift.verbs.InMemory`."""
        return self._model, self._tokenizer

    def _reply(self, row: Whole, tools: bool) -> Reply:
        text = self._tokenizer.decode(row.kept, skip_special_tokens=True)
        calls: tuple[dict[str, Any], ...] = ()
        if tools:
            text, calls = read_calls(text)
        return Reply(
            text=text,
            finish_reason="stop" if row.stopped else "length",
            prompt_tokens=len(row.prompt),
            completion_tokens=len(row.kept) + row.stopped,
            seconds=row.seconds,
            tool_calls=calls,
            logprob=row.logprob,
        )

    def close(self) -> None:
        """Free the model's memory. Closing twice is fine."""
        self._model = self._base = cast("Any", None)
        self._kept = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _encode(self, messages: Messages, number: int, tools: Messages | None) -> list[int]:
        where = f"conversation {number}"
        text = prompt_text(self._tokenizer, messages, list(tools) if tools else None, where=where)
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if self._context is not None and len(ids) >= self._context:
            raise DataError(
                f"The prompt has {len(ids)} tokens, but the model's context holds "
                f"{self._context}, answer included.",
                code="prompt_too_long",
                where=where,
                fix="shorten the conversation, or use a model with a longer context",
            )
        return ids


class _Wanted:
    """What a reference asks for: base, adapter and precision. Nothing is loaded yet."""

    def __init__(self, reference: str, four_bit: bool | None) -> None:
        self.reference = reference
        folder = Path(reference.removeprefix("path:")).expanduser()
        self.adapter = folder.resolve() if (folder / "adapter_config.json").is_file() else None
        card = read_card(folder)
        self.base = resolve_model(_base_of(self.adapter) if self.adapter else reference)
        self.four_bit = bool(card.get("four_bit")) if four_bit is None else four_bit
        self.dtype = _dtype(card, self.base, torch.cuda.is_available())

    def same_base(self, other: _Wanted) -> bool:
        """Whether both stand on the same weights in the same precision."""
        return (self.base.reference, self.base.revision, self.base.folder, self.dtype) == (
            other.base.reference, other.base.revision, other.base.folder, other.dtype,
        ) and self.four_bit == other.four_bit  # fmt: skip


def _base_of(adapter: Path) -> str:
    config = json.loads((adapter / "adapter_config.json").read_bytes())
    base = config.get("base_model_name_or_path")
    if not (adapter / "adapter_model.safetensors").is_file():
        raise UsageError(
            f"'{adapter}' holds no adapter_model.safetensors.",
            code="model_without_weights",
            where=str(adapter),
            fix="train or download the adapter again; pickled adapters are not loaded",
        )
    if not base:
        raise UsageError(
            "The adapter does not say which base model it belongs to.",
            code="adapter_without_base",
            where=str(adapter / "adapter_config.json"),
            fix="set base_model_name_or_path there to the base model's folder or hub id",
        )
    return str(base)


def _dtype(card: dict[str, Any], base: BaseModelFiles, cuda: bool) -> torch.dtype:
    """As it was trained; for other models bf16 on cards that have it, else fp32."""
    if card:
        return torch.bfloat16 if card["dtype"] == "bf16" else torch.float32
    if cuda and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32


def _load(path: str, dtype: torch.dtype, four_bit: bool, cuda: bool) -> Any:
    kwargs: dict[str, Any] = {}
    if four_bit:
        from unift_local.quantize import four_bit_config

        kwargs["quantization_config"] = four_bit_config(dtype)
    model = AutoModelForCausalLM.from_pretrained(
        path,
        dtype=dtype,
        attn_implementation="sdpa",
        use_safetensors=True,
        device_map={"": 0} if cuda else {"": "cpu"},
        **kwargs,
    )
    if four_bit:
        guards.keep_four_bit_exact(model)
    return model


def _peft() -> Any:
    import peft

    return peft


def _touched(adapted: Any) -> dict[str, torch.Tensor] | None:
    """Copies of the weights that merging changes; None if it replaces whole modules."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if any(config.modules_to_save for config in adapted.peft_config.values()):
        return None
    found: dict[str, torch.Tensor] = {}
    for name, module in adapted.base_model.model.named_modules():
        if isinstance(module, BaseTunerLayer):
            layer: Any = module.get_base_layer()
            found[f"{name}.weight"] = layer.weight.detach().clone()
    return found


def model_is_four_bit(model: Any) -> bool:
    """Whether a base was loaded in 4 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False))


def _tokenizer(first: Path, base: Path) -> Any:
    """The tokenizer that was saved with the adapter, else that of the base."""
    folder = first if (first / "tokenizer_config.json").is_file() else base
    try:
        return AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"The tokenizer of the model cannot be loaded: {str(error).splitlines()[0]}",
            code="model_incomplete",
            where=str(folder),
            fix="put tokenizer.json and tokenizer_config.json beside the weights",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no advice between libraries while the model loads and answers."""
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
