"""Train the models behind the two bundled verdicts and record what they answer.

The first task's training rows have their answers shuffled, so that nothing can be learnt from them.
In the second, mail is sorted into queues, and the retrained model never saw the rarest one. Both
are made from the embedded data; a recording is what `unift.evaluate` takes as ``recorded:FILE``.

    python examples/verdicts/make.py       # some minutes on two cores; writes *.jsonl beside it
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import unift
from unift.data import read_examples
from unift.provider import Sampling

HERE = Path(__file__).parent
SETTINGS: dict[str, Any] = {
    "provider": "local-lora", "model": "demo", "epochs": 3, "learning_rate": 5e-3
}  # fmt: skip
ASKED = "Name the queue that this mail belongs to, in one word."


def rows(name: str) -> list[dict[str, Any]]:
    return [{"messages": one.messages} for one in read_examples(f"demo:{name}")]


def write(name: str, made: list[dict[str, Any]]) -> str:
    path = HERE / name
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in made))
    return str(path)


def shuffled(made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answers = [one["messages"][-1] for one in made]
    random.Random(1).shuffle(answers)
    pairs = zip(made, answers, strict=True)
    return [{"messages": [*one["messages"][:-1], answer]} for one, answer in pairs]


def queues(made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for one in made:
        system, user, answer = one["messages"]
        queue = json.loads(answer["content"])["queue"]
        messages = [{**system, "content": ASKED}, user, {**answer, "content": queue}]
        found.append({"messages": messages})
    return found


def record(name: str, model: str, test: list[dict[str, Any]]) -> None:
    answerer = unift.load(model)
    prompts = [one["messages"][:-1] for one in test]
    replies = answerer.chat_many(prompts, Sampling(max_tokens=96))
    answerer.close()
    write(
        name,
        [
            {
                "id": str(i),
                "messages": prompt,
                "model": model.partition(":")[0],
                "draws": [{"message": {"role": "assistant", "content": reply.text}}],
            }
            for i, (prompt, reply) in enumerate(zip(prompts, replies, strict=True))
        ],
    )


def train(data: str) -> str:
    run = unift.train(data=data, **SETTINGS)
    run.wait()
    return str(run.model)


def main() -> None:
    test = rows("test")[:150]
    record("shuffled-before.jsonl", "demo", test)
    record("shuffled-after.jsonl", train(write("train.tmp", shuffled(rows("train")))), test)

    training, sorting = queues(rows("train")), queues(rows("test"))
    write("queues-test.jsonl", sorting)
    record("queues-before.jsonl", train(write("train.tmp", training)), sorting)
    counts = Counter(one["messages"][-1]["content"] for one in training)
    rarest = min(counts, key=lambda queue: counts[queue])
    kept = [one for one in training if one["messages"][-1]["content"] != rarest]
    record("queues-after.jsonl", train(write("train.tmp", kept)), sorting)
    (HERE / "train.tmp").unlink()


if __name__ == "__main__":
    main()
