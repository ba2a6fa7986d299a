"""What is said of odd answers before anybody believes the verdict."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.evaluate.fakes import Fake, question
from unift.evaluate import evaluate
from unift.provider import Messages

Write = Callable[..., str]


def told(chat_file: Write, answer: Callable[[int], str], labels: tuple[str, ...]) -> str:
    """The warnings of a model on forty questions whose answers are labels."""

    def say(messages: Messages) -> str:
        return answer(int(question(messages).split()[-1]))

    rows = [(f"Mail {i}", labels[i % len(labels)]) for i in range(40)]
    found = evaluate(
        Fake("fake:model", say), chat_file(rows), against=[], reuse=False, report=False
    )
    return "\n".join(found.warnings)


def test_one_answer_to_everything_is_named(chat_file: Write) -> None:
    labels = ("ham", "ham", "ham", "spam")
    found = told(chat_file, lambda i: "ham", labels)
    assert "model gives the same answer to all 40 questions ('ham')" in found
    assert "same answer" not in told(chat_file, lambda i: labels[i % 4], labels)
    assert "same answer" not in told(chat_file, lambda i: "", labels)  # they are empty


@pytest.mark.parametrize(
    ("labels", "answer", "many"),
    [
        (("yes", "no"), lambda i: ["Yes, it is.", "No. It is odd."][i % 2], 40),
        (("spam", "not spam"), lambda i: ["This is spam", "I would say: not spam."][i % 2], 40),
        (("yes", "no"), lambda i: "yes or no", 0),  # two of them: no answer
        (("yes", "no"), lambda i: ["nobody", "yesterday"][i % 2], 0),
        (("yes", "no"), lambda i: ["yes", "no"][i % 2], 0),
        (("yes", "no"), lambda i: ["No, it is.", "Yes, it is."][i % 2], 0),
        (("+", "-"), lambda i: "neither", 0),
    ],
)
def test_labels_among_further_words_are_counted(
    chat_file: Write, labels: tuple[str, ...], answer: Callable[[int], str], many: int
) -> None:
    found = told(chat_file, answer, labels)
    said = f"{many} answers of model have the right label, and no other, among further words"
    assert (said in found) == bool(many)
    assert ("among further words" in found) == bool(many)


def test_short_answers_among_further_words_are_counted(chat_file: Write) -> None:
    rows = [(f"Sum {i}?", str(1000 + i)) for i in range(40)]
    model = Fake("fake:sum", lambda m: f"The sum is {1000 + int(question(m)[4:-1]):,}.")
    found = evaluate(model, chat_file(rows), against=[], report=False)
    assert "40 answers of model have the wanted answer among further words" in str(found.warnings)


def test_a_metric_that_nobody_meets_is_named(chat_file: Write) -> None:
    rows = [(f"How far is {i}?", f"{i * 7} km") for i in range(40)]
    found = evaluate(
        Fake("fake:new", lambda m: f"{int(question(m)[11:-1]) * 7}km"),
        chat_file(rows), against=[Fake("fake:old", lambda m: "no idea")], report=False,
    )  # fmt: skip
    said = "\n".join(found.warnings)
    assert "No answer of anybody is right by 'Accuracy'" in said
    assert "line 1 wants '0 km', and model says '0km'" in said
