"""What is sent, and what is refused before anything is sent."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.unift_openai.conftest import BASE
from tests.vendors.clock import Clock
from tests.vendors.openai_vendor import JOB, KEY, Vendor
from unift.errors import DataError, LimitError, ProviderError, UniftError, UsageError
from unift.provider import Provider, get_provider
from unift.spec import TrainSpec

Make = Callable[..., TrainSpec]


def body(vendor: Vendor, provider: Provider, spec: TrainSpec) -> dict[str, Any]:
    provider.submit(provider.plan(spec), "t1")
    return vendor.bodies[-1]


def test_supervised(vendor: Vendor, openai: Provider, spec: Make, rows: str) -> None:
    sent = body(
        vendor,
        openai,
        spec(
            epochs=2, batch_size=4, learning_rate_multiplier=0.5, seed=3, name="v2", validation=rows
        ),
    )
    assert sent["method"] == {
        "type": "supervised",
        "supervised": {
            "hyperparameters": {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5}
        },
    }
    assert (sent["model"], sent["seed"], sent["suffix"]) == (BASE, 3, "v2")
    assert sent["metadata"] == {"unift_token": "t1"}
    assert sent["validation_file"] == sent["training_file"], "the same rows are one file"


def test_preference(vendor: Vendor, openai: Provider, spec: Make, preferences: str) -> None:
    sent = body(vendor, openai, spec(method="dpo", data=preferences, options={"beta": 0.2}))
    assert sent["method"]["dpo"]["hyperparameters"]["beta"] == 0.2


def test_the_vendor_reports_to_a_project_where_it_is_asked_to(
    vendor: Vendor, openai: Provider, spec: Make
) -> None:
    sent = body(vendor, openai, spec(options={"wandb_project": "support"}))
    assert sent["integrations"] == [{"type": "wandb", "wandb": {"project": "support"}}]


def test_a_bad_preference_row_is_named(openai: Provider, spec: Make, rows: str) -> None:
    with pytest.raises(DataError) as caught:
        openai.plan(spec(method="dpo", data=rows))
    assert caught.value.where.endswith(":1")


def test_reinforcement_needs_a_grader_and_a_host(
    vendor: Vendor, spec: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", vendor.url.removesuffix("/v1"))
    azure = get_provider("azure")
    with pytest.raises(UsageError, match="grader"):
        azure.plan(spec("azure", method="rft", model="o4-mini-2025-04-16"))
    grader = {
        "type": "string_check",
        "name": "same",
        "operation": "eq",
        "input": "{{sample.output_text}}",
        "reference": "{{item.answer}}",
    }
    plan = azure.plan(
        spec("azure", method="rft", model="o4-mini-2025-04-16", options={"grader": grader})
    )
    assert plan.payload["base_url"].endswith("/openai/v1")
    JOB.validate_python({**plan.payload["body"], "training_file": "file-1"})
    assert plan.payload["body"]["method"]["reinforcement"]["grader"] == grader


def test_nebius_takes_an_absolute_rate_and_the_shape_of_the_adapter(
    spec: Make, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    with Vendor(metadata=False, lenient=True, files_as_checkpoints=True) as host:
        monkeypatch.setenv("NEBIUS_BASE_URL", host.url)
        monkeypatch.setenv("NEBIUS_API_KEY", KEY)
        nebius = get_provider("nebius")
        asked = spec(
            "nebius", model="open-8b", learning_rate=2e-5, rank=8, options={"metadata": None}
        )
        handle = nebius.submit(nebius.plan(asked), "t1")
        hyper = host.bodies[0]["hyperparameters"]
        assert hyper["learning_rate_multiplier"] == 2e-5
        assert (hyper["lora"], hyper["lora_r"]) == (True, 8)
        while not nebius.poll(handle).finished:
            pass
        artifact = nebius.fetch(handle)
        assert artifact.kind == "adapter"
        assert set(artifact.sha256) == {"adapter_model.safetensors", "adapter_config.json"}
        with pytest.raises(UsageError, match="learning_rate_multiplier"):
            nebius.plan(spec("nebius", model="open-8b", learning_rate_multiplier=1.0))


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"learning_rate": 1e-4}, "learning_rate"),
        ({"rank": 8}, "rank"),
        ({"max_steps": 5}, "max_steps"),
        ({"epochs": 1.5}, "epochs"),
        ({"model": "gpt-4o-mini"}, "model"),
        ({"model": "gpt-4.1-mini"}, "model"),
        ({"model": "gpt-6-luna"}, "model"),
    ],
)
def test_what_the_vendor_cannot_do_is_refused_with_a_way_out(
    openai: Provider,
    spec: Make,
    settings: dict[str, Any],
    where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(UsageError) as caught:
        openai.plan(spec(**settings))
    assert caught.value.where == where
    assert caught.value.fix


def test_the_bill_is_known_before(
    openai: Provider, spec: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    estimate = openai.plan(spec(epochs=4)).estimate
    # gpt-4.1-mini: 5 US dollars per million trained tokens (catalogue, 2026-09).
    assert estimate["price_usd"] == pytest.approx(estimate["tokens"] * 4 * 5 / 1e6)
    assert estimate["sources"]


def test_ten_rows_are_the_least(
    openai: Provider, spec: Make, chat_file: Callable[..., str]
) -> None:
    with pytest.raises(UniftError) as caught:
        openai.plan(spec(data=chat_file([("a", "b")], name="few.jsonl")))
    assert caught.value.exit_status == 3


# --- the wind-down ------------------------------------------------------------------------------


def test_a_model_that_ends_soon_is_a_warning(vendor: Vendor, openai: Provider, spec: Make) -> None:
    vendor.habits.shutdown[BASE] = "2027-01-14"
    (warning,) = openai.plan(spec()).warnings
    assert "2027-01-14" in warning
    assert "51 days" in warning
    assert "models endpoint" in warning
    assert f"unift migrate plan openai:{BASE} --to local-qlora --train " in warning


def test_the_host_need_not_be_asked(vendor: Vendor, openai: Provider, spec: Make) -> None:
    vendor.habits.shutdown[BASE] = "2026-11-30"  # within 14 days: refused, if it is asked
    with pytest.raises(LimitError):
        openai.plan(spec())
    asked = vendor.calls.count("model")
    assert asked
    openai.plan(spec(options={"look_up_shutdown": False}))  # of this address nobody else knows
    assert vendor.calls.count("model") == asked


@pytest.mark.parametrize(("day", "refused"), [("2026-12-09", False), ("2026-12-08", True)])
def test_a_model_that_ends_within_14_days_is_refused(
    vendor: Vendor, openai: Provider, spec: Make, day: str, refused: bool
) -> None:
    vendor.habits.shutdown[BASE] = day
    if not refused:
        assert openai.plan(spec()).warnings
        return
    with pytest.raises(LimitError) as caught:
        openai.plan(spec())
    assert "--accept-shutdown" in caught.value.fix
    plan = openai.plan(spec(options={"accept_shutdown": True}))
    assert day in plan.warnings[0]


def test_without_an_answer_the_catalogue_says_when(
    openai: Provider, spec: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    (warning,) = openai.plan(spec()).warnings
    assert "2027-01-14" in warning
    assert "new jobs until 2027-01-06" in warning
    clock.time += 44 * 86_400  # 2027-01-07
    with pytest.raises(LimitError) as caught:
        openai.plan(spec())
    assert caught.value.code == "no_new_jobs"


def test_a_plan_that_grew_old_is_checked_again(
    vendor: Vendor, openai: Provider, spec: Make, clock: Clock
) -> None:
    vendor.habits.shutdown[BASE] = "2027-01-14"
    plan = openai.plan(spec())
    clock.time += 40 * 86_400
    with pytest.raises(LimitError):
        openai.submit(plan, "t1")
    assert "upload" not in vendor.calls


def test_an_organisation_that_is_refused_learns_all_of_it_in_one_error(
    vendor: Vendor, openai: Provider, spec: Make, rows: str
) -> None:
    vendor.habits.wound_down = True
    vendor.habits.shutdown[BASE] = "2027-01-14"
    with pytest.raises(ProviderError) as caught:
        openai.submit(openai.plan(spec()), "t1")
    error = caught.value
    assert error.code == "training_not_available"
    assert "2027-01-14" in error.message
    assert not vendor.books.files, "the orphaned upload was deleted"
    assert "deleted" in error.message
    assert f"unift estimate --model Qwen/Qwen3-8B --data {rows}" in error.fix
    assert "unift migrate inventory --source openai" in error.fix
    assert f"unift migrate plan openai:{BASE} --to local-qlora --train {rows}" in error.fix
    offered = re.findall(r"unift (?:migrate|estimate) [^;]+", error.fix)
    assert len(offered) == 3
    for command in offered:  # with --help nothing runs, but flags that do not exist are refused
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(command), "--help"], capture_output=True, text=True
        )
        assert done.returncode == 0, (command, done.stderr)
    assert openai.find("t1") is None, "listing goes on working"
    assert vendor.calls.count("create") == 1


def test_the_command_line_accepts_a_shutdown(
    vendor: Vendor,
    rows: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from unift.cli import main

    vendor.habits.shutdown[BASE] = "2020-01-01"
    command = ["train", "--provider", "openai", "--model", BASE, "--data", rows, "--dry-run"]

    def status(*flags: str) -> Any:
        monkeypatch.setattr("sys.argv", ["unift", *command, *flags])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code

    assert status() == 4
    assert "--accept-shutdown" in capsys.readouterr().err
    assert status("--accept-shutdown") in (0, None)
