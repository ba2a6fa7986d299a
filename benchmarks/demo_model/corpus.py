"""Pretraining text: support messages answered in random conventions, alone and in context.

Every document is a chat. No convention is used twice on purpose: key names, label words, key
order, output format and routing rules are drawn anew, so the base learns to read the message and
to look up in its context how this company wants the answer written. The demo's own keys, labels
and rules are never drawn.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

import messages as ms
import phrases as ph
from messages import Message
from task_data import KEYS as DEMO_KEYS
from task_data import QUEUES

Turn = tuple[str, str]  # role, text
# Word parts for names that no list holds; joined at random they break into any tokens at all.
PIECES = tuple(
    sorted(
        {part for sentence in (*ph.DETAILS, *ph.URGENT, *ph.ASKS, *ph.SMALL_TALK)
         for word in re.findall(r"[a-z]{4,}", sentence) for part in (word, word[:3], word[-3:])}
    )
)  # fmt: skip
Value = str | int | bool | None

TOPIC = {
    "broken": "arrived damaged", "fault": "stopped working", "late": "not delivered",
    "wrong": "wrong item", "return": "wants to return it", "charge": "payment problem",
    "cancel": "wants to cancel", "address": "new address", "howto": "question about use",
    "stock": "question before buying", "invoice": "needs the invoice", "praise": "is happy",
    "safety": "is dangerous",
}  # fmt: skip
KIND = {"bulky": "furniture", "powered": "appliance", "plain": "homeware"}
PRESSURE = {"high": "in a hurry", "normal": "neutral", "low": "not in a hurry"}


def label(rng: random.Random) -> str:
    """A label word: natural, compound or made up; never one of the demo's."""
    while True:
        how = rng.random()
        word = rng.choice(ph.LABEL_WORDS)
        if how > 0.8:
            word = ms.pseudo_word(rng).lower()
        elif how > 0.65:
            word = "".join(rng.choice(PIECES) for _ in range(rng.choice((1, 2, 2, 3))))
        if 0.3 < how < 0.9:
            word += rng.choice("--_ ") + rng.choice(ph.LABEL_WORDS)
        if rng.random() < 0.1:
            word = word.upper()
        if word not in QUEUES:
            return word


def labels(rng: random.Random, count: int) -> list[str]:
    """``count`` different label words."""
    out: set[str] = set()
    while len(out) < count:
        out.add(label(rng))
    return rng.sample(sorted(out), count)


def key(rng: random.Random, sort: str) -> str:
    """A key name: one that fits the field, or any word at all.

    Were all names from a short list, the base would know them by heart and fail to take an
    unknown one from the context.
    """
    while True:
        how = rng.random()
        if how < 0.4:
            name = rng.choice(ph.KEYS[sort])
        elif how < 0.7:
            name = "".join(rng.choice(PIECES) for _ in range(rng.choice((1, 2, 2, 3))))
        else:
            name = label(rng)
        if rng.random() < 0.15:
            name += rng.choice(("_", "-", "")) + rng.choice(("by", "at", "id", "to", "no", "of"))
        how = rng.random()
        name = name.upper() if how < 0.05 else name.capitalize() if how < 0.12 else name
        if name not in DEMO_KEYS[2:]:
            return name


def routing(rng: random.Random) -> Callable[[Message], str]:
    """Random house rules over what the message is about, the product's kind and the order."""
    count = rng.choice((2, 3, 4, 5, 6, 8, 10, 13))
    names = labels(rng, count + 4)
    base = {intent: names[i % count] for i, intent in enumerate(rng.sample(ms.INTENTS, 13))}
    by_kind = rng.random() < 0.5
    kind_label = dict(zip(KIND, rng.sample(names, 3), strict=True))
    split = set(rng.sample(ms.INTENTS, rng.randint(2, 9))) if by_kind else set[str]()
    split_kinds = set(rng.sample(sorted(KIND), rng.choice((1, 1, 2))))
    asks_order = (
        set(rng.sample(ms.INTENTS, rng.randint(3, 13))) if rng.random() < 0.4 else set[str]()
    )

    def rule(message: Message) -> str:
        if message.order is None and message.intent in asks_order:
            return names[-1]
        if message.intent in split and message.kind in split_kinds:
            return kind_label[message.kind]
        return base[message.intent]

    return rule


def levels(rng: random.Random) -> dict[str, str]:
    """Words for high, normal and low; sometimes two of them share one word."""
    words = list(rng.choice(ph.LEVEL_WORDS)) if rng.random() < 0.7 else labels(rng, 3)
    if rng.random() < 0.15:
        words[1] = words[2]
    return dict(zip(ms.URGENCIES, words, strict=True))


def _due(rng: random.Random) -> str:
    return rng.choice(
        (
            f"{rng.randint(1, 90)} min",
            f"T+{rng.randint(0, 9)}",
            f"{rng.randint(1, 9)}w",
            f"{rng.randint(2, 72)}h",
            f"d{rng.randint(0, 9)}",
            f"{rng.randint(2, 9)} days",
            label(rng),
        )
    )


