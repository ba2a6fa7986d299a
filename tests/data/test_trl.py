"""TRL's preference rows: with the prompt apart, or inside both answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import unift
from tests.data.rows import answer, load, save, user
from unift.errors import DataError

SYSTEM = {"role": "system", "content": "Be kind."}
TURNS = [SYSTEM, user("Hi"), answer("Hello."), user("Sky?")]
HUMAN = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Sky?\n\nAssistant:"
ROWS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "texts": ({"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}, [user("Sky?")]),
    "messages": (
        {"prompt": TURNS, "chosen": [answer("Blue.")], "rejected": [answer("Green.")]},
        TURNS,
    ),
    "a prompt as text": (
        {"prompt": "Sky?", "chosen": [answer("Blue.")], "rejected": [answer("Green.")]},
        [user("Sky?")],
    ),
    "no prompt": (
        {"chosen": [*TURNS, answer("Blue.")], "rejected": [*TURNS, answer("Green.")]},
        TURNS,
    ),
    "UltraFeedback": (
        {
            "prompt": "Sky?",
            "chosen": [user("Sky?"), answer("Blue.")],
            "rejected": [user("Sky?"), answer("Green.")],
        },
        [user("Sky?")],
    ),
    "hh-rlhf": (
        {"chosen": f"{HUMAN} Blue.", "rejected": f"{HUMAN} Green."},
        [user("Hi"), answer("Hello."), user("Sky?")],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_every_way_of_writing_is_read(tmp_path: Path, name: str) -> None:
    row, prompt = ROWS[name]
    source, there, back = (tmp_path / f"{one}.jsonl" for one in "abc")
    save(source, [row])
    report = unift.validate(source)
    assert (report.ok, report.format) == (True, "trl-preference")
    assert report.counts.keys() <= {"UD700", "UD701", "UD906"}
    unift.convert(source, there, to="openai-preference")
    assert load(there) == [
        {
            "input": {"messages": prompt},
            "preferred_output": [answer("Blue.")],
            "non_preferred_output": [answer("Green.")],
        }
    ]
    unift.convert(there, back, to="trl-preference")
    assert load(back) == [
        {"prompt": prompt, "chosen": [answer("Blue.")], "rejected": [answer("Green.")]}
    ]


@pytest.mark.parametrize(
    ("row", "code", "path"),
    [
        ({"chosen": "Blue.", "rejected": [answer("Green.")]}, "UD901", "chosen"),
        ({"chosen": [answer("Blue.")], "rejected": [answer("Green.")]}, "UD901", ""),
        ({"prompt": "Sky?", "chosen": 1, "rejected": "Green."}, "UD901", "chosen"),
        ({"prompt": 1, "chosen": "Blue.", "rejected": "Green."}, "UD901", "prompt"),
        (
            {"prompt": "1", "chosen": [answer("2"), user("3")], "rejected": [answer("4")]},
            "UD903",
            "chosen[1]",
        ),
        ({"prompt": "Sky?", "chosen": " ", "rejected": "Green."}, "UD500", "chosen"),
    ],
)
def test_what_is_wrong_is_told_where_it_is(tmp_path: Path, row: Any, code: str, path: str) -> None:
    report = unift.validate(save(tmp_path / "a.jsonl", [row]))
    errors = [(f.code, f.path) for f in report.findings if f.severity == "error"]
    assert errors == [(code, path)]


def test_another_prompt_beside_conversations_is_not_lost_in_silence(tmp_path: Path) -> None:
    row = {**ROWS["no prompt"][0], "prompt": "What is the sky like?"}
    source = save(tmp_path / "a.jsonl", [row])
    assert unift.validate(source).counts["UD216"] == 1
    with pytest.raises(DataError, match="extra"):
        unift.convert(source, tmp_path / "b.jsonl", to="openai-preference")


def test_the_fix_for_a_vendor_that_reads_pairs_keeps_them_pairs(tmp_path: Path) -> None:
    report = unift.validate(save(tmp_path / "a.jsonl", [ROWS["texts"][0]]), provider="openai")
    [found] = [one for one in report.findings if one.code == "UD906"]
    assert "--to openai-preference" in found.fix
