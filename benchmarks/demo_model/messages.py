"""Support messages put together from ``phrases``: one seeded generator for every data set."""

from __future__ import annotations

import functools
import random
import re
from dataclasses import dataclass
from typing import Literal

import phrases as ph

Split = Literal["pretrain", "train", "test"]
URGENCIES = ("high", "normal", "low")
INTENTS = tuple(ph.SITUATIONS)
KIND_OF = {noun: kind for kind, nouns in ph.NOUNS.items() for noun in nouns}

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_WORD = re.compile(r"[A-Za-z]{4,}")
# Intents of the demo's traffic: a few are common, some are rare, as on a real desk.
INTENT_WEIGHTS = {
    "broken": 15, "fault": 11, "late": 18, "wrong": 8, "return": 14, "charge": 8, "cancel": 7,
    "address": 4, "howto": 6, "stock": 5, "invoice": 4, "praise": 3, "safety": 3,
}  # fmt: skip


@dataclass(frozen=True)
class Message:
    """One message and what is true of it, before any company's convention is applied."""

    text: str
    intent: str
    kind: str  # bulky, powered or plain
    urgency: str  # high, normal or low
    product: str  # exactly as it stands in the text
    order: str | None  # exactly as it stands in the text
    name: str | None


@functools.cache
def _parts(template: str) -> tuple[str | tuple[str, ...], ...]:
    out: list[str | tuple[str, ...]] = []
    for index, piece in enumerate(_CHOICE.split(template)):
        out.append(tuple(piece.split("|")) if index % 2 else piece)
    return tuple(out)


def expand(rng: random.Random, template: str) -> str:
    """Replace every ``[a|b]`` by one of its options."""
    return "".join(p if isinstance(p, str) else rng.choice(p) for p in _parts(template))


def pseudo_word(rng: random.Random) -> str:
    """A capitalised made-up word: the base has to copy such names, it cannot know them."""
    onsets, vowels, codas = "bcdfghjklmnprstvwz", "aeiouy", ("", "", "n", "r", "l", "s", "x", "th")
    word = "".join(
        rng.choice(onsets) + rng.choice(vowels) + rng.choice(codas)
        for _ in range(rng.choice((2, 2, 3)))
    )
    return word.capitalize()


def _product(rng: random.Random, split: Split) -> tuple[str, str]:
    kind = rng.choices(tuple(ph.NOUNS), (4, 4, 3))[0]
    nouns = ph.NOUNS[kind]
    # The last two nouns of a kind never occur in the training rows, only in the test rows.
    noun = rng.choice(nouns[:-2] if split == "train" else nouns)
    if rng.random() < 0.15:
        return noun, kind
    if split == "pretrain":
        line = pseudo_word(rng)
    elif split == "test" and rng.random() < 0.25:
        line = rng.choice(ph.LINES_TEST)
    else:
        line = rng.choice(ph.LINES_TRAIN)
    return f"{line} {noun}", kind


def order_number(rng: random.Random, split: Split) -> str:
    """``A-48213`` for the demo's shop; other shops write their numbers in other ways."""
    digits = "".join(rng.choice("0123456789") for _ in range(6))
    letters = "ABCDEFGHJKLMNPRSTUVWXYZ"
    if split != "pretrain" or rng.random() < 0.4:
        return f"{rng.choice(letters)}-{digits[:5]}"
    pair = f"{rng.choice(letters)}{rng.choice(letters)}"
    forms = (
        digits,
        digits[:4],
        pair + digits[:4],
        f"ORD-{digits[:4]}",
        f"{digits[:3]}-{digits[3:]}",
    )
    return rng.choice(forms)


def _typos(rng: random.Random, text: str, rate: float) -> str:
    """Swap, drop or double a letter in some words; slots in braces are left alone."""

    def spoil(match: re.Match[str]) -> str:
        word = match.group()
        inside = match.start() > 0 and text[match.start() - 1] == "{"
        if inside or rng.random() > rate:
            return word
        at = rng.randrange(1, len(word) - 2)
        how = rng.random()
        if how < 0.45:
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        return word[:at] + word[at + 1 :] if how < 0.8 else word[:at] + word[at] + word[at:]

    return _WORD.sub(spoil, text)


