"""Metrics of longer texts and of JSON schemas, from kept libraries (extra ``eval``)."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unift.errors import MissingDependency, UsageError
from unift.evaluate._json_fields import is_json, parse_json

INSTALL = "pip install 'unift[eval]'"


def installed(package: str) -> bool:
    return find_spec(package) is not None


def rouge_l(answer: str, target: str) -> float:
    """F of the longest common subsequence of words (Lin 2004, ROUGE; package rouge-score)."""
    return float(_rouge().score(target, answer)["rougeL"].fmeasure)


def chrf(answer: str, target: str) -> float:
    """Overlap of character n-grams, 0 to 1 (Popović 2015; chrF2 of package sacrebleu)."""
    return float(_chrf().sentence_score(answer, [target]).score) / 100


@cache
def _rouge() -> Any:
    return _need("rouge_score.rouge_scorer", "ROUGE").RougeScorer(["rougeL"], use_stemmer=False)


@cache
def _chrf() -> Any:
    return _need("sacrebleu", "chrF").CHRF()


def _need(module: str, name: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependency(
            f"{name} needs {module.split('.')[0].replace('_', '-')}.", where="metric", fix=INSTALL
        ) from error


def schema_check(file: Path) -> Callable[[str, str], float]:
    """A score that is 1 where the answer is JSON that obeys the JSON schema in `file`.

    Raises:
        UsageError: The file cannot be read or is no JSON schema.
    """
    import jsonschema_rs as library

    try:
        schema = json.loads(file.expanduser().read_text("utf-8"))
        validator = library.validator_for(schema, offline=True)
    except (OSError, ValueError, library.ValidationError, library.ReferencingError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UsageError(
            f"The JSON schema cannot be used: {reason}.",
            code="bad_schema",
            where=str(file),
            fix="give a file with one JSON schema",
        ) from error

    def json_schema(answer: str, target: str) -> float:
        return float(is_json(answer) and validator.is_valid(parse_json(answer)))

    return json_schema
