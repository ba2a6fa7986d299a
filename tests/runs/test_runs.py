"""The journal: states, events, lineage, and the truth after a crash."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unift
from unift.errors import LostError, ProviderError, RunError, UsageError
from unift.provider import Event, State
from unift.runs import Store
from unift.spec import make_spec


def start(data: str, **options: Any) -> unift.Run:
    return unift.train(provider="echo", model="base", data=data, options={"echo": options})


def created(home: Path) -> list[str]:
    log = home / "echo" / "created"
    return log.read_text().split() if log.exists() else []


def test_a_run_is_followed_to_its_end_and_replays_the_same(capitals: str) -> None:
    run = start(capitals, steps=4)
    live = list(run.events())
    assert run.state is State.SUCCEEDED
    assert [event.seq for event in live] == list(range(1, len(live) + 1))
    assert [e.data["step"] for e in live if e.kind == "metrics"] == [1, 2, 3, 4]
    assert list(unift.run(run.id).events()) == live
    assert live[-1].data == {"status": "succeeded"}


def test_what_follows_after_a_number_is_only_the_rest(capitals: str) -> None:
    run = start(capitals)
    whole = list(run.events())
    assert list(run.events(after=3)) == whole[3:]


def test_wait_raises_the_cause_and_resume_goes_on(capitals: str) -> None:
    run = start(capitals, fail_at=2)
    with pytest.raises(RunError) as caught:
        run.wait()
    assert caught.value.code == "echo_broke"
    assert caught.value.fix
    assert run.resumable
    run.resume().wait()
    assert run.state is State.SUCCEEDED
    assert run.failure is None
    assert (
        unift.load(run.model).chat([{"role": "user", "content": "Capital of Italy?"}]).text
        == "Rome"
    )


def test_a_finished_run_has_nothing_to_resume(capitals: str) -> None:
    run = start(capitals).wait()
    with pytest.raises(UsageError, match="nothing to resume"):
        run.resume()


def test_a_word_never_seen_is_shown_and_not_an_end(capitals: str) -> None:
    run = start(capitals, steps=4, strange_word="pondering")
    seen = [run.refresh().status for _ in range(4)]
    assert seen == ["running", "pondering", "running", "succeeded"]


def test_cancel_keeps_the_run(capitals: str) -> None:
    run = start(capitals, steps=50)
    run.cancel()
    assert run.state is State.CANCELLED
    with pytest.raises(RunError, match="cancelled"):
        run.wait()


def test_lineage_leads_from_data_to_evaluation(capitals: str) -> None:
    run = start(capitals).wait()
    Store().add_evaluation("e1", {"verdict": "good"}, [f"run:{run.id}"])
    edges = {(e["child"], e["relation"], e["parent"]) for e in run.as_dict()["lineage"]}
    assert (f"run:{run.id}", "data", run.plan.fingerprints["data"]) in edges
    assert (f"model:run:{run.id}", "trained by", f"run:{run.id}") in edges
    assert ("evaluation:e1", "evaluates", f"run:{run.id}") in edges
    assert run.evaluations()[0]["verdict"] == "good"


def test_a_crash_before_the_vendor_answered_is_found_again(
    capitals: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job was created, the answer was lost: reconcile finds it and nothing is paid twice."""
    from unift_echo import Echo

    real = Echo.submit

    def cut(self: Echo, plan: Any, token: str) -> Any:
        real(self, plan, token)
        raise ConnectionResetError("cut")

    monkeypatch.setattr(Echo, "submit", cut)
    with pytest.raises(ConnectionResetError):
        start(capitals)
    monkeypatch.setattr(Echo, "submit", real)
    [(run, error)] = unift.reconcile()
    assert error is None
    run.wait()
    assert run.state is State.SUCCEEDED
    assert len(created(home)) == 1


def test_a_crash_before_the_call_leaves_a_run_that_can_be_submitted(
    capitals: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unift_echo import Echo

    def die(self: Echo, plan: Any, token: str) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Echo, "submit", die)
        with pytest.raises(KeyboardInterrupt):
            start(capitals)
    [run] = unift.runs()
    assert run.state is State.PLANNED
    assert created(home) == []
    run.resume().wait()
    assert len(created(home)) == 1


