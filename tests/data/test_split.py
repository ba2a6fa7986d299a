"""`split`, `stats` and `diff`: nothing shared between parts, nothing lost, the same tomorrow."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.rows import answer, user
from tests.data.test_deep import prose, row
from unift.data import convert, diff, fingerprint, split, stats, validate
from unift.errors import DataError, UsageError


def save(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def load(files: dict[str, str]) -> dict[str, list[str]]:
    return {part: Path(file).read_text().splitlines() for part, file in files.items()}


def short(question: str, answer: str) -> dict[str, Any]:
    return row(question, answer, system="Sort.")


def test_every_row_is_in_exactly_one_part_in_file_order(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [row(prose(seed)) for seed in range(100)])
    done = split(path, tmp_path / "parts")
    lines = path.read_text().splitlines()
    found = load(done.files)
    assert sorted(line for part in found.values() for line in part) == sorted(lines)
    for part in found.values():
        assert part == sorted(part, key=lines.index)
    assert done.rows == {"train": 80, "validation": 10, "test": 10}
    assert [Path(file).name for file in done.files.values()] == [
        "a.train.jsonl",
        "a.validation.jsonl",
        "a.test.jsonl",
    ]


def test_nothing_leaks_between_the_parts(tmp_path: Path) -> None:
    rows: list[Any] = []
    for seed in range(60):
        words = prose(seed).split()
        rows += [row(" ".join(words)), row(" ".join([*words[:40], "otherwise", *words[41:]]))]
        rows.append(row(" ".join(words), "Another answer."))
    random.Random(1).shuffle(rows)
    path = save(tmp_path / "a.jsonl", rows)
    done = split(path, tmp_path)
    assert (done.groups, done.largest_group) == (60, 3)
    assert done.as_dict()["left_out"] == 0
    report = validate(
        done.files["train"],
        validation=done.files["validation"],
        test=done.files["test"],
        deep=True,
    )
    assert not {"UD602", "UD603", "UD609"} & report.counts.keys()
    # Without looking for nearness, equal prompts stay together and near ones do not.
    assert split(path, tmp_path / "plain", near=False).largest_group == 2


def test_the_split_depends_on_content_and_seed_alone(tmp_path: Path) -> None:
    rows = [short(f"Question {i}?", f"Answer {i}.") for i in range(50)]
    one = split(save(tmp_path / "a.jsonl", rows), tmp_path / "one", near=False)
    spelled = [dict(reversed(one.items())) for one in rows[::-1]]
    (tmp_path / "b.jsonl.gz").write_bytes(
        gzip.compress("\n\n".join(json.dumps(one, indent=None) for one in spelled).encode())
    )
    other = split(tmp_path / "b.jsonl.gz", tmp_path / "other", near=False)
    for part in one.files:
        assert diff(one.files[part], other.files[part]).removed == 0
    again = split(tmp_path / "a.jsonl", tmp_path / "again", seed=1, near=False)
    assert load(again.files) != load(one.files)
    assert Path(other.files["test"]).name == "b.test.jsonl"


def test_labels_are_in_proportion_even_the_rare_ones(tmp_path: Path) -> None:
    labels = ["spam"] * 300 + ["ham"] * 80 + ["other"] * 20
    rows = [short(f"Mail {i}", label) for i, label in enumerate(labels)]
    done = split(save(tmp_path / "a.jsonl", rows), tmp_path, near=False)
    assert done.labels == {
        "ham": {"train": 64, "validation": 8, "test": 8},
        "other": {"train": 16, "validation": 2, "test": 2},
        "spam": {"train": 240, "validation": 30, "test": 30},
    }
    test = Counter(json.loads(one)["messages"][-1]["content"] for one in load(done.files)["test"])
    assert test == {"spam": 30, "ham": 8, "other": 2}


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
@given(
    prompts=st.lists(st.integers(0, 30), min_size=2, max_size=60),
    parts=st.dictionaries(
        st.sampled_from(["train", "dev", "test", "x_1"]), st.floats(0.01, 9), min_size=2
    ),
    seed=st.integers(0, 3),
)
def test_whatever_the_groups_and_parts_nothing_is_shared_or_lost(
    tmp_path_factory: pytest.TempPathFactory,
    prompts: list[int],
    parts: dict[str, float],
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("split")
    rows = [short(f"Question {prompt}?", f"{i}") for i, prompt in enumerate(prompts)]
    path = save(folder / "a.jsonl", rows)
    if len(set(prompts)) < len(parts):
        with pytest.raises(UsageError, match="fewer than parts"):
            split(path, folder, parts=parts, seed=seed, near=False)
        return
    done = split(path, folder, parts=parts, seed=seed, near=False)
    found = load(done.files)
    assert all(found.values())
    assert sum(done.rows.values()) == len(rows)
    asked = {
        part: {json.loads(one)["messages"][1]["content"] for one in lines}
        for part, lines in found.items()
    }
    assert sum(map(len, asked.values())) == len(set(prompts))


def test_other_formats_are_split_as_they_are(tmp_path: Path) -> None:
    rows = [{"instruction": f"Question {i}?", "output": f"Answer {i}."} for i in range(20)]
    done = split(save(tmp_path / "a.jsonl", rows), tmp_path, parts={"a": 1, "b": 1}, near=False)
    assert [json.loads(one) for one in load(done.files)["a"]] == [
        one for one in rows if json.dumps(one) in load(done.files)["a"]
    ]
    assert done.rows == {"a": 10, "b": 10}


@pytest.mark.parametrize(
    "parts", [{"train": 1}, {"train": 1, "test": 0}, {"train": 1, "test": -1}, {"../x": 1, "y": 1}]
)
def test_impossible_parts_are_usage_errors(tmp_path: Path, parts: dict[str, float]) -> None:
    path = save(tmp_path / "a.jsonl", [short(f"{i}", "x") for i in range(9)])
    with pytest.raises(UsageError) as caught:
        split(path, tmp_path / "parts", parts=parts, near=False)
    assert caught.value.code == "bad_parts"
    assert not (tmp_path / "parts").exists()


def test_rows_with_errors_are_not_split(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [short("1", "x"), {"messages": []}, short("2", "y")])
    for act in (lambda: split(path, tmp_path, near=False), lambda: stats(path)):
        with pytest.raises(DataError, match="UD202"):
            act()
    assert list(tmp_path.iterdir()) == [path]


def test_stats_count_what_is_there(tmp_path: Path) -> None:
    rows = [short(f"Mail {i}", "spam" if i % 4 else "ham") for i in range(40)]
    path = save(tmp_path / "a.jsonl", [*rows, rows[0]])
    found = stats(path)
    assert (found.rows, found.distinct_rows, found.distinct_prompts) == (41, 40, 40)
    assert found.roles == {"system": 41, "user": 41, "assistant": 41}
    assert found.labels == {"spam": 30, "ham": 11}
    assert found.fingerprint == fingerprint(path)
    assert found.messages == {50: 3, 90: 3, 100: 3}
    assert found.answers[100] == 4
    assert found.systems == 1
    assert json.loads(json.dumps(found.as_dict()))["characters"]["p100"] == 16
    assert stats(save(path, [row(prose(i), prose(-i)) for i in range(9)])).labels == {}


def test_diff_tells_removed_added_changed_and_reordered_rows(tmp_path: Path) -> None:
    rows = [short(f"Mail {i}", f"Answer {i}") for i in range(6)]
    one = save(tmp_path / "a.jsonl", rows)
    assert diff(one, one).equal
    other = save(
        tmp_path / "b.jsonl", [*rows[1:4], short("Mail 4", "No"), rows[5], short("N", "A")]
    )
    found = diff(one, other)
    assert (found.same, found.removed, found.added, found.changed) == (4, 1, 1, 1)
    assert found.removed_lines == (1,)
    assert found.added_lines == (6,)
    assert found.changed_lines == ((5, 4),)
    assert not found.equal
    turned = diff(one, save(tmp_path / "c.jsonl", rows[::-1]))
    assert (turned.same, turned.reordered, turned.equal) == (6, True, False)
    twice = diff(one, save(tmp_path / "d.jsonl", [*rows, rows[2]]))
    assert (twice.same, twice.added, twice.added_lines) == (6, 1, (7,))


def test_a_conversion_there_and_back_makes_no_difference(tmp_path: Path) -> None:
    convert("demo:train", tmp_path / "a.jsonl.gz", to="gemini")
    convert(tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl", to="openai-chat")
    assert diff("demo:train", tmp_path / "b.jsonl").equal
    assert stats(tmp_path / "a.jsonl.gz").rows == stats("demo:train").rows


def test_many_small_labels_do_not_change_the_shares(tmp_path: Path) -> None:
    rows = [
        {"messages": [user(f"{label}-{n} {n * 7919 + label}"), answer(f"label {label}")]}
        for label in range(60)
        for n in range(5)
    ]
    done = split(save(tmp_path / "a.jsonl", rows), tmp_path / "out", near=False)
    assert done.labels
    assert done.rows == {"train": 240, "validation": 30, "test": 30}


def test_an_earlier_part_with_other_rows_is_not_replaced_without_a_word(tmp_path: Path) -> None:
    rows = [{"messages": [user(f"Question {n}?"), answer(f"Answer {n}.")]} for n in range(40)]
    path, out = save(tmp_path / "a.jsonl", rows), tmp_path / "parts"
    first = split(path, out, near=False)
    before = Path(first.files["test"]).read_bytes()
    assert split(path, out, near=False) == first, "the same parts again are fine"
    with pytest.raises(UsageError) as caught:
        split(path, out, near=False, seed=1)
    assert caught.value.code == "split_exists"
    assert "--force" in (caught.value.fix or "")
    assert Path(first.files["test"]).read_bytes() == before
    assert sorted(one.name for one in out.iterdir()) == [
        "a.test.jsonl",
        "a.train.jsonl",
        "a.validation.jsonl",
    ], "no drafts are left behind"
    split(path, out, near=False, seed=1, force=True)
    assert Path(first.files["test"]).read_bytes() != before


def test_notes_beside_a_conversation_make_no_difference(tmp_path: Path) -> None:
    rows = [{"messages": [user(f"Question {n}?"), answer(f"Answer {n}.")]} for n in range(20)]
    noted = [{**row, "id": n, "metadata": {"n": n}} for n, row in enumerate(rows)]
    one, other = save(tmp_path / "a.jsonl", rows), save(tmp_path / "b.jsonl", noted)
    assert diff(one, other).equal
    convert(other, tmp_path / "c.jsonl", to="gemini", drop=["extra"])
    assert diff(other, tmp_path / "c.jsonl").equal
    twice = save(tmp_path / "d.jsonl", [{**rows[0], "id": 1}, {**rows[0], "id": 2}])
    assert stats(twice).distinct_rows == 1
    graded = [{"messages": [user("4 + 4?")], "id": n} for n in (1, 2)]
    assert stats(save(tmp_path / "e.jsonl", graded)).distinct_rows == 2, "a grader may read it"
