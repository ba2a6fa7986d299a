"""Step 8: the whole migration as one page to sign, as Markdown, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from unift import catalog
from unift._text import dollars
from unift.migrate._files import items, part, read_json, words, write_json, write_text
from unift.migrate._spec import STEPS, MigrationSpec

Doc = Mapping[str, Any]

_WORDS = {
    "switch": ("Switch", "good"),
    "switch_with_exceptions": ("Switch with exceptions", "warn"),
    "do_not": ("Do not switch", "bad"),
}
_CANDIDATES = 8
_SLICES = 8


@dataclass(frozen=True)
class Story:
    """Where the page is, in three forms."""

    html: str
    markdown: str
    json: str

    def as_dict(self) -> dict[str, str]:
        return {"html": self.html, "markdown": self.markdown, "json": self.json}


def tell(spec: MigrationSpec, folder: Path, states: Sequence[Doc]) -> Story:
    """Write ``report.html``, ``report.md`` and ``report.json`` from what the steps have left.

    A step that is not done is said to be missing; nothing is invented for it.
    """
    from unift.report import migration_markdown, migration_page

    document = story_of(spec, folder, states)
    return Story(
        str(write_text(folder / "report.html", migration_page(document))),
        str(write_text(folder / "report.md", migration_markdown(document))),
        str(write_json(folder / "report.json", document)),
    )


def story_of(spec: MigrationSpec, folder: Path, states: Sequence[Doc]) -> dict[str, Any]:
    """Everything that the page shows, as JSON."""
    plan = read_json(folder / "plan.json") or {}
    compared = read_json(folder / "comparison.json") or {}
    trained = read_json(folder / "training.json") or {}
    cutover = read_json(folder / "cutover.json") or {}
    inventory = read_json(folder / "inventory.json") or {}
    verdict = part(compared, "verdict")
    word, tone = _WORDS.get(str(verdict.get("code")), ("Not decided", "open"))
    if verdict and not verdict.get("proven", True):
        word, tone = "Not yet", "bad"
    golden = _golden(folder / "golden.jsonl")
    done = [one["step"] for one in states if one["state"] == "done"]
    return {
        "migration": spec.name,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "word": word,
        "tone": tone,
        "verdict": verdict or None,
        "sentence": verdict.get("sentence") or "The comparison has not been made yet.",
        **_in_two(verdict.get("sentence") or "The comparison has not been made yet."),
        "old": plan.get("old") or {"reference": spec.source.model},
        "new": {
            "base": plan.get("model"),
            "provider": plan.get("provider"),
            "run": trained.get("run"),
            "served_name": cutover.get("served_name"),
        },
        "figures": _figures(plan, compared, trained),
        "steps": [_step(name, states, done) for name in STEPS if name != "report"],
        "story": _story(spec, plan, compared, trained, cutover, golden, inventory),
        "dates": _dates(plan, inventory),
        "scores": _scores(compared.get("truth"), compared),
        "agreement": _scores(compared.get("agreement"), compared),
        "agreement_prompts": compared.get("agreement_prompts"),
        "slices": _slices(compared.get("truth") or compared.get("agreement")),
        "behaviour": items(compared, "behaviour"),
        "latency": items(compared, "latency"),
        "price": items(compared, "price_per_1000_answers"),
        "successor": compared.get("successor"),
        "mapping": items(plan, "mapping"),
        "candidates": items(plan, "candidates")[:_CANDIDATES],
        "candidates_more": max(0, len(items(plan, "candidates")) - _CANDIDATES),
        "break_even": plan.get("break_even"),
        "trainings": items(trained, "tried"),
        "training_why": trained.get("why") or "",
        "metric": _metric(compared.get("truth") or compared.get("agreement")),
        "cutover": cutover or None,
        "risks": _risks(plan, compared, cutover, golden),
        "signatures": [*([spec.report.owner] if spec.report.owner else []), *spec.report.approvers]
        or ["Owner of the application", "Owner of the model"],
        "sources": _sources(plan, compared),
        "reproduce": f"unift migrate run {folder / 'migration.yaml'}",
    }


def _in_two(sentence: str) -> dict[str, str]:
    """What was found, and the figures behind it, which stand in the first brackets."""
    for word in ("Switch", "Switch with exceptions", "Do not switch", "Do not switch yet"):
        plain = sentence.removeprefix(f"{word}: ")  # the badge above says that already
        sentence = plain[:1].upper() + plain[1:]
    found, bracket, rest = sentence.partition(" (")
    figures, end, rest = rest.partition(")")
    if not bracket or not end or "points" not in figures:
        return {"found": sentence, "span": ""}
    return {"found": found + rest, "span": f"{figures[:1].upper()}{figures[1:]}."}


def _step(name: str, states: Sequence[Doc], done: Sequence[str]) -> dict[str, Any]:
    state = next((one for one in states if one["step"] == name), None)
    return {
        "name": name,
        "state": "done" if name in done else (state["state"] if state else "not begun"),
        "finished": (state or {}).get("finished"),
    }


def _figures(plan: Doc, compared: Doc, trained: Doc) -> list[dict[str, str]]:
    """The four numbers that a reader takes away."""
    found: list[dict[str, str]] = []
    document = compared.get("truth") or compared.get("agreement")
    asked = part(document, "non_inferiority")
    if document and asked:
        found.append(
            {
                "label": "New minus old, in points",
                "value": _points(asked["difference"]),
                "note": f"{_points(asked['low'])} to {_points(asked['high'])}; margin "
                f"{compared['margin'] * 100:g}",
            }
        )
        found.append({"label": "Test rows", "value": f"{document['n']:,}", "note": ""})
    old = part(plan, "old")
    if old.get("ends"):
        days = (date.fromisoformat(old["ends"]) - datetime.now(UTC).date()).days
        value = f"{days} days" if days >= 0 else "over"
        found.append({"label": "Until the old model stops", "value": value, "note": old["ends"]})
    prices = {one["role"]: one["usd"] for one in items(compared, "price_per_1000_answers")}
    if prices.get("old") is not None or prices.get("new") is not None:
        shown = [dollars(prices.get(one), "unknown") for one in ("old", "new")]
        found.append({"label": "1,000 answers, old", "value": shown[0], "note": f"new: {shown[1]}"})
    estimate = part(plan, "estimate")
    if estimate.get("price_usd") is not None and trained:
        count = len(trained.get("tried") or [1])
        found.append(
            {
                "label": "Training, as estimated",
                "value": dollars(estimate["price_usd"] * count),
                "note": f"{count} training{'s' if count > 1 else ''}",
            }
        )
    return found


def _story(
    spec: MigrationSpec,
    plan: Doc,
    compared: Doc,
    trained: Doc,
    cutover: Doc,
    golden: Doc,
    inventory: Doc,
) -> list[str]:
    """One sentence a step, in order, of what was done and found."""
    said: list[str] = []
    if inventory:
        said.append(
            f"Found at {inventory.get('provider')}: "
            f"{_count(items(inventory, 'models'), 'fine-tuned model')}, "
            f"{_count(items(inventory, 'jobs'), 'job')}, "
            f"{_count(items(inventory, 'files'), 'file')}."
        )
    if golden["prompts"]:
        said.append(
            f"The old model's answers to {golden['prompts']:,} prompts were recorded, "
            f"{golden['draws']:,} in all; they outlive it."
        )
    if plan:
        rows = plan["data"]["rows"]
        said.append(
            f"{rows['train']:,} rows were learnt, {rows['validation']:,} were used to choose, and "
            f"{rows['test']:,} were held back for the test; no prompt is in two of them."
        )
        exact = sum(one["certainty"] == "exact" for one in plan["mapping"])
        guessed = sum(one["certainty"] == "heuristic" for one in plan["mapping"])
        carried = f"{exact} setting{'s' if exact != 1 else ''} of the old job carried over as "
        rest = f"; {guessed} could only be estimated" if guessed else ""
        said.append(f"{plan['model']} was trained by {plan['provider']}: {carried}they were{rest}.")
    if trained:
        count = len(trained["tried"])
        if count > 1:
            said.append(f"{count} trainings were tried; chosen: {trained['why']}.")
    if compared:
        asked = compared.get("truth") or compared["agreement"]
        who = "on held-out truth" if compared.get("truth") else "by the old model's own answers"
        said.append(
            f"Old and new were asked the same {asked['n']:,} prompts and compared {who}, at a "
            f"margin of {compared['margin'] * 100:g} points."
        )
    if cutover:
        checked = cutover.get("template")
        if checked:
            said.append(
                f"Training and serving read the same {checked['tokens']:,} tokens of "
                f"{checked['rows']} rows."
            )
        packed = part(cutover, "archive")
        if packed:
            said.append(
                f"Everything is in one archive of {packed['files']} files, sha256 "
                f"{packed['sha256'][:16]}…"
            )
    return said


def _dates(plan: Doc, inventory: Doc) -> list[dict[str, Any]]:
    """What ends when, soonest first: of the old model, then of its vendor."""
    found: dict[tuple[str, str], str] = {}
    for one in items(inventory, "deadlines"):
        names = ", ".join(one["models"][:2]) + (" …" if len(one["models"]) > 2 else "")
        found[(one["on"], f"{one['what']}: {names}")] = one["source"]
    old = part(plan, "old")
    if old.get("ends"):
        found.setdefault((old["ends"], f"{old['id']} stops answering"), old.get("ends_source", ""))
    if old.get("last_job"):
        found.setdefault((old["last_job"], "last day for new jobs there"), "catalogue")
    today = datetime.now(UTC).date()
    vendor = str(old.get("vendor") or inventory.get("provider") or "")
    if old.get("ends"):  # a stand-in that speaks the vendor's API has none of its dates
        for event in catalog.load().events:
            if event.provider == vendor and event.date >= today:
                source = f"{event.source[0]} ({event.as_of})"
                found.setdefault((event.date.isoformat(), f"{vendor}: {event.what}"), source)
    return [
        {
            "on": on,
            "what": what,
            "days": (date.fromisoformat(on) - today).days,
            "source": source,
        }
        for (on, what), source in sorted(found.items())
    ]


def _metric(document: Doc | None) -> str:
    if not document:
        return ""
    names = [one["title"] for one in document["metrics"] if one["name"] == document["metric"]]
    return str(names[0]) if names else str(document["metric"])


def _scores(document: Doc | None, compared: Doc) -> list[dict[str, Any]]:
    """A row a candidate: how it is called for a reader, its scores, and the new one against it."""
    if not document:
        return []
    metric = document["metric"]
    rows: list[dict[str, Any]] = []
    reference = part(document, "non_inferiority").get("reference")
    for index, one in enumerate(document["candidates"]):
        against = next(
            (c for c in document["comparisons"] if c["b"] == one["name"] and c["metric"] == metric),
            None,
        )
        old = one["name"] == reference
        own = part(one, "self_agreement")
        rows.append(
            {
                "name": "new" if index == 0 else "old" if old else one["name"],
                "model": compared.get("old") if old else one["model"],
                "score": one["metrics"][metric],
                "others": {k: v for k, v in one["metrics"].items() if k != metric},
                "n": one["n"],
                "difference": against and against["difference"],
                "low": against and against["low"],
                "high": against and against["high"],
                "self_agreement": own.get(metric),
            }
        )
    return rows


def _slices(document: Doc | None) -> list[dict[str, Any]]:
    if not document:
        return []
    tested = [one for one in items(document, "slices") if one["difference"] is not None]
    ordered = sorted(tested, key=lambda one: (not one["worse"], one["difference"]))
    return [
        {key: one[key] for key in ("by", "value", "n", "difference", "low", "high", "worse")}
        for one in ordered[:_SLICES]
    ]


def _risks(plan: Doc, compared: Doc, cutover: Doc, golden: Doc) -> list[dict[str, str]]:
    """What may go wrong, and what is to be done about it."""
    found: list[dict[str, str]] = []

    def add(what: str, do: str) -> None:
        found.append({"what": what, "do": do})

    for one in words(part(compared, "verdict"), "exceptions"):
        add(
            f"Worse in {one}.",
            "Keep these on the old model while it lives, or add such rows and train again.",
        )
    for one in words(part(compared, "verdict"), "watch"):
        add(f"Perhaps worse in {one}: too few rows to be sure.", "Add such rows to the test.")
    if golden["draws"] and golden["draws"] <= golden["prompts"]:
        add(
            "Each prompt was asked once, so the old model's own noise is unknown.",
            "Record a second draw while it still answers: record.draws: 2.",
        )
    if not golden["prompts"]:
        add("No answer of the old model is recorded.", "unift migrate record, before it stops.")
    for note in words(compared, "notes"):
        if "flattered" in note or "flatters" in note:
            add(
                f"{note[0].upper()}{note[1:]}.",
                "The comparison is strict for the new model; nothing to do.",
            )
    guessed = [one for one in items(plan, "mapping") if one["certainty"] == "heuristic"]
    if guessed:
        names = ", ".join(one["setting"] for one in guessed)
        add(
            f"{names}: estimated, because the vendor does not publish what it used.",
            "If quality is short, search over it: sweep.learning_rate.",
        )
    for warning in words(plan, "warnings"):
        if "conditions" in warning:
            add(f"{warning}.", "Have the licence read before going live.")
    for one in items(compared, "price_per_1000_answers"):
        if one["role"] == "new" and one["usd"] is None:
            add("What the new model costs to run is not known.", f"{one['source']}.")
    if cutover and not cutover.get("template"):
        add(
            "The vendor serves the new model; its template cannot be checked.",
            "Compare live answers in shadow mode.",
        )
    if cutover:
        add(
            "The first days in production.",
            "Send a share to the new model through the proxy, compare, and keep the way back open "
            "while the old model lives.",
        )
    return found


def _sources(plan: Doc, compared: Doc) -> list[str]:
    found: list[str] = []
    old = part(plan, "old")
    if old.get("ends_source"):
        found.append(f"end of the old model: {old['ends_source']}")
    for one in items(plan, "mapping"):
        if one.get("source"):
            found.append(f"{one['setting']}: {one['source']}")
    for one in items(compared, "price_per_1000_answers"):
        if one["usd"] is not None:
            found.append(f"price of 1,000 answers, {one['role']}: {one['source']}")
    for one in items(plan, "candidates"):
        if one["recommended"]:
            found += [f"{one['base']}: {source}" for source in one["sources"]]
    return list(dict.fromkeys(found))


def _golden(path: Path) -> dict[str, int]:
    prompts = draws = 0
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            for line in file:
                if line.strip():
                    prompts, draws = prompts + 1, draws + len(json.loads(line).get("draws") or [])
    return {"prompts": prompts, "draws": draws}


def _count(found: Sequence[Any], noun: str) -> str:
    return f"{len(found)} {noun}{'' if len(found) == 1 else 's'}"


def _points(value: float) -> str:
    return f"{value * 100:+.1f}".replace("-", "−")
