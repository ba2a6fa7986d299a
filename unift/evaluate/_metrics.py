"""Metrics: a number per row, so that everything after it can be paired.

How to add one: write a function ``score(answer, target) -> float`` (higher is better), wrap it in
a `Metric`, and pass it to `register`. Statistics, verdict, table and report follow by themselves.
"""

from __future__ import annotations

import math
import re
import string
import sys
import traceback
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unift._text import did_you_mean
from unift.errors import UniftError, UsageError
from unift.evaluate._json_fields import (
    field_f1,
    json_fields,
    json_valid,
    parse_json,
    same_json,
)
from unift.evaluate._rows import without_reasoning
from unift.evaluate._text_metrics import chrf, rouge_l, schema_check
from unift.evaluate._tool_calls import tool_arguments, tool_calls, tool_names

if TYPE_CHECKING:
    from unift.evaluate._rows import Row

# Any: a function of the user may return anything; `Metric.rate` checks.
Score = Callable[[str, str], Any]


@dataclass(frozen=True)
class Metric:
    """One way to judge an answer.

    Attributes:
        name: The word used in calls, tables and JSON.
        score: ``(answer, target) -> number``; higher is better, 0 to 1 for the built-in ones.
        title: What a reader sees.
        about: One sentence: what is compared and how both sides are normalised.
        right: The score from which an answer counts as right; None where right and wrong mean
            nothing.
        targets: What of a row answers are scored against; None: its wanted answers.
    """

    name: str
    score: Score
    title: str
    about: str
    right: float | None = 1.0
    targets: Callable[[Row], tuple[str, ...]] | None = None

    def rate(self, answer: str, target: str) -> float:
        """The score of one answer; reasoning in tags before it is taken off.

        Raises:
            UsageError: A function of the user failed, or returned something that is no finite
                number.
        """
        try:
            value = self.score(without_reasoning(answer, target), target)
        except UniftError:
            raise
        except Exception as error:  # a function of the user may raise anything
            raise UsageError(
                f"The metric '{self.name}' failed with {type(error).__name__}: {error}; the answer "
                f"was {_short(answer)}, the target {_short(target)}.",
                code="bad_metric",
                where=f"metric {self.name}{_place(error)}",
                fix="let it return a score for every (answer, target), such as 0.0 for a bad one; "
                "answers so far are kept",
            ) from error
        number = _number(value)
        if number is None:
            raise UsageError(
                f"The metric '{self.name}' returned {value!r}, which is no finite number; the "
                f"answer was {_short(answer)}, the target {_short(target)}.",
                code="bad_metric",
                where=f"metric {self.name}",
                fix="return a float or a bool for every (answer, target)",
            )
        return number


def _number(value: Any) -> float | None:
    """A finite number of Python, numpy or torch; None for anything else, text included."""
    if isinstance(value, str) or not hasattr(value, "__float__"):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):  # an array of several numbers
        return None
    return number if math.isfinite(number) else None


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def _place(error: BaseException) -> str:
    """File and line where the user's function failed."""
    inner = traceback.extract_tb(error.__traceback__)[-1]
    return f" ({Path(inner.filename).name}:{inner.lineno})"


_registry: dict[str, Metric] = {}


def register(metric: Metric) -> Metric:
    """Make a metric known by its name; a later one of the same name replaces the earlier."""
    _registry[metric.name] = metric
    return metric


def metrics() -> dict[str, Metric]:
    """Every known metric by name."""
    return dict(_registry)


def get_metric(metric: str | Metric | Score) -> Metric:
    """A metric by name, as it is, or made of a plain function ``(answer, target) -> float``.

    ``"module:function"`` names a function of the user in a module that Python finds (the working
    folder included), ``"json_schema:FILE"`` the share of answers that obey a JSON schema,
    ``"bertscore"`` or ``"bertscore:FOLDER"`` BERTScore in the usual or in that encoder,
    ``"preference"`` what a judge or people prefer and ``"code"`` whether tests pass, which only
    `evaluate` can ask for.

    Raises:
        UsageError: Nobody registered that name; there is no such function or schema.
    """
    if isinstance(metric, Metric):
        return metric
    if callable(metric):
        name = str(getattr(metric, "__name__", "") or type(metric).__name__)
        title = "custom metric" if name == "<lambda>" else name.replace("_", " ")
        return Metric(name.strip("<>"), metric, title, "A function of the user.", right=None)
    scheme, colon, rest = metric.partition(":")
    if colon and scheme == "json_schema":
        about = f"The answer is JSON that obeys the schema in {rest}."
        return Metric("json_schema", schema_check(Path(rest)), "Valid by schema", about)
    if scheme == "bertscore":
        from unift.evaluate._bert_score import bert_score

        return bert_score(rest)
    if colon:
        return get_metric(_function(scheme, rest))
    if metric == "preference":
        from unift.evaluate._preference import PREFERENCE

        return PREFERENCE
    if metric == "code":
        from unift.evaluate._code import CODE

        return CODE
    if metric not in _registry:
        raise UsageError(
            f"There is no metric '{metric}'.",
            code="unknown_metric",
            where="metric",
            fix=did_you_mean(metric, [*_registry, "auto", "bertscore"]),
        )
    return _registry[metric]


def _function(module: str, name: str) -> Score:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(import_module(module), name, None)
    except Exception as error:  # the user's module may raise anything
        raise UsageError(
            f"The metric's module cannot be imported: {type(error).__name__}: {error}.",
            code="bad_metric",
            where=f"metric {module}:{name}",
            fix="run from the folder that holds the module, and see that it imports by itself",
        ) from error
    if not callable(found):
        raise UsageError(
            f"The module '{module}' has no function '{name}'.",
            code="bad_metric",
            where=f"metric {module}:{name}",
            fix="write MODULE:FUNCTION, where FUNCTION(answer, target) returns a number",
        )
    return found


