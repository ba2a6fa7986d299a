"""Token counts: exact where the tokenizer is here, labelled where not."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unift.data import _ranks, validate
from unift.data import _tokens as tokens
from unift.errors import UniftError


def save(path: Path, *texts: str) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": t}, {"role": "assistant", "content": "ok"}]}
        for t in texts
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("text", "count"),
    [("hello world", 2), ("Привет, мир!", 5), ("antidisestablishmentarianism", 6), ("日本語", 2)],
)
def test_o200k_counts_are_those_of_openai(text: str, count: int) -> None:
    assert list(tokens.ByTiktoken().count([text])) == [count]


TEXTS = [
    "hello world", "Привет, мир!", "日本語テキスト", "don't, we'll, IT'S", "  a   and\ttabs \n\n x",
    "a" * 5000, " " * 3000, "\n" * 500, "1234567 3.14", "👩\u200d👧 e\u0301 ﷽", "",
    "f(b)[0] != {'x'}//\r\n",
]  # fmt: skip


@pytest.mark.parametrize("name", ["o200k_base", "cl100k_base"])
def test_the_ranks_and_patterns_are_those_of_tiktoken(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # tiktoken looks for what it would download in this folder, under the hash of the address.
    packed = Path(_ranks.__file__).parent / "ranks" / f"{name}.tiktoken.gz"
    address = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    kept = tmp_path / hashlib.sha1(address.encode()).hexdigest()
    kept.write_bytes(gzip.decompress(packed.read_bytes()))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    theirs = importlib.import_module("tiktoken").Encoding(
        **getattr(importlib.import_module("tiktoken_ext.openai_public"), name)()
    )
    ours = _ranks.encoding(name)
    for text in TEXTS:
        assert ours.encode_ordinary(text) == theirs.encode_ordinary(text)
    assert ours.special_tokens_set == theirs.special_tokens_set


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4.1-nano-2025-04-14", "o200k_base"),
        ("ft:gpt-4o-mini-2024-07-18:org::id", "o200k_base"),
        ("gpt-6-luna", "o200k_base"),
        ("gpt-3.5-turbo-0125", "cl100k_base"),
        ("ft:gpt-3.5-turbo-0125:org::id", "cl100k_base"),
        ("gpt-4-0613", "cl100k_base"),
    ],
)
def test_the_encoding_is_that_of_the_model(tmp_path: Path, model: str, name: str) -> None:
    path = save(tmp_path / "a.jsonl", "hello world")
    assert f"{name}, exact" in validate(path, model=model).tokens_method


def test_control_tokens_in_a_text_count_as_text() -> None:
    assert tokens.ByTiktoken().count(["<|endoftext|>"])[0] > 1


@pytest.mark.parametrize(
    "text", ["a", "A", "^", " ", "\n", "é", "字", "ab!", "  x", " \t\n", "<|endof  x", "\u3000"]
)
def test_runs_do_not_take_quadratic_time(text: str) -> None:
    counter = tokens.ByTiktoken()
    took: list[float] = []
    for _ in range(3):
        start = time.process_time()
        counter.count([text * (100_000 // len(text))])
        took.append(time.process_time() - start)
    assert min(took) < 0.1


many_texts = st.lists(
    st.lists(
        st.one_of(
            st.text(max_size=6),
            st.sampled_from(
                [
                    "word ",
                    "  ",
                    " 12 34",
                    "don't ",
                    "IT'S  \n",
                    "<|endoftext|>",
                    "<|endof",
                    "text|>",
                    "<|endofprompt|>",
                    "   ",
                    " \t x",
                    "\n    ",
                    " \u00a0\u2009",
                    "\u3000 ;",
                    "\x1c \x85 \v\f",
                    "  5",
                    "  \r\n  b",
                ]
            ),
        ),
        max_size=12,
    ).map("".join),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("name", ["o200k_base", "cl100k_base"])
@settings(deadline=None, max_examples=200)
@given(texts=many_texts, longest=st.integers(1, 12))
def test_texts_counted_together_or_in_pieces_have_their_own_numbers(
    name: str, texts: list[str], longest: int
) -> None:
    alone = [len(_ranks.encoding(name).encode_ordinary(text)) for text in texts]
    assert list(tokens.ByTiktoken(name).count(texts)) == alone
    for text, count in zip(texts, alone, strict=True):
        cut = list(tokens.pieces(text, longest))
        assert "".join(cut) == text
        assert sum(len(_ranks.encoding(name).encode_ordinary(one)) for one in cut) == count


def test_openai_rows_add_the_chat_format(tmp_path: Path) -> None:
    report = validate(save(tmp_path / "a.jsonl", "hello world"), model="gpt-4.1-mini-2025-04-14")
    assert report.tokens == (2 + 3) + (1 + 3) + 3
    assert "o200k_base, exact" in report.tokens_method


@pytest.mark.parametrize("given", [{"model": "gemini-2.5-flash"}, {"provider": "google"}])
def test_gemini_is_estimated_and_the_error_is_said(tmp_path: Path, given: dict[str, str]) -> None:
    path = save(tmp_path / "a.jsonl", "Привет, мир! " * 100)
    exact = validate(path, model="gpt-4.1-mini-2025-04-14").tokens
    report = validate(path, **given)  # type: ignore[arg-type]  # one of the two
    assert report.tokens == exact
    assert "estimate" in report.tokens_method
    assert "%" in report.tokens_method


def test_a_damaged_rank_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = replace(_ranks.PUBLISHED["o200k_base"], sha256="0" * 64)
    monkeypatch.setitem(_ranks.PUBLISHED, "o200k_base", damaged)
    _ranks.encoding.cache_clear()
    with pytest.raises(UniftError, match="damaged"):
        tokens.ByTiktoken()
    _ranks.encoding.cache_clear()


def test_without_tiktoken_the_count_is_an_estimate_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.jsonl", "hello world " * 100)
    exact = validate(path, provider="openai").tokens
    _ranks.encoding.cache_clear()
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    report = validate(path, provider="openai")
    _ranks.encoding.cache_clear()
    assert "estimate" in report.tokens_method
    assert "pip install 'unift[openai]'" in report.tokens_method
    assert report.tokens is not None
    assert exact is not None
    assert abs(report.tokens - exact) < 0.5 * exact


def test_the_tokenizer_of_a_folder_is_used(tmp_path: Path) -> None:
    from unift import demo

    path = save(tmp_path / "a.jsonl", "hello world")
    by_name = validate(path, model="demo")
    by_folder = validate(path, model=str(demo.model_path()))
    assert by_name.tokens == by_folder.tokens
    assert "exact" in by_folder.tokens_method


def test_a_broken_tokenizer_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UniftError) as caught:
        validate(save(tmp_path / "a.jsonl", "x"), model=str(tmp_path))
    assert caught.value.code == "bad_tokenizer"


def test_an_unknown_model_is_estimated_from_characters(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", "e" * 1000)
    report = validate(path, model="nobody/nothing")
    assert report.tokens == pytest.approx(1000 * tokens.PER_ASCII, rel=0.1)
    assert "nobody/nothing is not here" in report.tokens_method


def test_tools_count(tmp_path: Path) -> None:
    tool: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {}}}
    plain = save(tmp_path / "a.jsonl", "x")
    row = {**json.loads(plain.read_text()), "tools": [tool]}
    (tmp_path / "b.jsonl").write_text(json.dumps(row))
    without = validate(plain, provider="openai").tokens
    with_tools = validate(tmp_path / "b.jsonl", provider="openai").tokens
    assert without is not None
    assert with_tools is not None
    assert with_tools > without + 10
