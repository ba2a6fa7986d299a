"""What the old models cost by the month: tokens from the vendor's export, catalogue prices."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from unift import catalog
from unift.errors import DataError, UsageError
from unift.spec import Frozen

MONTH_DAYS = 30.0
_DAY = 86_400.0
# Column names of the vendor's exports, old and new, and of tables made by hand.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "input": ("input_tokens", "n_context_tokens_total", "prompt_tokens", "input"),
    "cached": ("input_cached_tokens", "n_cached_context_tokens_total", "cached_tokens"),
    "output": ("output_tokens", "n_generated_tokens_total", "completion_tokens", "output"),
    "requests": ("num_model_requests", "num_requests", "n_requests", "requests"),
    "usd": ("amount_value", "cost_usd", "usd", "cost"),
}


class Spend(Frozen):
    """Money and tokens of one model, in 30 days.

    `usd` is None where neither the export nor the catalogue knows a price; `source` says which of
    the two gave it.
    """

    model: str
    input_tokens: float = 0.0
    cached_tokens: float = 0.0
    output_tokens: float = 0.0
    requests: float = 0.0
    usd: float | None = None
    source: str = ""


class _Row(Frozen):
    model: str
    figures: dict[str, float]
    begin: float | None = None
    end: float | None = None


def monthly_spend(
    usage: str | Path | Sequence[str], provider: str, *, days: float | None = None
) -> tuple[Spend, ...]:
    """Spend by model, dearest first.

    Args:
        usage: A file: the JSON that the vendor's usage endpoint gives
            (``/organization/usage/completions?group_by=model``), a CSV with a column ``model`` and
            token columns, or ``{"MODEL": {"input_tokens": N, "output_tokens": N}}``; or figures
            ``MODEL=INPUT/OUTPUT``, tokens a month.
        days: How long the figures cover; None: what the export says, else a month.

    Raises:
        UsageError: The file cannot be read.
        DataError: It has no figures that can be understood.
    """
    given = [usage] if isinstance(usage, str | Path) else list(usage)
    rows = [row for one in given for row in _rows(one)]
    begins = [row.begin for row in rows if row.begin is not None]
    ends = [row.end for row in rows if row.end is not None]
    if days is None and begins and ends and max(ends) > min(begins):
        days = (max(ends) - min(begins)) / _DAY
    scale = MONTH_DAYS / days if days else 1.0
    totals: dict[str, dict[str, float]] = {}
    for row in rows:
        total = totals.setdefault(row.model, {})
        for key, value in row.figures.items():
            total[key] = total.get(key, 0.0) + value * scale
    spends = [_priced(model, total, provider) for model, total in totals.items()]
    return tuple(sorted(spends, key=lambda spend: (-(spend.usd or 0.0), spend.model)))


def cost_of(price: catalog.TokenPrice, input: float, cached: float, output: float) -> float:
    """Dollars of so many tokens; `cached` is part of `input`."""
    full = price.input or 0.0
    cheap = full if price.cached_input is None else price.cached_input
    return ((input - cached) * full + cached * cheap + output * (price.output or 0.0)) / 1e6


def _priced(model: str, total: Mapping[str, float], provider: str) -> Spend:
    input, cached = total.get("input", 0.0), total.get("cached", 0.0)
    output = total.get("output", 0.0)
    usd, source = total.get("usd"), "the export" if "usd" in total else ""
    found = catalog.answer_price(model, provider)
    if usd is None and found is not None:
        price, fact = found
        usd = cost_of(price, input, cached, output)
        source = f"catalogue, {fact.as_of}: {fact.source[0]}"
    return Spend(
        model=model,
        input_tokens=input,
        cached_tokens=cached,
        output_tokens=output,
        requests=total.get("requests", 0.0),
        usd=usd,
        source=source,
    )


def _rows(given: str | Path) -> list[_Row]:
    path = Path(given).expanduser()
    match = re.fullmatch(r"(\S+)=([\d.eE_]+)/([\d.eE_]+)", str(given))
    if match and not path.exists():
        try:
            figures = {"input": float(match[2]), "output": float(match[3])}
        except ValueError:
            raise _bad(str(given)) from None
        return [_Row(model=match[1], figures=figures)]
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The usage cannot be read: {getattr(error, 'strerror', None) or error}.",
            code="bad_usage",
            where=str(path),
            fix="a JSON or CSV file from the vendor's usage page, or MODEL=INPUT/OUTPUT",
        ) from error
    try:
        rows = list(_from_json(json.loads(text)) if text.lstrip()[:1] in "{[" else _from_csv(text))
    except ValueError:
        raise _bad(str(path)) from None
    if not rows:
        raise _bad(str(path))
    return rows


def _from_json(document: Any) -> Iterator[_Row]:
    """Buckets of the usage endpoint, a list of rows, or model -> figures."""
    if isinstance(document, dict):
        top = cast("dict[str, Any]", document)
        if isinstance(top.get("data"), list):
            document = top["data"]
        else:
            for model, figures in top.items():
                if isinstance(figures, dict):
                    yield from _row({**cast("dict[str, Any]", figures), "model": model})
            return
    for bucket in cast("Iterable[Any]", document if isinstance(document, list) else ()):
        if not isinstance(bucket, dict):
            continue
        one = cast("dict[str, Any]", bucket)
        results = one.get("results") or one.get("result")
        if not isinstance(results, list):
            yield from _row(one)
            continue
        for result in cast("list[Any]", results):
            if isinstance(result, dict):
                times = {key: one[key] for key in ("start_time", "end_time") if key in one}
                yield from _row({**times, **cast("dict[str, Any]", result)})


def _from_csv(text: str) -> Iterator[_Row]:
    for row in csv.DictReader(io.StringIO(text)):
        # A row that is too long has its rest under the key None.
        named = {str(key).strip().lower(): value for key, value in row.items()}
        yield from _row(named)


def _row(values: Mapping[str, Any]) -> Iterator[_Row]:
    model = str(values.get("model") or values.get("snapshot_id") or "").strip()
    figures: dict[str, float] = {}
    for key, names in _NAMES.items():
        for name in names:
            number = _number(values.get(name))
            if number is not None:
                figures[key] = number
                break
    if model and (figures.keys() & {"input", "output", "usd"}):
        begin, end = _number(values.get("start_time")), _number(values.get("end_time"))
        yield _Row(model=model, figures=figures, begin=begin, end=end)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None or value == "":
        return None
    try:
        number = float(str(value).replace(",", "").lstrip("$"))
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _bad(where: str) -> DataError:
    return DataError(
        "There are no figures of usage in it.",
        code="bad_usage",
        where=where,
        fix="needed: a column or key 'model', and input_tokens and output_tokens (or usd)",
    )