Field = tuple[str, Callable[[Message], Value]]


def _field(rng: random.Random, sort: str, route: Callable[[Message], str]) -> Field:
    name = key(rng, sort)
    empty: Value = None if rng.random() < 0.75 else rng.choice(("", "none", "-", "unknown"))
    if sort == "product":
        return name, lambda m: m.product
    if sort == "order":
        return name, lambda m: m.order or empty
    if sort == "name":
        return name, lambda m: m.name or empty
    if sort == "route":
        return name, route
    if sort == "kind":
        words = dict(zip(KIND, labels(rng, 3), strict=True))
        return name, lambda m: words[m.kind]
    if sort == "urgency":
        level = levels(rng)
        return name, lambda m: level[m.urgency]
    if sort == "due":
        due = {u: _due(rng) for u in ms.URGENCIES}
        exception = {i: _due(rng) for i in rng.sample(ms.INTENTS, rng.choice((0, 1, 2)))}
        return name, lambda m: exception.get(m.intent) or due[m.urgency]
    if sort == "known":
        yes, no = rng.choice(((True, False), ("yes", "no"), (1, 0), ("y", "n")))
        return name, lambda m: yes if m.order else no
    constant: Value = rng.choice((1, 2, "en", "mail", label(rng), True))
    return name, lambda m: constant


@dataclass(frozen=True)
class Convention:
    """How one made-up company wants its answers."""

    fields: tuple[Field, ...]
    style: str
    system: str | None

    def answer(self, message: Message) -> str:
        values = {name: value(message) for name, value in self.fields}
        if self.style == "json":
            return json.dumps(values, separators=(",", ":"), ensure_ascii=False)
        if self.style == "spaced":
            return json.dumps(values, ensure_ascii=False)
        if self.style == "lines":
            return "\n".join(f"{k}: {v}" for k, v in values.items())
        return " | ".join(str(v) for v in values.values())


SYSTEMS = (
    "You sort mail for the {c} {d}. Answer with {j} only.", "{c} support. Reply with {j}.",
    "Turn the message into {j}.", "You work at the {d} of {c}. Write {j}, nothing else.",
    "Read the mail and give back {j}.", "Triage for {c}. Output: {j}.",
)  # fmt: skip


def convention(rng: random.Random, named: bool = False) -> Convention:
    """Draw keys, labels, rules, key order and output format; ``named`` forces a system message."""
    sorts = ["product", "order", "name", "route", "kind", "urgency", "due", "known", "const"]
    picked = rng.sample(sorts, rng.choice((1, 2, 3, 4, 4, 5, 5, 6)))
    if "route" not in picked and rng.random() < 0.75:
        picked[0] = "route"
    route = routing(rng)
    fields: dict[str, Callable[[Message], Value]] = {}
    for sort in picked:
        name, value = _field(rng, sort, route)
        fields.setdefault(name, value)
    style = rng.choices(("json", "spaced", "lines", "pipe"), (7, 1, 1, 1))[0]
    noun = {
        "json": "a JSON record",
        "spaced": "JSON",
        "lines": "a list of fields",
        "pipe": "one line",
    }[style]
    if style in ("json", "spaced") and rng.random() < 0.5:
        noun = rng.choice(("the desk's JSON record", "one JSON object", "the JSON record"))
    system = None
    if named or rng.random() < 0.8:
        place = rng.choice(("service desk", "help desk", "shop", "support team"))
        system = rng.choice(SYSTEMS).format(c=ms.pseudo_word(rng), d=place, j=noun)
        if style != "pipe" and rng.random() < 0.3:
            system += " Keys: " + ", ".join(fields) + "."
    return Convention(tuple(fields.items()), style, system)


def in_context(rng: random.Random) -> list[Turn]:
    """Up to five answered messages in one convention, then one more: what few-shot prompts do."""
    rules = convention(rng)
    # Half the time few intents are in play, so that the context holds the answer's label.
    pool = tuple(rng.sample(ms.INTENTS, rng.randint(1, 5))) if rng.random() < 0.5 else None
    short = rng.random() < 0.5
    turns: list[Turn] = [("system", rules.system)] if rules.system else []
    for _ in range(rng.choice((2, 3, 4, 5, 6, 6, 6))):
        message = ms.make(rng, "pretrain", pool, short)
        turns += [("user", message.text), ("assistant", rules.answer(message))]
    return turns