def normalise(text: str) -> str:
    """Unicode NFC, surrounding space removed, runs of white space made one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def exact_match(answer: str, target: str) -> float:
    """1 if the answer is the target after `normalise`; JSON is compared as data, not as text."""
    if normalise(answer) == normalise(target):
        return 1.0
    data = isinstance(parse_json(target), (dict, list))
    return float(data and same_json(answer, target))


# What may stand around a label and is no part of it: quotes, brackets, Markdown, and at its end
# what ends a sentence. Signs stay, since -1 and 1 (or C, C++ and C#) are labels of their own.
_AROUND = "\"'`“”‘’„«»()[]{}<>*_ \t\n"
_ENDS = ".,;:!?…"


def label_of(text: str) -> str:
    """A label as it is compared: NFKC, lower case, one space for white space, nothing around it.

    Quotes, brackets, Markdown marks and what ends a sentence are taken off, unless nothing else is
    there; signs such as ``-``, ``+`` and ``#`` belong to the label. 1,000 is 1000.
    """
    folded = _plain_number(" ".join(unicodedata.normalize("NFKC", text).casefold().split()))
    bare = folded.strip(_AROUND).lstrip(",;:!?…").rstrip(_AROUND + _ENDS)
    return bare.removeprefix("- ").lstrip(_AROUND) or folded


def accuracy(answer: str, target: str) -> float:
    """1 if both are the same after `label_of`, or the same data."""
    return float(label_of(answer) == label_of(target) or exact_match(answer, target))


_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")


def _plain_number(text: str) -> str:
    """Without commas between thousands, and with the minus of the keyboard."""
    plain = text.replace("\N{MINUS SIGN}", "-")
    return _THOUSANDS.sub(lambda found: found[0].replace(",", ""), plain)


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NUMBER = re.compile(r"[-+]?(?:\d+(?:[.,]\d+)*|\.\d+)")


def _words(text: str) -> list[str]:
    """Lower-cased words without punctuation and articles, numbers as they are (but for the commas
    between thousands): as SQuAD and, for numbers, DROP compare answers."""
    plain = _plain_number(unicodedata.normalize("NFKC", text).lower())
    words = [_bare(word) for word in plain.split()]
    found = _ARTICLES.sub(" ", " ".join(words)).split()
    return found or " ".join(words).split()  # "A" is an answer, too


def _bare(word: str) -> str:
    number = word.strip("\"'`()[]{}<>*_!?;:$%").rstrip(".,").removeprefix("+")
    return number if _NUMBER.fullmatch(number) else word.translate(_PUNCTUATION)


def token_f1(answer: str, target: str) -> float:
    """Overlap of words: the harmonic mean of precision and recall over tokens.

    Tokens are lower-cased words without punctuation and the articles a, an, the (Rajpurkar et al.
    2016, SQuAD, https://arxiv.org/abs/1606.05250, section 6.1); signs and decimal points of numbers
    stay (Dua et al. 2019, DROP, https://arxiv.org/abs/1903.00161). Two empty texts agree.
    """
    given, wanted = _words(answer), _words(target)
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


def short_match(answer: str, target: str) -> float:
    """1 if both have the same words, without case, punctuation and articles; numbers keep their
    sign and decimal point (exact match of SQuAD and DROP, see `token_f1`)."""
    return float(_words(answer) == _words(target))


EXACT_MATCH = register(
    Metric(
        "exact_match",
        exact_match,
        "Exact match",
        "Same text after Unicode NFC and collapsing white space; JSON is compared as data.",
    )
)
ACCURACY = register(
    Metric(
        "accuracy",
        accuracy,
        "Accuracy",
        "The same, ignoring case and quotes, brackets and a full stop around it; JSON as data.",
    )
)
TOKEN_F1 = register(
    Metric(
        "token_f1",
        token_f1,
        "Token F1",
        "Overlap of lower-cased words without punctuation and articles, as in SQuAD.",
    )
)
JSON_FIELDS = register(
    Metric(
        "json_fields",
        json_fields,
        "Field accuracy",
        "Share of JSON fields that are right; missing and invented fields count as wrong. Items of "
        "a list are matched in any order; a list of numbers is one field.",
    )
)
JSON_VALID = register(
    Metric(
        "json_valid",
        json_valid,
        "Valid JSON",
        "The answer is one JSON object, with or without a Markdown code fence around it.",
    )
)
SHORT_MATCH = register(
    Metric(
        "short_match",
        short_match,
        "Same words",
        "The same words in order, ignoring case, punctuation and articles, as in SQuAD; signs and "
        "decimal points of numbers count, commas between thousands do not.",
    )
)
FIELD_F1 = register(
    Metric(
        "field_f1",
        field_f1,
        "Field F1",
        "Precision and recall of JSON fields; missing and invented fields cost.",
    )
)
TOOL_CALLS = register(
    Metric(
        "tool_calls",
        tool_calls,
        "Right calls",
        "The same tools with the same arguments, in any order; no call where none is wanted.",
    )
)
TOOL_NAMES = register(
    Metric("tool_names", tool_names, "Right tools", "The same tools in any order, or none.")
)
TOOL_ARGUMENTS = register(
    Metric(
        "tool_arguments",
        tool_arguments,
        "Right arguments",
        "Share of calls and arguments that are right; missing and invented ones count as wrong.",
    )
)
ROUGE_L = register(
    Metric(
        "rouge_l",
        rouge_l,
        "ROUGE-L",
        "F of the longest common subsequence of words (package rouge-score).",
        right=None,
    )
)
CHRF = register(
    Metric("chrf", chrf, "chrF", "Overlap of character n-grams (chrF2 of sacrebleu).", right=None)
)
