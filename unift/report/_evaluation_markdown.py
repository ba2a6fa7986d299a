"""An evaluation as Markdown, for a pull request: the verdict first, the rest folded away.

GitHub's dialect: tables, and ``<details>`` for what not everybody reads. What users and models
wrote stands in code spans, so that it can neither format the page nor mention anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unift._text import duration
from unift.report._evaluation_view import evaluation_view
from unift.report._format import change, p_value, score

Doc = Mapping[str, Any]

_LONGEST = 200  # characters of a sample that are shown
_SLICES = 12


def evaluation_markdown(document: Doc) -> str:
    """The report of an evaluation (the document of ``unift evaluate --json``) as Markdown."""
    view = evaluation_view(document)
    lines = [
        f"## {view['badge']['word']}",
        "",
        f"**{_plain(view['verdict']['found'])}**",
        "",
        *([f"{_plain(view['verdict']['figures'])}.", ""] if view["verdict"]["figures"] else []),
        *_candidates(view),
        "",
        *_differences(view, document),
    ]
    if view["question"]:
        lines += [_plain(view["question"]), ""]
    lines += [f"- **Note:** {_plain(one)}" for one in view["warnings"]]
    if view["warnings"]:
        lines.append("")
    lines += _preference(view)
    lines += _code_runs(view)
    lines += _parts(view)
    lines += _forgetting(document)
    lines += _general_text(view)
    lines += _lm_eval(document)
    lines += _calibration(document)
    lines += _diagnosis(document.get("diagnosis"))
    lines += _samples(view)
    lines += _origin(document)
    return "\n".join(lines).rstrip() + "\n"


def _candidates(view: Doc) -> list[str]:
    columns: Sequence[Doc] = view["columns"]
    heads = [one["title"] + (" (decides)" if one["deciding"] else "") for one in columns]
    extra = ["time per answer"] * bool(view["timed"]) + ["USD per 1,000"] * bool(view["priced"])
    lines = [_row("", *heads, *extra), _rule(1, len(heads) + len(extra))]
    for one in view["rows"]:
        cells = [score(one["metrics"].get(c["name"]), c["share"]) for c in columns]
        if view["timed"]:
            cells.append(duration(one["seconds"], "–"))
        if view["priced"]:
            cells.append("–" if one["price"] is None else f"{one['price']:.2f}")
        lines.append(_row(_code(one["name"]), *cells))
    return lines


def _differences(view: Doc, document: Doc) -> list[str]:
    name, title = document["candidates"][0]["name"], view["title"]
    shown = [one["comparison"] for one in view["rows"] if one["comparison"]]
    if not shown:
        return []
    unit = " in points" if view["share"] else ""
    lines = [
        _row(f"{_code(name)} minus", f"{title}{unit}", f"{view['level']} interval", "p (Holm)"),
        _rule(1, 3),
    ]
    for one in shown:
        span = f"{change(one['low'], view['share'])} to {change(one['high'], view['share'])}"
        lines.append(
            _row(
                _code(one["b"]),
                change(one["difference"], view["share"]),
                span,
                p_value(one["p_adjusted"]),
            )
        )
    return [*lines, "", f"{view['n']} test rows, paired; {', '.join(view['tests'])}.", ""]


def _preference(view: Doc) -> list[str]:
    found: Doc = view["preference"] or {}
    pairs: Sequence[Doc] = found.get("against") or []
    if not pairs:
        return []
    judged = found["by"] == "judge"
    extra = ["changed with the order", "unreadable"] if judged else []
    heads = ["rows", "win rate", f"{view['level']} interval", "won", "tied", "lost", "equal"]
    lines = [_row("preferred to", *heads, *extra), _rule(1, len(heads) + len(extra))]
    for one in pairs:
        cells = [str(one["n"]), score(one["win_rate"], True)]
        cells += [f"{score(one['low'], True)} to {score(one['high'], True)}"]
        cells += [str(one[key]) for key in ("wins", "ties", "losses", "identical")]
        if judged:
            place = one["position"]
            cells += [score(place["share"], True) if place and place["n"] else "–"]
            cells += [str(one["unreadable"])]
        lines.append(_row(_code(one["b"]), *cells))
    who = "People, who did not know whose answer they read"
    if judged:
        who = f"{_code(found['judge'])}, in both orders"
    more = (
        f" The win rate of {_code(view['names'][0])} above is that against its strongest rival."
        if len(pairs) > 1
        else ""
    )
    return [f"Preferred by: {who}.{more}", "", *lines, ""]


def _code_runs(view: Doc) -> list[str]:
    found = view["code"]
    if not found:
        return []
    lines = [_row("code of", *map(_plain, found["ways"])), _rule(1, len(found["ways"]))]
    lines += [_row(_code(one["name"]), *map(str, one["counts"])) for one in found["rows"]]
    return _folded("How the code ended", lines)


def _parts(view: Doc) -> list[str]:
    compared = [one for one in view["slices"] if one["difference"] is not None]
    if not compared:
        return []
    worst = sorted(compared, key=lambda one: (not one["worse"], one["difference"]))[:_SLICES]
    lines = [_row("part", "rows", "difference", ""), _rule(1, 2, 1)]
    for one in worst:
        word = "**worse**" if one["worse"] else "better" if one["better"] else ""
        name = f"{_plain(one['by'])} {_code(one['value'])}"
        lines.append(_row(name, str(one["n"]), change(one["difference"], view["share"]), word))
    more = len(compared) - len(worst)
    if more:
        lines += ["", f"{more} more in the HTML report."]
    return _folded(f"By part, worst first ({len(compared)})", lines)


def _forgetting(document: Doc) -> list[str]:
    kinds: Sequence[Doc] = document.get("forgetting") or []
    if not kinds:
        return []
    lines = [_row("general questions", "model", "base", "difference", "n"), _rule(1, 4)]
    lines += [
        _row(
            _plain(one["kind"]),
            score(one["model"], True),
            score(one["base"], True),
            change(one["difference"], True),
            str(one["n"]),
        )
        for one in kinds
    ]
    return _folded("What was forgotten", lines)


def _general_text(view: Doc) -> list[str]:
    text: Doc = view["general_text"] or {}
    if not text:
        return []
    told = (
        f"Nats a token on {text['texts']} short texts: {text['model']['loss']:.3f}, base "
        f"{text['base']['loss']:.3f}; difference {text['difference']:+.3f} ({view['level']} "
        f"interval {text['low']:+.3f} to {text['high']:+.3f}). Above 0 is worse."
    )
    return _folded("Loss on general text", [told])


def _calibration(document: Doc) -> list[str]:
    every: Mapping[str, Doc] = document.get("calibration") or {}
    known = {name: one for name, one in every.items() if "bins" in one}
    if not known:
        return []
    lines = [_row("", "answers", "sure", "right", "error", "Brier"), _rule(1, 5)]
    for name, one in known.items():
        shares = [score(one[key], True) for key in ("confidence", "accuracy")]
        numbers = [f"{one[key]:.3f}" for key in ("error", "brier")]
        lines.append(_row(_code(name), str(one["n"]), *shares, *numbers))
    return _folded("Is it as sure as it is right?", lines)


def _lm_eval(document: Doc) -> list[str]:
    found: Doc = document.get("lm_eval") or {}
    tasks: Sequence[Doc] = found.get("rows") or []
    if not tasks:
        return []
    lines = [_row("task", "metric", "model", "base", "difference", "n"), _rule(2, 4)]
    for one in tasks:
        sides = [
            f"{one[who]:.4g}"
            + (f" ± {one[f'{who}_stderr']:.2g}" if one[f"{who}_stderr"] is not None else "")
            for who in ("model", "base")
        ]
        lines.append(
            _row(
                _plain(one["task"]),
                _plain(f"{one['metric']} ({one['filter']})"),
                *sides,
                f"{one['difference']:+.4g}",
                "–" if one["n"] is None else str(one["n"]),
            )
        )
    return _folded("Tasks of lm-evaluation-harness", lines)


def _diagnosis(found: Doc | None) -> list[str]:
    if not found:
        return []
    word = str(found["code"]).replace("_", " ")
    lines = [_plain(found["sentence"]), ""]
    for one in found["advice"]:
        more = one["flags"] or one.get("command", "")
        lines.append(f"- {_plain(one['text'])}" + (f" {_code(more)}" if more else ""))
    return _folded(f"How the training went: {word}", lines)


def _samples(view: Doc) -> list[str]:
    if not view["samples"]:
        return []
    names = [one["name"] for one in view["samples"][0]["answers"]]
    lines = [
        _row("line", "change", "question", "wanted", *map(_code, names)),
        _rule(4 + len(names)),
    ]
    for one in view["samples"]:
        answers = [_code(answer["text"]) for answer in one["answers"]]
        asked, wanted = _code(one["prompt"]), _code(one["expected"])
        lines.append(_row(str(one["line"]), one["word"], asked, wanted, *answers))
    return _folded("Answers worth reading", lines)


def _origin(document: Doc) -> list[str]:
    known: Doc = document.get("lineage") or {}
    lines = [f"- {key.replace('_', ' ')}: {_code(value)}" for key, value in known.items() if value]
    lines.append(f"- evaluation: {_code(document['id'])}, seed {document['seed']}")
    return _folded("Where it comes from", lines)


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>", ""]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(left: int, right: int = 0, last: int = 0) -> str:
    return _row(*["---"] * left, *["---:"] * right, *["---"] * last)


def _code(value: Any) -> str:
    """A code span for a table cell: one line, cut to a length, with nothing that could end it."""
    text = " ".join(str(value).replace("`", "'").split()).replace("|", "\\|")
    if len(text) > _LONGEST:
        text = text[:_LONGEST].rstrip("\\") + " …"
    return f"`{text}`" if text else ""


def _plain(text: Any) -> str:
    """A sentence of ours that may quote a user's word."""
    found = str(text).replace("\n", " ")
    for mark in "\\<>|*_`[]@#":
        found = found.replace(mark, f"\\{mark}" if mark not in "<>@" else f"&#{ord(mark)};")
    return found