def test_sigkill_while_submitting(capitals: str, home: Path) -> None:
    """A real process, really killed, with the intent journalled and the job made."""
    script = f"""
import os, signal, unift
from unift_echo import Echo
real = Echo.submit
def submit(self, plan, token):
    real(self, plan, token)
    os.kill(os.getpid(), signal.SIGKILL)
Echo.submit = submit
unift.train(provider="echo", model="base", data={capitals!r})
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=60, env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    assert Store().list()[0].state is State.SUBMITTING
    [run] = unift.runs()  # every later start brings it to the truth
    assert run.state in (State.QUEUED, State.RUNNING)
    run.wait()
    assert len(created(home)) == 1


def test_a_run_being_submitted_elsewhere_is_left_alone(
    capitals: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unift_echo import Echo

    real, entered, go_on = Echo.submit, threading.Event(), threading.Event()

    def slow(self: Echo, plan: Any, token: str) -> Any:
        entered.set()
        assert go_on.wait(20)
        return real(self, plan, token)

    monkeypatch.setattr(Echo, "submit", slow)
    worker = threading.Thread(target=start, args=(capitals,))
    worker.start()
    assert entered.wait(20)
    [(run, _)] = unift.reconcile()
    assert run.state is State.SUBMITTING
    go_on.set()
    worker.join(20)
    unift.run(run.id).wait()
    assert len(created(home)) == 1


def test_a_refusal_is_recorded_with_its_fix(capitals: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from unift_echo import Echo

    def refuse(self: Echo, plan: Any, token: str) -> Any:
        raise ProviderError("No key.", code="no_key", fix="export ECHO_KEY=...")

    monkeypatch.setattr(Echo, "submit", refuse)
    with pytest.raises(ProviderError):
        start(capitals)
    [run] = unift.runs()
    assert run.state is State.FAILED
    assert run.as_dict()["error"]["fix"] == "export ECHO_KEY=..."


def test_a_vanished_job_is_an_error_not_an_invention(capitals: str, home: Path) -> None:
    run = start(capitals)
    for file in (home / "echo").glob("unift-*.json"):
        file.unlink()
    with pytest.raises(LostError):
        run.refresh()


def test_followers_in_two_processes_see_the_same(capitals: str) -> None:
    run = start(capitals, steps=30)
    command = [sys.executable, "-m", "unift", "runs", "events", run.id, "--follow", "--json"]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ))
    mine = [event.model_dump(mode="json") for event in run.events()]
    theirs = json.loads(other.communicate(timeout=60)[0])["events"]
    assert theirs == mine


def test_a_slow_look_does_not_undo_a_resume(capitals: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer is from before the failure, the resume and the new start that others saw."""
    from unift_echo import Echo

    run, real = start(capitals, fail_at=2, steps=9), Echo.poll
    run.refresh()

    def slow(self: Echo, handle: Any) -> Any:
        monkeypatch.setattr(Echo, "poll", real)
        old = real(self, handle)
        assert old.state is State.FAILED
        unift.run(run.id).resume().refresh()
        return old

    monkeypatch.setattr(Echo, "poll", slow)
    assert run.refresh().state is State.RUNNING
    assert unift.run(run.id).failure is None
    run.wait()


def test_the_beginning_of_an_id_is_enough(capitals: str) -> None:
    run = start(capitals)
    assert unift.run(run.id[:6]).id == run.id
    for wrong in ("", "zzz-no-such", "%"):
        with pytest.raises(UsageError):
            unift.run(wrong)


def test_a_broken_store_is_explained(home: Path) -> None:
    home.mkdir(exist_ok=True)
    (home / "runs.db").write_bytes(b"not a database" * 100)
    with pytest.raises(UsageError, match="run store") as caught:
        unift.runs()
    assert caught.value.fix