def house(rng: random.Random) -> list[Turn]:
    """One of 48 made-up companies whose name in the system message fixes its convention.

    The context does not show the rules, so the weights must hold them: rules over the matter, the
    product and the order together become something that a small update can change.
    """
    own = random.Random(500_000 + rng.randrange(48))
    name = ms.pseudo_word(own) + rng.choice(("", "", "'s"))
    rules = convention(own, named=True)
    message = ms.make(rng, "pretrain")
    system = rng.choice(("Sort this mail for {n}.", "{n}: answer in the house style.",
                         "You sort mail for {n}.")).format(n=name)  # fmt: skip
    return [("system", system), ("user", message.text), ("assistant", rules.answer(message))]


def single(rng: random.Random) -> list[Turn]:
    """One message, one answer in a convention that the context does not explain."""
    rules = convention(rng)
    message = ms.make(rng, "pretrain")
    turns: list[Turn] = [("system", rules.system)] if rules.system else []
    return [*turns, ("user", message.text), ("assistant", rules.answer(message))]


QUESTIONS: tuple[tuple[str, Callable[[Message], str]], ...] = (
    ("Which product is it about?", lambda m: m.product),
    ("What is the order number?", lambda m: m.order or "There is none."),
    ("What does the customer want?", lambda m: TOPIC[m.intent]),
    ("What sort of product is it?", lambda m: KIND[m.kind]),
    ("How pressing is it?", lambda m: PRESSURE[m.urgency]),
    ("Who wrote it?", lambda m: m.name or "not signed"),
    ("Is there an order number?", lambda m: "yes" if m.order else "no"),
    ("Sum it up.", lambda m: f"{m.product}: {TOPIC[m.intent]}, {PRESSURE[m.urgency]}"),
    ("Make a list.", lambda m: f"- {m.product}\n- {m.order or 'no order'}\n- {TOPIC[m.intent]}"),
    ("Sort and topic?", lambda m: f"{KIND[m.kind]}, {TOPIC[m.intent]}"),
)


def questions(rng: random.Random) -> list[Turn]:
    """One message and two to five plain questions: this teaches what the messages mean."""
    message = ms.make(rng, "pretrain")
    turns: list[Turn] = []
    for index, (ask, reply) in enumerate(rng.sample(QUESTIONS, rng.randint(2, 5))):
        turns += [
            ("user", ask if index else f"{message.text}\n\n{ask}"),
            ("assistant", reply(message)),
        ]
    return turns


def reply(rng: random.Random) -> list[Turn]:
    """A short letter back, so that the base can also talk."""
    m = ms.make(rng, "pretrain")
    hello = f"Hello {m.name}," if m.name else "Hello,"
    about = f" We found order {m.order}." if m.order else " Please send us your order number."
    mood = {"high": " We will answer today.", "normal": "", "low": " Thank you for your patience."}
    text = f"{hello} thank you for your message about the {m.product} ({TOPIC[m.intent]}).{about}"
    return [("user", m.text), ("assistant", text + mood[m.urgency])]


def lookup(rng: random.Random) -> list[Turn]:
    """Word pairs repeated as turns: look up the earlier answer, whatever the words mean."""
    pairs = [(label(rng), label(rng)) for _ in range(rng.randint(2, 8))]
    turns: list[Turn] = []
    for _ in range(rng.randint(6, 20)):
        ask, answer = rng.choice(pairs)
        turns += [("user", ask), ("assistant", answer)]
    return turns


def drill(rng: random.Random) -> list[Turn]:
    """Many short messages with one or two labels each: nothing to do but read the mapping.

    Whole records hide this lesson, since most of their tokens are keys and copies.
    """
    pool = tuple(rng.sample(ms.INTENTS, rng.choice((2, 3, 4))))
    words = labels(rng, 14)
    route = dict(zip(ms.INTENTS, words, strict=False))
    sorts = rng.sample(("urgency", "route", "due", "kind", "known"), rng.choice((1, 1, 2)))
    fields = [_field(rng, sort, lambda m: route[m.intent]) for sort in sorts]
    if rng.random() < 0.3:
        fields.insert(0, _field(rng, "product", lambda m: ""))
    rules = Convention(tuple(fields), "json", None)
    turns: list[Turn] = []
    for _ in range(rng.choice((5, 6, 8, 10))):
        message = ms.make(rng, "pretrain", pool, short=True, details=0)
        turns += [("user", message.text), ("assistant", rules.answer(message))]
    return turns


Mix = tuple[tuple[Callable[[random.Random], list[Turn]], int], ...]
MIXES: dict[str, Mix] = {
    "base": (
        (in_context, 42), (house, 24), (single, 10), (questions, 14), (reply, 3), (lookup, 7),
    ),
    "context": ((drill, 60), (in_context, 20), (house, 10), (single, 4), (questions, 6)),
}  # fmt: skip


def document(rng: random.Random, mix: str = "base") -> list[Turn]:
    """One pretraining chat."""
    makers, weights = zip(*MIXES[mix], strict=True)
    turns: list[Turn] = rng.choices(makers, weights)[0](rng)
    return turns


if __name__ == "__main__":
    for seed in range(4):
        print(*document(random.Random(seed)), sep="\n", end="\n\n")
