"""What the page shows of an evaluation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from unift.report._interval_chart import interval_chart
from unift.report._reliability_chart import reliability_chart

Doc = Mapping[str, Any]

_BADGES = {
    "better": ("Worth it", "good"),
    "not_worse": ("Not worse", "good"),
    "worse_in_part": ("Worse in part", "bad"),
    "no_better": ("No better", "bad"),
    "worse": ("Not worth it", "bad"),
    "inconclusive": ("Cannot tell", "open"),
    "not_compared": ("Not compared", "open"),
}
_CHANGES = {
    "lost": ("Got worse", "bad"),
    "gained": ("Got better", "good"),
    "still wrong": ("Unchanged, wrong", "open"),
    "same": ("Unchanged, right", "open"),
    "equal": ("As good", "open"),
}
_FIGURES = re.compile(r" \(((?:[\d.]+% interval|difference )[^)]*)\)")
# A wider matrix cannot be read.
_CONFUSION_MOST = 25
# Numbers of the whole set that are no metric of their own.
_SET_METRICS = {"macro_f1": "Macro F1"}


def evaluation_view(doc: Doc) -> dict[str, Any]:
    """Everything that the sections on the comparison and the samples need."""
    deciding = doc["metric"]
    asked: Doc = doc.get("asked") or {}
    word, tone = _BADGES.get(doc["verdict_code"], (str(doc["verdict_code"]), "open"))
    shares = _shares(doc)
    columns = [
        {**metric, "share": shares[metric["name"]], "deciding": metric["name"] == deciding}
        for metric in [*doc["metrics"], *_set_metrics(doc)]
    ]
    against = {one["b"]: one for one in doc["comparisons"] if one["metric"] == deciding}
    compared = list(against.values())
    title = str(next(one["title"] for one in columns if one["deciding"]))
    level = f"{doc['confidence'] * 100:g}%"
    return {
        "badge": {
            "word": word,
            "tone": "warn" if tone == "good" and doc.get("verdict_exceptions") else tone,
        },
        "verdict": _sentence(doc["verdict"], word),
        "columns": columns,
        "rows": [_row(one, against, shares) for one in doc["candidates"]],
        "timed": any(one.get("seconds_per_answer") is not None for one in doc["candidates"]),
        "title": title,
        "level": level,
        "share": shares[deciding],
        "figures": _figures(doc, against, shares[deciding], title, level),
        "charts": [
            interval_chart(compared, title=f"Differences in {title}", width=w, id=f"intervals-{w}")
            for w in (880, 380)
        ],
        "tests": sorted({one["test"] for one in compared}),
        "others": _others(doc, deciding, columns),
        "fields": doc.get("fields") or [],
        "labels": _labels(doc),
        "slices": _slices(doc),
        "confusion": _confusion(doc),
        "question": _question(doc),
        "forgetting": _forgetting(doc),
        "preference": doc.get("preference"),
        "code": _code(doc),
        "engine": asked.get("engine"),
        "general_text": doc.get("general_text"),
        "lm_eval": doc.get("lm_eval"),
        "calibration": _calibration(doc),
        "priced": any(one.get("usd_per_1000_answers") is not None for one in doc["candidates"]),
        "names": [one["name"] for one in doc["candidates"]],
        "samples": [_sample(one, shares[deciding]) for one in doc.get("samples", [])],
        "warnings": doc.get("warnings", []),
        "task": doc["task"],
        "sampling": doc.get("sampling", {}),
        "n": doc["n"],
    }


def _sentence(verdict: str, word: str) -> dict[str, str]:
    """The verdict in two parts: what was found, and the figures behind it in brackets.

    The badge above says the first word already.
    """
    text = verdict.removeprefix(f"{word}: ").removeprefix("Worse: ")
    bracket = _FIGURES.search(text)  # a user's word may have brackets, too
    if bracket is None:
        return {"found": text[:1].upper() + text[1:], "figures": ""}
    found, figures, rest = text[: bracket.start()], bracket[1], text[bracket.end() :]
    return {
        "found": found[:1].upper()
        + found[1:]
        + (rest if rest.startswith((";", ".")) else "." + rest),
        "figures": figures[:1].upper() + figures[1:],
    }


def _shares(doc: Doc) -> dict[str, bool]:
    """Metric -> True if its scores are shares of one, to be shown as percentages."""
    scales: dict[str, bool] = {}
    names = [one["name"] for one in [*doc["metrics"], *_set_metrics(doc)]]
    for name in names:
        widths = [one.get("scale", 1) for one in doc["comparisons"] if one["metric"] == name]
        means = [one["metrics"].get(name, 0) for one in doc["candidates"]]
        scales[name] = all(w == 1 for w in widths) and all(0 <= mean <= 1 for mean in means)
    return scales


def _set_metrics(doc: Doc) -> list[dict[str, str]]:
    known = doc["candidates"][0]["metrics"]
    return [
        {"name": name, "title": title, "about": "Every label counts as much as any other."}
        for name, title in _SET_METRICS.items()
        if name in known
    ]


def _row(one: Doc, against: Mapping[str, Doc], shares: Mapping[str, bool]) -> dict[str, Any]:
    return {
        "name": one["name"],
        "model": one["model"],
        "about": one.get("about", ""),
        "metrics": {name: one["metrics"].get(name) for name in shares},
        "comparison": against.get(one["name"]),
        "seconds": one.get("seconds_per_answer"),
        "price": one.get("usd_per_1000_answers"),
        "n": one["n"],
    }


def _figures(
    doc: Doc, against: Mapping[str, Doc], share: bool, title: str, level: str
) -> list[dict[str, Any]]:
    """The three or four numbers at the top."""
    from unift.report._format import change, score

    own = doc["candidates"][0]
    rival = against.get(doc.get("verdict_against") or "")
    found = [
        {"label": f"{title}, {own['name']}", "value": score(own["metrics"][doc["metric"]], share)}
    ]
    if rival:
        theirs = next(one for one in doc["candidates"] if one["name"] == rival["b"])
        found += [
            {
                "label": f"{title}, {rival['b']}",
                "value": score(theirs["metrics"][doc["metric"]], share),
            },
            {
                "label": "Difference" + (" in points" if share else ""),
                "value": change(rival["difference"], share),
                "note": f"{level}: {change(rival['low'], share)} to {change(rival['high'], share)}",
            },
        ]
    return [*found, {"label": "Test rows", "value": str(doc["n"])}]


def _others(doc: Doc, deciding: str, columns: Sequence[Doc]) -> list[dict[str, Any]]:
    titles = {one["name"]: one for one in columns}
    return [
        {**one, "title": titles[one["metric"]]["title"], "share": titles[one["metric"]]["share"]}
        for one in doc["comparisons"]
        if one["metric"] != deciding
    ]


def _labels(doc: Doc) -> list[dict[str, Any]]:
    """Per label, the F1 of every candidate beside each other."""
    tables: Mapping[str, Sequence[Doc]] = doc.get("labels") or {}
    rows: dict[str, dict[str, Any]] = {}
    for name, table in tables.items():
        for line in table:
            row = rows.setdefault(line["label"], {"label": line["label"], "n": line["n"], "f1": {}})
            row["f1"][name] = line["f1"]
    return list(rows.values())


def _forgetting(doc: Doc) -> Sequence[Doc]:
    return doc.get("forgetting") or []


def _calibration(doc: Doc) -> dict[str, Any] | None:
    """Who was how sure, and the plot of the model under test; None where nobody says."""
    every: Mapping[str, Doc] = doc.get("calibration") or {}
    known = {name: one for name, one in every.items() if "bins" in one}
    if not known:
        return None
    name = doc["candidates"][0]["name"]
    shown = name if name in known else next(iter(known))
    return {
        "rows": [{"name": one, **told} for one, told in every.items()],
        "charts": [
            reliability_chart(known[shown]["bins"], name=shown, width=w, id=f"reliability-{w}")
            for w in (880, 380)
        ],
    }


def _code(doc: Doc) -> dict[str, Any] | None:
    """How often the code of each candidate ended in which way, the commonest way first."""
    found: Doc = doc.get("code") or {}
    ended: Mapping[str, Mapping[str, int]] = found.get("ended") or {}
    if not ended:
        return None
    total = Counter[str]()
    for counts in ended.values():
        total.update(counts)
    ways = sorted(total, key=lambda way: (way != "passed", -total[way], way))
    return {
        "ways": ways,
        "rows": [
            {"name": name, "counts": [counts.get(way, 0) for way in ways]}
            for name, counts in ended.items()
        ],
        "isolation": found.get("isolation"),
    }


def _slices(doc: Doc) -> list[dict[str, Any]]:
    """Parts of the rows, those that got worse first."""
    slices: Sequence[Doc] = doc.get("slices") or []
    rows = [
        {**one, "tone": "bad" if one["worse"] else "good" if one["better"] else ""}
        for one in slices
    ]
    order = {"bad": 0, "": 1, "good": 1}
    return sorted(rows, key=lambda row: order[row["tone"]])


def _confusion(doc: Doc) -> dict[str, Any] | None:
    """The matrix of the model under test, each row as shares of its label."""
    every: Mapping[str, Doc] = doc.get("confusion") or {}
    found = every.get(doc["candidates"][0]["name"])
    if not found or len(found["labels"]) > _CONFUSION_MOST:
        return None
    labels: Sequence[str] = found["labels"]
    columns: Sequence[str] = found["given"]
    table: Sequence[Sequence[int]] = found["counts"]
    rows: list[dict[str, Any]] = [
        {
            "label": label,
            "cells": [
                {"n": n, "share": n / (sum(counts) or 1), "hit": label == given}
                for n, given in zip(counts, columns, strict=True)
            ],
        }
        for label, counts in zip(labels, table, strict=True)
    ]
    return {"given": columns, "rows": rows, "name": doc["candidates"][0]["name"]}


def _question(doc: Doc) -> str:
    """What a margin asked, and the answer, in one sentence."""
    one = doc.get("non_inferiority")
    if not one:
        return ""
    ruled = "is ruled out" if one["holds"] else "is not ruled out"
    return (
        f"A loss of {one['margin']:g} or more against {one['reference']} {ruled} "
        f"({one['test']}, one-sided p = {one['p']:.3g}; about {one['rows_needed']} rows show it "
        "if there is no difference)."
    )


def _sample(one: Doc, share: bool) -> dict[str, Any]:
    word, tone = _CHANGES.get(one["change"], (str(one["change"]), "open"))
    answers = [{**answer, "share": share} for answer in one["answers"]]
    # The reader compares from left to right: what there was, then what training made of it.
    return {**one, "word": word, "tone": tone, "answers": [*answers[1:], answers[0]]}
