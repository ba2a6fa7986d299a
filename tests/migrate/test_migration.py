"""A migration off a counting server onto the smallest provider: killed everywhere, paid once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import unift
from tests.vendors.openai_vendor import KEY, Vendor
from unift.demo import resolve
from unift.errors import LimitError, RunError, UsageError
from unift.remote import clock

BASE = "gpt-4o-mini-2024-07-18"


def demo_rows(name: str, count: int) -> list[dict[str, Any]]:
    """Rows of the demo, each with the queue of its answer beside the messages."""
    rows = [json.loads(line) for line in resolve(f"demo:{name}").read_text().splitlines()[:count]]
    return [{**row, "queue": json.loads(row["messages"][-1]["content"])["queue"]} for row in rows]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@dataclass
class Old:
    vendor: Vendor
    model: str

    def learn(self, rows: list[dict[str, Any]], **hyper: Any) -> str:
        """Another fine-tune of the vendor, which answers these rows by heart."""
        books = self.vendor.books
        plain = [{"messages": row["messages"]} for row in rows]
        content = "".join(json.dumps(row) + "\n" for row in plain).encode()
        file = books.add_file("train.jsonl", content, "fine-tune")["id"]
        method = {"type": "supervised", "supervised": {"hyperparameters": hyper}}
        job = books.add_job({"model": BASE, "training_file": file, "seed": 7, "method": method})
        while books.look(job["id"])["status"] != "succeeded":
            pass
        return f"openai:{job['fine_tuned_model']}"

    def asked(self, model: str) -> Counter[str]:
        """How often each prompt was asked of a model."""
        name = model.removeprefix("openai:")
        return Counter(
            chat["messages"][-1]["content"] for chat in self.vendor.chats if chat["model"] == name
        )


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> Iterator[Old]:
    with Vendor() as vendor:
        monkeypatch.setenv("OPENAI_BASE_URL", vendor.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setattr(clock, "sleep", lambda seconds: None)
        found = Old(vendor, "")
        found.model = found.learn(
            demo_rows("train", 120), n_epochs=4, batch_size=6, learning_rate_multiplier=1.8
        )
        yield found
        assert not vendor.bad_bodies


def described(old: Old, **sections: Any) -> dict[str, Any]:
    return {
        "name": "support",
        "source": {"model": old.model},
        "target": {"provider": "echo", "model": "base"},
        "record": {"draws": 2},
        "compare": {"margin": 0.05},
        **sections,
    }


def as_yaml(path: Path, document: dict[str, Any]) -> str:
    path.write_text("# every JSON document is YAML too\n" + json.dumps(document, indent=2))
    return str(path)


def command(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "unift", "migrate", *flags],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


KILLER = """
import os, signal, sys, unift
migration = unift.migrate(sys.argv[1])
where, what = sys.argv[2:4]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if what == "start":
    migration.on_step = lambda step, state: die() if (step, state) == (where, "start") else None
elif what == "event":
    migration.on_event = die
else:
    seen = []

    def half(done, total):
        steps = {step.name: step.state for step in migration.status()}
        if steps.get(where) == "started" and 0 < done and done * 3 >= total:
            die()

    migration.progress = half
