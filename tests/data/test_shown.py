"""`--show`: tokens as the model sees them, and rows with errors do not hide the next ones."""

from __future__ import annotations

import json
from pathlib import Path

from unift.data.shown import show_rows


def test_each_token_is_a_piece_and_bad_rows_do_not_end_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": "naïve 😀"},
                {"role": "assistant", "content": "Hi"},
            ]
        },
        {"text": "no chat row"},
        {"messages": [{"role": "user", "content": "b"}, {"role": "assistant", "content": "Two."}]},
        {
            "messages": [
                {"role": "user", "content": "c"},
                {"role": "assistant", "content": "Not shown."},
            ]
        },
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, bad, other = show_rows(path, "demo", 3)
    text = "".join(piece for piece, _ in one.pieces)
    assert "naïve 😀" in text
    assert "".join(piece for piece, trained in one.pieces if trained).startswith("Hi")
    assert len(one.pieces) > 6
    assert sum(trained for _, trained in one.pieces) == one.trained
    assert (bad.line, bad.pieces) == (2, ())
    assert "messages" in bad.problem
    assert (other.line, other.problem) == (3, "")


def test_rows_of_other_formats_are_shown_as_the_chat_that_is_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"instruction": "Add.", "output": "Three"}) + "\n")
    [row] = show_rows(path, "demo", 5)
    assert "Three" in "".join(piece for piece, trained in row.pieces if trained)


def test_it_is_shown_from_where_a_row_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"instruction": "Add one to two.", "output": "The answer is three."}]
    path.write_text(json.dumps(rows[0]) + "\n")
    [whole] = show_rows(path, "demo", 1)
    [row] = show_rows(path, "demo", 1, max_length=8)
    assert (whole.cut, whole.cut_at, row.cut) == (0, 0, row.tokens - 8)
    assert 0 < row.cut_at <= 8
    assert row.pieces == whole.pieces
