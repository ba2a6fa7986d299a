"""BERTScore of longer texts: how near the words of two texts are to each other in an encoder.

Zhang et al. 2020, "BERTScore", https://arxiv.org/abs/1904.09675; the arithmetic is that of package
torchmetrics (extra ``bertscore``).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from unift.errors import MissingDependency, UsageError
from unift.evaluate._metrics import Metric

_DEFAULT = "roberta-large"  # what the authors use for English
_MOST_TOKENS = 512
# Layers whose score agrees best with people, by the authors: bert_score 0.3.13, utils.py,
# model2layers. Of other models it is the last one.
_LAYERS = {
    "bert-base-multilingual-cased": 9,
    "bert-base-uncased": 9,
    "bert-large-uncased": 18,
    "deberta-base-mnli": 9,
    "deberta-large-mnli": 18,
    "deberta-xlarge-mnli": 40,
    "distilbert-base-uncased": 5,
    "mpnet-base": 8,
    "roberta-base": 10,
    "roberta-large": 17,
    "xlm-roberta-base": 9,
    "xlm-roberta-large": 17,
}


@cache
def bert_score(wanted: str) -> Metric:
    """The metric ``bertscore:MODEL#LAYER``; MODEL is a folder or a hub id, LAYER counts from 1.

    The model is loaded here, on the processor, so that one that is not there is known before
    anything is asked; it is moved to a card at the first answer.

    Raises:
        MissingDependency: torchmetrics or transformers is not installed.
        UsageError: The model cannot be loaded or used, or has no such layer.
    """
    name, _, number = wanted.partition("#")
    scorer = _Scorer(name or _DEFAULT, number)
    return Metric(
        "bertscore",
        scorer,
        "BERTScore",
        f"F1 of the nearest words in {scorer.name}, layer {scorer.layer}, not rescaled; texts are "
        f"cut at {scorer.most} tokens (package torchmetrics).",
        right=None,
    )


class _Scorer:
    """Scores one pair at a time: in batches torchmetrics 1.9 pairs texts by the wrong order
    (functional/text/bert.py sorts by length and does not undo it)."""

    def __init__(self, name: str, layer: str) -> None:
        where = f"metric bertscore:{name}"
        try:
            self._score: Any = import_module("torchmetrics.functional.text.bert").bert_score
            transformers: Any = import_module("transformers")
        except ImportError as error:
            raise MissingDependency(
                "BERTScore needs torchmetrics and transformers.",
                where=where,
                fix="pip install 'unift[bertscore]'",
            ) from error
        folder = Path(name).expanduser()
        place = str(folder) if folder.is_dir() else name
        if not folder.is_dir() and name[:1] in "./~":
            raise UsageError(
                "There is no such folder with an encoder.",
                code="no_metric_model",
                where=where,
                fix="give a folder or a hub id: --metric bertscore:FOLDER",
            )
        self.name = folder.name if folder.is_dir() else name
        try:
            with _quiet():
                self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(place)
                # Safetensors only: a pickle is a program.
                self._model: Any = transformers.AutoModel.from_pretrained(
                    place, use_safetensors=True, dtype="float32"
                )
        except (OSError, ValueError) as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
            raise UsageError(
                f"The model of BERTScore cannot be loaded: {reason}.",
                code="no_metric_model",
                where=where,
                fix="give a folder with an encoder in safetensors: --metric bertscore:FOLDER, or "
                "load it once with network (HF_HOME says where it is kept)",
            ) from error
        config = self._model.config
        layers = int(getattr(config, "num_hidden_layers", 0) or 0)
        if getattr(config, "is_encoder_decoder", False) or not layers:
            raise UsageError(
                f"{self.name} is no plain encoder.",
                code="no_metric_model",
                where=where,
                fix=f"take one such as {_DEFAULT}",
            )
        self.layer = _LAYERS.get(Path(name).name, layers)
        if layer:
            self.layer = int(layer) if layer.isdigit() else 0
        if not 1 <= self.layer <= layers:
            raise UsageError(
                f"{self.name} has layers 1 to {layers}, and '{layer}' is none of them.",
                code="bad_layer",
                where=where,
                fix=f"write bertscore:{name}#{layers}, or leave the layer out",
            )
        self.most = min(_MOST_TOKENS, int(self._tokenizer.model_max_length))
        room = getattr(config, "max_position_embeddings", None)
        if isinstance(room, int):
            self.most = min(self.most, room)
        self._tokenizer.padding_side = "right"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

        # The first and the last token are left out as marks, so there have to be some.
        mark = self._tokenizer.eos_token or ""
        marks = self._tokenizer.num_special_tokens_to_add()
        self._around = (mark if marks < 1 else "", mark if marks < 2 else "")

    def __call__(self, answer: str, target: str) -> float:
        import torch

        if not answer.strip() or not target.strip():
            return float(answer.strip() == target.strip())
        before, after = self._around
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with _quiet():
            found = self._score(
                [before + answer + after], [before + target + after],
                model=self._model, user_tokenizer=self._tokenizer, num_layers=self.layer,
                max_length=self.most, truncation=True, device=device,
            )  # fmt: skip
        # A cosine; rounding may put it a hair above 1.
        return min(1.0, float(torch.as_tensor(found["f1"]).reshape(-1)[0]))


@contextmanager
def _quiet() -> Generator[None]:
    log = logging.getLogger("transformers")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