migration.run()
"""


# `start`: right after a step was journalled; `half`: after a third of its answers; `event`: while
# the training, which is paid for by then, is under way.
DEATHS = [
    ("inventory", "start"), ("fetch", "start"), ("record", "start"), ("record", "half"),
    ("plan", "start"), ("train", "start"), ("train", "event"), ("compare", "start"),
    ("compare", "half"), ("report", "start"),
]  # fmt: skip


def test_killed_everywhere_it_goes_on_and_nothing_is_paid_twice(
    old: Old, tmp_path: Path, home: Path
) -> None:
    file = as_yaml(tmp_path / "migration.yaml", described(old))
    for where, what in DEATHS:
        done = subprocess.run([sys.executable, "-c", KILLER, file, where, what], timeout=120)
        assert done.returncode == -signal.SIGKILL, (where, what)
    finished = command("run", file, "--json")
    document = json.loads(finished.stdout)
    assert finished.returncode == 1, "the new model has learnt by heart and knows no test row"
    assert document["verdict"]["code"] == "do_not"
    assert document["withheld"]["code"] == "verdict_do_not"
    assert {one["step"]: one["state"] for one in document["steps"]}["report"] == "done"
    assert max(old.asked(old.model).values()) <= 2, "no prompt was asked more than twice"
    assert len((home / "echo" / "created").read_text().splitlines()) == 1, "one training was paid"
    again = command("run", file, "--json")
    assert json.loads(again.stdout)["verdict"] == document["verdict"]
    assert max(old.asked(old.model).values()) <= 2
    page = Path(document["report"]).read_text()
    assert "Do not switch" in page
    assert "src=" not in page
    assert "<script" not in page


def test_the_script_of_the_plan_does_the_rest(old: Old, tmp_path: Path, home: Path) -> None:
    planned = command(
        "plan", old.model, "--name", "support", "--to", "echo", "--model", "base", "--json"
    )
    assert planned.returncode == 0, planned.stderr
    document = json.loads(planned.stdout)
    mapped = {line["setting"]: line for line in document["mapping"]}
    assert (mapped["epochs"]["new"], mapped["epochs"]["certainty"]) == (4, "exact")
    assert (mapped["batch_size"]["new"], mapped["batch_size"]["certainty"]) == (6, "exact")
    assert mapped["learning_rate"]["certainty"] == "heuristic"
    assert mapped["learning_rate"]["source"]
    assert document["old"]["ends"] == "2027-01-14"
    read = unift.migrate(document["yaml"]).spec
    assert read.training.epochs == 4, "what the plan wrote is read back"
    done = subprocess.run(
        [sys.executable, document["script"]], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stderr
    assert "Do not switch" in done.stdout
    assert (home / "migrations" / "support" / "report.md").is_file()
    state = json.loads(command("status", "support", "--json").stdout)
    assert state["next"] == "cutover"


@pytest.fixture
def recorded(old: Old, request: pytest.FixtureRequest) -> unift.migrate.Migration:  # type: ignore[name-defined]
    migration = unift.migrate(
        old.model,
        name="support",
        to="echo",
        model="base",
        compare={"margin": getattr(request, "param", 0.05), "slices": ["queue"]},
        data={"train": _given(old, "train", 200), "test": _given(old, "test", 110)},
        record={"draws": 2},
    )
    migration.record()
    migration.plan()
    return migration


def _given(old: Old, name: str, count: int) -> str:
    """A file whose rows the old model knows by heart, so that it is always right."""
    folder = Path(os.environ["UNIFT_HOME"])
    folder.mkdir(exist_ok=True)
    rows = demo_rows(name, count)
    if name == "test":
        book = old.vendor.books
        job = next(one for one in book.jobs.values() if one["fine_tuned_model"] in old.model)
        added = "".join(json.dumps({"messages": row["messages"]}) + "\n" for row in rows)
        book.contents[job["training_file"]] += added.encode()
    return write(folder / f"{name}.jsonl", rows)


def test_an_equal_model_is_switched_to(old: Old, recorded: Any) -> None:
    equal = old.learn(demo_rows("test", 110))
    found = recorded.compare(model=equal)
    assert found.verdict.code == "switch", found.verdict
    assert found.document["behaviour"][0]["refusals"] == 0


def test_a_worse_model_is_refused_and_the_slice_named(old: Old, recorded: Any) -> None:
    rows = demo_rows("test", 110)
    queues = Counter(row["queue"] for row in rows)
    worst = queues.most_common(1)[0][0]
    for row in rows:
        if row["queue"] == worst:
            row["messages"][-1]["content"] = "I'm sorry, but I can't help with that."
    found = recorded.compare(model=old.learn(rows))
    assert found.verdict.code == "do_not"
    assert found.verdict.proven
    assert f"queue '{worst}'" in found.verdict.sentence
    assert any("refusals" in one for one in found.verdict.exceptions)
    with pytest.raises(RunError) as refused:
        recorded.cutover()
    assert refused.value.code == "verdict_do_not"


@pytest.mark.parametrize("recorded", [0.1], indirect=True)
@pytest.mark.parametrize(("fewest", "code"), [(6, "switch"), (12, "switch_with_exceptions")])
def test_a_slice_that_got_worse_is_named(old: Old, recorded: Any, fewest: int, code: str) -> None:
    rows = demo_rows("test", 110)
    queues = Counter(row["queue"] for row in rows)
    small = next(name for name, count in queues.most_common()[::-1] if count >= fewest)
    for row in rows:
        if row["queue"] == small:
            record = json.loads(row["messages"][-1]["content"])
            row["messages"][-1]["content"] = json.dumps({**record, "urgency": "?", "reply_by": "?"})
    verdict = recorded.compare(model=old.learn(rows)).verdict
    assert queues[small] / 110 * 2 / 5 < 0.05, "the loss over all rows is within the margin"
    assert verdict.code == code, verdict
    assert f"queue '{small}'" in verdict.sentence
    named = verdict.exceptions if code == "switch_with_exceptions" else verdict.watch
    assert any(small in one for one in named), "six rows cannot prove it, twelve can"


def test_a_sweep_chooses_by_validation_rows_within_its_budget(old: Old) -> None:
    settings: dict[str, Any] = {"name": "swept", "to": "echo", "model": "base"}
    migration = unift.migrate(old.model, sweep={"rank": [4, 8], "limit": 5}, **settings)
    trained = migration.train()
    assert [one.training.get("rank") for one in trained.tried] == [None, 4, 8]
    assert all(one.score is not None for one in trained.tried)
    assert migration.train().run == trained.run
    assert not old.asked(old.model), "training asks the old model nothing"


def test_a_sweep_over_its_budget_starts_nothing(home: Path, old: Old) -> None:
    migration = unift.migrate(
        old.model, name="dear", to="local-lora", model="demo",
        sweep={"rank": [4, 8], "hours": 0.000001},
    )  # fmt: skip
    with pytest.raises(LimitError) as refused:
        migration.train()
    assert refused.value.where == "sweep.hours"
    assert not unift.runs()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            "name: a\nsource:\n  model: openai:x\ncompare:\n  margn: 0.1\n",
            5,
            "did you mean 'margin'",
        ),
        ("name: a\nsource:\n  model: openai:x\nrecord:\n  draws: none\n", 5, "record.draws"),
        ("name: a\nname: b\nsource: {model: openai:x}\n", 2, "twice"),
        ("name: a\nsource:\n\tmodel: x\n", 3, "YAML"),
        ("name: a\n? [x, y]\n: 1\n", 2, "a word"),
        ("name: a\n", 1, "add source"),
        ("- a\n- b\n", 1, "mapping"),
        ("name: ../etc\nsource: {model: openai:x}\n", 1, "a name has letters"),
    ],
)
def test_a_wrong_file_is_told_by_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = tmp_path / "migration.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        unift.migrate(path)
    assert refused.value.where == f"{path}:{line}"
    assert words in str(refused.value)


def test_two_processes_do_not_work_on_one_migration(old: Old) -> None:
    import fcntl

    migration = unift.migrate(old.model, name="busy", to="echo", model="base")
    with (migration.folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError) as refused:
            migration.inventory()
    assert refused.value.code == "migration_busy"


def test_the_untuned_successor_is_measured_in_its_best_form(old: Old, tmp_path: Path) -> None:
    prompt = tmp_path / "best.txt"
    prompt.write_text("Sort the mail.")
    migration = unift.migrate(
        old.model, name="later", to="echo", model="base",
        old={"successor": f"openai:{BASE}", "successor_prompt": str(prompt)},
        data={"train": _given(old, "train", 200), "test": _given(old, "test", 40)},
    )  # fmt: skip
    migration.record()
    migration.plan()
    found = migration.compare(model=old.learn(demo_rows("test", 40)))
    successor = found.document["successor"]
    assert successor["tried"] == ["base", f"prompt:{prompt}"]
    assert successor["difference"] == 1.0, "it knows nothing, the new model everything"


def test_a_base_that_is_not_here_is_estimated_and_nothing_is_downloaded(
    old: Old, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    migration = unift.migrate(
        old.model, name="far", to="local-qlora", model="Qwen/Qwen3-8B", target={"gpu": "h100"}
    )
    plan = migration.plan()
    assert plan.estimate["fits"]
    assert any("not on this machine" in warning for warning in plan.warnings)
    assert not (tmp_path / "hub").exists()
