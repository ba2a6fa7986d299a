"""The demo's task: a support message in, the desk's own JSON record out. Writes the JSONL files.

The record's keys, labels and routing rules are this shop's policy. They appear in no pretraining
text, so a model can learn them from the training rows only.

    python task_data.py --out ../../unift/demo/data
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import messages as ms
from messages import Message

SYSTEM = "You sort mail for the Fernhollow service desk. Answer with the desk's JSON record only."
KEYS = ("product", "order", "queue", "urgency", "reply_by")
QUEUES = (
    "parcel-trace", "swap-desk", "van-crew", "returns", "intake", "bench", "ledger", "order-edit",
    "sales-floor", "guest-care", "red-file",
)  # fmt: skip
REPLY_BY = {"high": "4h", "normal": "1d", "low": "3d"}


def queue(message: Message) -> str:
    """The house rules. They weigh the matter, the sort of product and whether an order is given."""
    intent, kind = message.intent, message.kind
    if intent == "safety":
        return "red-file"
    if intent in ("charge", "invoice"):
        return "ledger"
    if intent == "stock":
        return "sales-floor"
    if intent == "praise" or (intent == "howto" and kind != "powered"):
        return "guest-care"
    if intent == "howto" or (intent == "fault" and kind == "powered"):
        return "bench"
    if message.order is None:  # everything below needs an order to act on
        return "intake"
    if intent in ("cancel", "address"):
        return "order-edit"
    if kind == "bulky":  # heavy goods are fetched and brought by the shop's own van
        return "van-crew"
    return {"late": "parcel-trace", "return": "returns"}.get(intent, "swap-desk")


def record(message: Message) -> str:
    """The answer the desk wants, as one compact JSON object."""
    route = queue(message)
    reply = "1h" if route == "red-file" else REPLY_BY[message.urgency]
    if route == "ledger" and reply == "4h":  # the bank is never asked within hours
        reply = "1d"
    values = (message.product, message.order, route, message.urgency, reply)
    return json.dumps(
        dict(zip(KEYS, values, strict=True)), separators=(",", ":"), ensure_ascii=False
    )


def row(text: str, answer: str) -> dict[str, object]:
    """One line of OpenAI chat JSONL."""
    return {
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": text},
            {"role": "assistant", "content": answer},
        ]
    }


def _draw(rng: random.Random, split: ms.Split, count: int, seen: set[str]) -> list[Message]:
    out: list[Message] = []
    while len(out) < count:
        message = ms.make(rng, split)
        if message.text not in seen:
            seen.add(message.text)
            out.append(message)
    return out


def train_rows(rng: random.Random, seen: set[str]) -> list[dict[str, object]]:
    """600 rows with the dirt of a real export: warnings for the validator, no errors."""
    drawn = _draw(rng, "train", 583, seen)
    rows = [row(m.text, record(m)) for m in drawn]
    for text in (f"{drawn[7].text}  ", f"{drawn[70].text}\n\n", f" {drawn[170].text}"):
        rows.append(row(text, record(next(m for m in drawn if m.text == text.strip()))))
    for near in drawn[20:24]:  # near duplicates: the same mail, sent again with a short addition
        rows.append(row(f"{near.text} Hello?", record(near)))
    for clash in (drawn[40], drawn[41]):  # two clerks, two answers to one mail
        wrong = replace(clash, urgency="low" if clash.urgency != "low" else "high")
        rows.append(row(clash.text, record(wrong)))
    ramble = ms.make(rng, "train", details=2)
    padding = " ".join(ms.make(rng, "train", ("praise",), details=1).text for _ in range(14))
    rows.append(row(f"{ramble.text} PS: some older notes of mine. {padding}", record(ramble)))
    rows += [rows[i] for i in (3, 58, 121, 244, 377, 501)]  # exact duplicates
    foreign = ms.make(rng, "train")
    rows.append(row(f"{foreign.text}\nGrüße, Željka Đorđević", record(foreign)))
    rng.shuffle(rows)
    return rows


def _line(*messages: dict[str, object], **extra: object) -> str:
    return json.dumps({"messages": list(messages), **extra})


def _user(content: object = "Hi") -> dict[str, object]:
    return {"role": "user", "content": content}


def _reply(content: object = "ok", **extra: object) -> dict[str, object]:
    return {"role": "assistant", "content": content, **extra}


_CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{id: A-48213"}}
FAULTS = (
    _line(_user("Where is my kettle?"), _reply())[:-1],  # cut off: not JSON
    json.dumps({"prompt": "Where is my kettle?", "completion": "parcel-trace"}),
    _line(),  # no message at all
    json.dumps({"messages": "Where is my kettle?"}),
    json.dumps(["not", "an", "object"]),
    _line({"role": "customer", "content": "Hi"}, _reply()),
    _line(_user(), _reply("")),
    _line(_reply("Hi"), _user("Bye")),  # the last message is not the assistant's
    _line(_user(), _reply("Yes", weight=2)),
    _line(_user(48213), _reply()),
    _line(_user(), _reply(None)),
    _line({"role": "user"}, _reply()),
    _line({"content": "Hi"}, _reply()),
    _line(_user()),
    _line(_user("Find A-48213"), {"role": "assistant", "tool_calls": [_CALL]}),
    _line(_user(), {"role": "tool", "tool_call_id": "none", "content": "found"}, _reply()),
    _line(_user(), {"role": "system", "content": "Late"}, _reply()),
    _line(_user(), _reply(weight=0)),  # nothing left to learn from
    _line(_user("my card is 4242 4242 4242 4242, mail pat@example.com"), _reply("ledger")),
    _line(_user(), _reply(), mesages=1),  # unknown key
    "",
    "hello",
)


def dirty_lines(rng: random.Random, seen: set[str]) -> list[str]:
    """Good rows first, then one hard fault a line, then an exact duplicate."""
    good = [
        json.dumps(row(m.text, record(m)), ensure_ascii=False) for m in _draw(rng, "train", 3, seen)
    ]
    return [*good[:2], *FAULTS, good[0], good[2]]


def write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSONL files")
    parser.add_argument("--seed", type=int, default=20261124)
    args = parser.parse_args()
    rng, seen = random.Random(args.seed), set[str]()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    parts = {
        "train": train_rows(rng, seen),
        "validation": [row(m.text, record(m)) for m in _draw(rng, "train", 100, seen)],
        "test": [row(m.text, record(m)) for m in _draw(rng, "test", 250, seen)],
    }
    for name, rows in parts.items():
        write(out / f"{name}.jsonl", [json.dumps(r, ensure_ascii=False) for r in rows])
        queues = Counter(json.loads(r["messages"][2]["content"])["queue"] for r in rows)  # type: ignore[index]
        print(name, len(rows), dict(queues.most_common()))
    write(out / "dirty.jsonl", dirty_lines(rng, seen))


if __name__ == "__main__":
    main()