def _name(rng: random.Random) -> str:
    first = rng.choice(ph.NAMES if rng.random() < 0.93 else ph.NAMES_NON_ASCII)
    return f"{first} {rng.choice(ph.SURNAMES)}" if rng.random() < 0.3 else first


def _situation(rng: random.Random, intent: str, split: Split) -> str:
    # Eight sentences an intent: train sees 0-5, pretraining 0-6, the test rows all of them.
    pool = ph.SITUATIONS[intent]
    return expand(rng, rng.choice(pool[: {"train": 6, "pretrain": 7, "test": 8}[split]]))


def make(
    rng: random.Random,
    split: Split,
    intents: tuple[str, ...] | None = None,
    short: bool = False,
    details: int | None = None,
) -> Message:
    """Draw one message. ``intents`` limits what it is about; ``details`` sets its small talk."""
    if intents:
        intent = rng.choice(intents)
    elif split == "pretrain":
        intent = rng.choice(INTENTS)
    else:
        intent = rng.choices(INTENTS, tuple(INTENT_WEIGHTS.values()))[0]
    product, kind = _product(rng, split)
    order = order_number(rng, split) if rng.random() < 0.68 else None
    urgency = rng.choices(URGENCIES, (3, 4, 2))[0]
    name = _name(rng)

    body = [_situation(rng, intent, split)]
    count = details if details is not None else rng.choices((0, 1, 2, 3), (3, 4, 2, 1))[0]
    if short:
        count = min(count, rng.choice((0, 0, 1)))
    if intent == "praise":
        urgency = "normal"  # nobody threatens with a lawyer while saying thank you
    extra = [expand(rng, detail) for detail in rng.sample(ph.DETAILS, count)]
    extra.append(expand(rng, rng.choice(ph.ORDER_SENTENCES if order else ph.NO_ORDER_SENTENCES)))
    if urgency != "normal":
        extra.append(expand(rng, rng.choice(ph.URGENT if urgency == "high" else ph.RELAXED)))
    rng.shuffle(extra)
    if rng.random() < 0.25:  # the point comes late in some mails
        body, extra = extra[:1] + body, extra[1:]
    ask = expand(rng, rng.choice(ph.ASKS))
    opening = rng.choice(ph.OPENINGS) if rng.random() < (0.4 if short else 0.8) else ""
    talk = expand(rng, rng.choice(ph.SMALL_TALK)) if not short and rng.random() < 0.35 else ""
    closing = rng.choice(ph.CLOSINGS) if rng.random() < (0.4 if short else 0.9) else ""

    mail = rng.random() < 0.4
    middle = " ".join(s for s in (talk, *body, *extra, ask) if s)
    text = ("\n\n" if mail else " ").join(s for s in (opening, middle, closing) if s)
    other = f"{rng.choice(ph.LINES_TRAIN)} {rng.choice(ph.NOUNS['plain'])}"
    style = rng.random()
    if style < 0.2:  # typed on a phone: the order number is pasted, the rest is lower case
        text, product, name, other = text.lower(), product.lower(), name.lower(), other.lower()
    elif style < 0.27:
        text = text.replace(".", "!!")
    elif style < 0.33:
        text = text.replace(". ", " ").replace(",", "")
    if rng.random() < 0.35:
        text = _typos(rng, text, 0.06)
    digits = "".join(rng.choice("0123456789") for _ in range(8))
    text = (
        text.replace("{p}", product).replace("{o}", order or "").replace("{n}", name)
        .replace("{q}", other).replace("{phone}", f"0{digits[:3]} {digits[3:]}")
        .replace("{acct}", digits[:6]).replace("{price}", digits[:2])
    )  # fmt: skip
    signed = name if "{n}" in closing else None
    return Message(text.strip(), intent, kind, urgency, product, order, signed)