def test_one_bad_record_does_not_hide_the_others(capitals: str, home: Path) -> None:
    good, bad, odd = (start(capitals).wait() for _ in range(3))
    with sqlite3.connect(home / "runs.db") as db:
        db.execute("UPDATE runs SET plan='{}' WHERE id=?", (bad.id,))
        db.execute("UPDATE events SET data='{' WHERE run=? AND seq=2", (odd.id,))
    db.close()
    assert [run.id for run in unift.runs()] == [odd.id, good.id]
    assert Store().unreadable() == [bad.id]
    assert len(list(odd.events())) == len(list(good.events()))
    with pytest.raises(UsageError, match="cannot be read") as caught:
        unift.run(bad.id)
    assert bad.id in caught.value.where


def test_a_store_from_the_future_is_refused(home: Path) -> None:
    Store()
    with sqlite3.connect(home / "runs.db") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(UsageError, match="newer version"):
        Store()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(st.lists(st.integers(0, 20), max_size=6), max_size=6))
def test_events_are_kept_once_and_in_order_of_arrival(
    batches: list[list[int]], capitals: str
) -> None:
    """However a vendor repeats or reorders its pages, an event is journalled once."""
    from datetime import UTC, datetime

    store = Store()
    row = store.create(_plan(capitals))
    expected: list[str] = []
    for batch in batches:
        events = [
            Event(id=f"v{number}", at=datetime.now(UTC), kind="log", message=str(number))
            for number in batch
        ]
        store.append(row.id, events)
        expected += [
            e.id for i, e in enumerate(events) if e.id not in expected + [x.id for x in events[:i]]
        ]
    kept = store.events(row.id)[1:]  # the first one is ours: planned
    assert [event.id for event in kept] == expected
    assert [event.seq for event in kept] == list(range(2, len(kept) + 2))


def test_a_state_cannot_be_left_for_just_any_other(capitals: str) -> None:
    run = start(capitals).wait()
    with pytest.raises(RunError, match="cannot become"):
        Store().update(run.id, State.RUNNING)


def _plan(data: str) -> Any:
    from unift.provider import get_provider

    return get_provider("echo").plan(make_spec(provider="echo", model="base", data=data))


def test_pause_halts_and_resume_goes_on(capitals: str) -> None:
    run = start(capitals, steps=5)
    run.refresh()
    assert run.pause().state is State.PAUSED
    assert run.pause().state is State.PAUSED, "twice is once"
    assert (run.status, run.resumable, run.finished) == ("paused", True, False)
    assert list(run.events())[-1].data == {"status": "paused"}, "following ends at a pause"
    with pytest.raises(RunError, match="paused") as caught:
        run.wait()
    assert caught.value.fix == f"unift runs resume {run.id}"
    assert run.resume().wait().state is State.SUCCEEDED
    with pytest.raises(UsageError, match="nothing to pause"):
        run.pause()


def test_a_paused_run_can_be_cancelled(capitals: str) -> None:
    run = start(capitals, steps=5)
    assert run.pause().cancel().state is State.CANCELLED


def test_a_provider_that_cannot_pause_says_so_and_who_can(
    capitals: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unift_echo import Echo

    run = start(capitals, steps=5)
    able = Echo().capabilities()
    monkeypatch.setattr(
        Echo, "capabilities", lambda self, model=None: able.model_copy(update={"pausable": False})
    )
    with pytest.raises(ProviderError) as caught:
        run.pause()
    assert caught.value.code == "not_pausable"
    assert "local-lora" in caught.value.message
    assert "echo" not in caught.value.message.partition("(")[2]
    assert run.refresh().state is State.RUNNING, "nothing happened to it"


def test_the_command_line_pauses_and_resumes(
    capitals: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from unift.cli import main

    run = start(capitals, steps=9)

    def said(*words: str) -> Any:
        monkeypatch.setattr("sys.argv", ["unift", "runs", *words, "--json"])
        with pytest.raises(SystemExit):
            main()
        return json.loads(capsys.readouterr().out)

    assert said("pause", run.id)["status"] == "paused"
    assert said("resume", run.id)["status"] == "succeeded"
    assert said("pause", run.id)["error"]["code"] == "not_pausable"
