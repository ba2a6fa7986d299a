"""Training on every format that becomes chat rows without a loss."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import unift
from tests.data.rows import answer, load, save, user
from unift.errors import DataError
from unift.provider import Capabilities, Plan
from unift.spec import TrainSpec


class Reader:
    """A provider that keeps the spec it was asked to plan."""

    name = "reader"
    formats: tuple[str, ...] = ("openai-chat",)

    def capabilities(self, model: str | None) -> Capabilities:
        return Capabilities(place="local", weights_downloadable=True, formats=self.formats)

    def plan(self, spec: TrainSpec) -> Plan:
        return Plan(spec=spec, settings=())


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_training_reads_every_format_that_becomes_chat_without_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setenv("UNIFT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("unift._train.get_provider", lambda name: Reader())
    rows = [{"instruction": f"Add {i}.", "output": f"{i + 1}", "id": f"{i}"} for i in range(3)]
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    plan = unift.plan(provider="reader", model="x", data=str(path), validation=str(path))
    assert load(Path(plan.spec.data)) == [
        {"messages": [user(f"Add {i}."), answer(f"{i + 1}")], "id": f"{i}"} for i in range(3)
    ]
    found = {one.name: one for one in plan.settings}
    assert set(found) == {"data_format", "validation_format"}
    assert found["data_format"].origin == "mapping rule"
    assert "alpaca" in found["data_format"].why
    # The same data, the same file.
    again = unift.plan(provider="reader", model="x", data=str(path))
    assert again.spec.data == plan.spec.data == plan.spec.validation


def test_training_does_not_convert_what_is_read_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIFT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("unift._train.get_provider", lambda name: Reader())
    path = str(save(tmp_path / "a.jsonl", [{"messages": [user("1"), answer("2")]}]))
    assert unift.plan(provider="reader", model="x", data=path).spec.data == path
    monkeypatch.setattr(Reader, "formats", ("alpaca",))
    path = str(save(tmp_path / "a.jsonl", [{"instruction": "1", "output": "2"}]))
    assert unift.plan(provider="reader", model="x", data=path).spec.data == path


def test_training_on_a_format_that_loses_something_names_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIFT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("unift._train.get_provider", lambda name: Reader())
    pair = {"preferred_output": [answer("Yes.")], "non_preferred_output": [answer("No.")]}
    path = str(save(tmp_path / "a.jsonl", [{"input": {"messages": [user("1")]}, **pair}] * 3))
    with pytest.raises(DataError) as caught:
        unift.plan(provider="reader", model="x", data=path)
    assert [(f.code, f.line) for f in caught.value.findings] == [("UD907", n) for n in (1, 2, 3)]
    assert "--drop rejected" in caught.value.fix
    assert not list((tmp_path / "home" / "data").glob("*"))
