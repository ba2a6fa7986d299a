"""Two more tasks for the embedded model, on which training is *not* simply worth it.

    python more_tasks.py --out ../../unift/demo/data

``shuffled``: the question "Sort and topic?", which the base can answer. One column of the export
was sorted without the other, so every answer stands beside a message that it was not given to, in
the training rows and in the test rows alike. Nothing can be learnt but which answers there are.

``minority``: the question "What does the customer want?". The desk calls payment problems and
invoices "billing", which the base cannot know and training teaches. Its old system had no code for
dangerous goods, and clerks filed those messages under "stopped working"; the training rows still
say so. The test rows were sorted anew, by the rule of today.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from pathlib import Path

import messages as ms
from corpus import KIND, TOPIC
from messages import Message
from task_data import write

Row = dict[str, object]
BILLING = ("charge", "invoice")
MINORITY = "safety"


def row(message: Message, question: str, answer: str) -> Row:
    """One line of OpenAI chat JSONL, in the words that the base learnt questions with."""
    return {
        "messages": [
            {"role": "user", "content": f"{message.text}\n\n{question}"},
            {"role": "assistant", "content": answer},
        ]
    }


def draw(
    rng: random.Random, split: ms.Split, count: int, seen: set[str], intents: tuple[str, ...]
) -> list[Message]:
    """Different short messages about the given matters, each as often as any other."""
    out: list[Message] = []
    while len(out) < count:
        message = ms.make(rng, split, intents, short=True, details=0)
        if message.text not in seen:
            seen.add(message.text)
            out.append(message)
    return out


def shuffled(rng: random.Random, split: ms.Split, each: int, seen: set[str]) -> list[Row]:
    """Messages with the answers of other messages.

    Every answer occurs `each` times: were some more common, answering those alone would gain.
    """
    drawn: list[Message] = []
    room = dict.fromkeys(((k, i) for k in KIND for i in ms.INTENTS), each)
    while any(room.values()):
        (message,) = draw(rng, split, 1, seen, ms.INTENTS)
        if room[message.kind, message.intent]:
            room[message.kind, message.intent] -= 1
            drawn.append(message)
    answers = [f"{KIND[m.kind]}, {TOPIC[m.intent]}" for m in drawn]
    rng.shuffle(answers)
    rng.shuffle(drawn)
    return [row(m, "Sort and topic?", a) for m, a in zip(drawn, answers, strict=True)]


def minority(
    rng: random.Random, split: ms.Split, count: int, seen: set[str], *, old: bool
) -> list[Row]:
    """A tenth of the messages is about danger; `old` files them as the clerks did."""
    rest = tuple(one for one in ms.INTENTS if one != MINORITY)
    drawn = draw(rng, split, count // 10, seen, (MINORITY,))
    drawn += draw(rng, split, count - len(drawn), seen, rest)
    rng.shuffle(drawn)
    return [row(m, "What does the customer want?", topic(m, old)) for m in drawn]


def topic(message: Message, old: bool) -> str:
    if message.intent in BILLING:
        return "billing"
    return TOPIC["fault" if old and message.intent == MINORITY else message.intent]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the tasks' folders")
    parser.add_argument("--seed", type=int, default=20261125)
    args = parser.parse_args()
    seen = set[str]()
    rng, own = random.Random(args.seed), random.Random(args.seed + 1)
    tasks = {
        "shuffled": {
            "train": shuffled(rng, "train", 6, seen),
            "validation": shuffled(rng, "train", 2, seen),
            "test": shuffled(rng, "test", 10, seen),
        },
        "minority": {
            "train": minority(own, "train", 240, seen, old=True),
            "validation": minority(own, "train", 80, seen, old=True),
            "test": minority(own, "test", 240, seen, old=False),
        },
    }
    for task, parts in tasks.items():
        folder = args.out / task
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in parts.items():
            write(folder / f"{name}.jsonl", [json.dumps(r, ensure_ascii=False) for r in rows])
            answers = Counter(r["messages"][-1]["content"] for r in rows)  # type: ignore[index]
            print(task, name, len(rows), dict(answers.most_common(6)))


if __name__ == "__main__":
    main()
