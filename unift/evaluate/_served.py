"""Models on this machine answered by vLLM: one process a base, all its adapters loaded at once."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from unift._home import home
from unift._vllm import INSTALL, Process, Wanted, dtype_of, has_vllm, rank_of
from unift.errors import MissingDependency, ProviderError, UsageError
from unift.evaluate._candidates import Source, identity_of
from unift.evaluate._shelf import Shelf, Weights, weights_of
from unift.provider import Messages, Model, Reply, Sampling
from unift.remote import ask_many

Engine = Literal["auto", "transformers", "vllm"]
Notice = Callable[[str], None]

# Calls under way: vLLM forms its batches of what is there, by default up to 256 at a time.
_AT_ONCE = 128
# Room for what comes later (general questions, a judge), and for what the template adds.
_CONTEXT_LEAST = 4096
_TEMPLATE_TOKENS = 1024
INSTEAD = "--engine transformers"


def shelf_for(
    engine: Engine, python: str | None, sources: Sequence[Source], notice: Notice | None
) -> Shelf:
    """Who answers for models whose weights are here.

    ``auto`` is vLLM where it is installed (in this environment, or in that of `python`), an NVIDIA
    card is there and at least one model has its weights here; else transformers, in this process.

    Raises:
        UsageError: There is no such engine.
        MissingDependency: vLLM was asked for and is not installed.
    """
    import sys

    if engine not in ("auto", "transformers", "vllm"):
        raise UsageError(
            f"There is no engine '{engine}'.",
            code="unknown_engine",
            where="engine",
            fix="auto, transformers or vllm",
        )
    if engine == "transformers" or not any(weights_of(one) for one in sources):
        return Shelf()
    own = python or sys.executable
    if engine == "auto" and not (_card() and has_vllm(own)):
        return Shelf()
    if not has_vllm(own):
        raise MissingDependency(
            f"{own} has no vllm.",
            where="engine",
            fix=f"{INSTALL}, then vllm_python='vllm-env/bin/python' (--vllm-python on the command "
            f"line); or engine='transformers' ({INSTEAD})",
        )
    if engine == "auto" and notice is not None:
        notice(f"vLLM is installed and answers for the models on this machine; not: {INSTEAD}.")
    return Served(own, notice)


def _card() -> bool:
    from unift.estimate import hardware

    return hardware().kind == "cuda"


class Served(Shelf):
    """A shelf that has vLLM answer for weights on this machine; other models are as ever.

    Args:
        python: The python that has vllm.
        notice: Hears what is started.
    """

    engine = "vllm"

    def __init__(self, python: str, notice: Notice | None = None) -> None:
        super().__init__()
        self._python, self._notice = python, notice
        self._known: list[Weights] = []
        self._need = _CONTEXT_LEAST
        self._process: Process | None = None
        self._log = home() / "logs" / f"vllm-evaluate-{os.getpid()}.log"

    def expect(self, sources: Sequence[Source], tokens: int) -> None:
        """These will be asked for, with prompts and answers of at most so many tokens: what stands
        on one base is started as one."""
        self._need = max(self._need, tokens + _TEMPLATE_TOKENS)
        for source in sources:
            found = weights_of(source)
            if found is not None and found not in self._known:
                self._known.append(found)

    def place(self, weights: Weights) -> object:
        return (*weights.place, self._template(weights))

    def at_once(self, source: Source) -> int | None:
        return super().at_once(source) if weights_of(source) is None else _AT_ONCE

    def identity(self, source: Source) -> str:
        """Answers of vLLM are kept by themselves: it computes otherwise, so that at near ties it
        answers otherwise, and a comparison is of models, not of engines."""
        own = identity_of(source)
        return own if weights_of(source) is None else f"{own}+vllm"

    def get(self, source: Source) -> Model:
        found = weights_of(source)
        if found is None or not isinstance(source, str):
            return super().get(source)
        super().close()  # whatever was loaded here
        process = self._serve(found)
        name = _name(process.wanted, found)
        from unift.reference import load

        return _Answering(load(f"{process.url}/v1#{name}"), process, source)

    def weights(self, source: Source) -> Model:
        if weights_of(source) is not None:
            self._end()
        return super().get(source)

    def close(self) -> None:
        self._end()
        for file in self._log.parent.glob(f"{self._log.stem}.*.jinja"):
            file.unlink()
        super().close()

    def _serve(self, found: Weights) -> Process:
        """The process that answers for these weights, started if it is another one."""
        wanted = self._wanted(found)
        running = self._process
        if running is not None and running.alive and _holds(running.wanted, wanted):
            return running
        self._end()
        process = Process(wanted, self._log)
        if self._notice is not None:
            many = len(wanted.adapters)
            more = f" and {many} adapter{'s' * (many > 1)}" if many else ""
            self._notice(
                f"vLLM loads {wanted.model}{more}; that may take minutes (log: {self._log})."
            )
        self._process = process
        try:
            process.start()
        except KeyboardInterrupt:
            self._log.unlink(missing_ok=True)  # nothing failed
            raise
        return process

    def _wanted(self, found: Weights) -> Wanted:
        kin = [one for one in self._known if self.place(one) == self.place(found)]
        if found not in kin:
            kin.append(found)
        folders = [str(one.adapter) for one in kin if one.adapter is not None]
        dtypes = {dtype_of(one) for one in folders} - {"auto"}
        return Wanted(
            python=self._python,
            model=found.base,
            name="base",
            instead=INSTEAD,
            adapters={f"adapter-{i}": folder for i, folder in enumerate(folders, 1)},
            rank=max(map(rank_of, folders), default=0),
            four_bit=found.four_bit,
            dtype=dtypes.pop() if len(dtypes) == 1 else "auto",
            context=_context(found.base, self._need),
            template=self._template_file(found),
        )

    def _template(self, found: Weights) -> str | None:
        """Its chat template; where that is not known here, the one of a model on the same base."""
        kin = [found, *(one for one in self._known if one.place == found.place)]
        return next((text for text in map(_template, kin) if text), None)

    def _template_file(self, found: Weights) -> str | None:
        text = self._template(found)
        if text is None or text == _template(Weights(found.base)):
            return None
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        file = self._log.with_suffix(f".{digest}.jinja")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        return str(file)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        well = process.alive
        process.stop()
        if well:  # the log of one that failed is what its error points to
            self._log.unlink(missing_ok=True)


def _holds(running: Wanted, wanted: Wanted) -> bool:
    """Whether what runs serves everything that is wanted."""
    return (
        (running.model, running.four_bit, running.dtype, running.template)
        == (wanted.model, wanted.four_bit, wanted.dtype, wanted.template)
        and set(wanted.adapters.values()) <= set(running.adapters.values())
        and (running.context is None or (wanted.context or running.context + 1) <= running.context)
    )


def _name(wanted: Wanted, found: Weights) -> str:
    if found.adapter is None:
        return wanted.name
    return next(name for name, at in wanted.adapters.items() if at == str(found.adapter))


class _Answering:
    """A model behind our own vLLM: `unift.provider.Model` under the name that the user gave."""

    def __init__(self, inner: Model, process: Process, reference: str) -> None:
        self.reference = reference
        self._inner, self._process = inner, process
        self._under_way = 0
        self._lock = threading.Lock()

    def chat(
        self,
        messages: Messages,
        sampling: Sampling | None = None,
        tools: Messages | None = None,
    ) -> Reply:
        """Answer one conversation. `Reply.seconds` is its share of the time, as of a batch.

        Raises:
            RunError: vLLM has ended.
        """
        extra: dict[str, Any] = {"tools": tools} if tools else {}
        with self._lock:
            self._under_way += 1
            before = self._under_way
        try:
            reply = self._inner.chat(messages, sampling or Sampling(), **extra)
        except ProviderError:
            if self._process.ends_within(3.0):
                raise self._process.ended("while it answered") from None
            raise
        finally:
            with self._lock:
                after = self._under_way
                self._under_way -= 1
        if reply.seconds is None:
            return reply
        share = reply.seconds / ((before + after) / 2)
        return reply.model_copy(update={"seconds": share})

    def chat_many(
        self,
        conversations: Sequence[Messages],
        sampling: Sampling | None = None,
        on_reply: Callable[[int, Reply], None] | None = None,
        tools: Messages | None = None,
    ) -> list[Reply]:
        return ask_many(lambda one: self.chat(one, sampling, tools), conversations, on_reply)

    def close(self) -> None:
        self._inner.close()


def _context(base: str, need: int) -> int | None:
    """The context to serve: no more than is needed, since vLLM keeps room for one whole context
    and refuses to start on a card without it. None: the model's own, where that is less or not
    known."""
    config = _json(_file(base, "config.json"))
    inner: dict[str, Any] = config.get("text_config") or {}
    most = inner.get("max_position_embeddings", config.get("max_position_embeddings"))
    return need if isinstance(most, int) and need < most else None


def _template(found: Weights) -> str | None:
    """The chat template of a model; None where it is not known here."""
    places = [] if found.adapter is None else [str(found.adapter)]
    for place in [*places, found.base]:
        file = _file(place, "chat_template.jinja")
        if file is not None:
            return file.read_text("utf-8")
        text = _json(_file(place, "tokenizer_config.json")).get("chat_template")
        if isinstance(text, str):
            return text
    return None


def _file(model: str, name: str) -> Path | None:
    """A file of a folder, or of a hub model that was downloaded."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        file = folder / name
        return file if file.is_file() else None
    with suppress(ImportError, ValueError):
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(model, name)
        return Path(found) if isinstance(found, str) else None
    return None


def _json(file: Path | None) -> dict[str, Any]:
    try:
        return {} if file is None else json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
