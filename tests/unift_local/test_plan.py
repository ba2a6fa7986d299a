"""What a plan decides, and what it refuses before anything is started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from unift_local import LocalFull, LocalLora, LocalQlora
from unift_local.launch import environment
from unift_local.rundir import run_dir

from tests.unift_local.conftest import CONTEXT, chat, make_model, make_tokenizer, write_rows
from unift.errors import DataError, LimitError, MissingDependency, UsageError
from unift.provider import Provider


@pytest.mark.parametrize("cls", [LocalFull, LocalLora, LocalQlora])
def test_each_is_a_provider_and_importing_it_is_light(cls: type) -> None:
    assert isinstance(cls(), Provider)
    heavy = ("torch", "transformers", "peft")
    code = f"import unift_local, sys; print([m for m in {heavy} if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert output.stdout.strip() == "[]", output.stderr
    assert cls().capabilities().resumable


def test_missing_packages_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "unift_local._provider.find_spec", lambda name: None if name == "bitsandbytes" else 1
    )
    LocalLora().check()
    with pytest.raises(MissingDependency, match="bitsandbytes") as caught:
        LocalQlora().check()
    assert caught.value.fix == "pip install 'unift[local]'"


def test_defaults_are_those_that_are_promised(spec: Callable[..., Any]) -> None:
    plan = LocalLora().plan(spec(learning_rate=None))
    values = {one.name: one.value for one in plan.settings}
    assert (
        values
        | {
            "rank": 16,
            "alpha": 32.0,
            "dropout": 0.0,
            "learning_rate": 2e-4,
            "epochs": 3.0,
            "batch_size": 4,
            "weight_decay": 0.01,
            "warmup_ratio": 0.03,
            "schedule": "cosine",
            "packing": True,
            "micro_batch": 1,
            "seed": 42,
            "dtype": "fp32",
            "total_steps": 24,
            "max_length": CONTEXT,
        }
        == values
    )
    assert values["targets"] == [
        "down_proj",
        "gate_proj",
        "k_proj",
        "o_proj",
        "q_proj",
        "up_proj",
        "v_proj",
    ]
    assert values["eval_steps"] <= 2, "at least ten evaluations"
    assert all(one.why for one in plan.settings if one.origin != "user")
    assert LocalFull().plan(spec("local-full", learning_rate=None)).value("learning_rate") == 2e-5
    assert plan.payload["rows"] == 32
    assert plan.payload["validation_rows"] == 7
    assert set(plan.fingerprints) == {"data", "validation"}
    assert plan == type(plan).model_validate_json(plan.model_dump_json())


@pytest.mark.parametrize(("rows", "batch"), [(199, 4), (200, 8), (999, 8), (1000, 16)])
def test_batch_size_follows_the_rows(
    spec: Callable[..., Any], tmp_path: Path, rows: int, batch: int
) -> None:
    data = write_rows(tmp_path / "d.jsonl", [chat("a", "b")] * rows)
    plan = LocalLora().plan(spec(data=str(data), validation=None))
    assert plan.value("batch_size") == batch
    assert plan.payload["steps_per_epoch"] == -(-rows // batch)
    assert "no validation data" in plan.warnings[0]


def test_what_the_user_says_wins_and_is_marked(spec: Callable[..., Any]) -> None:
    given: dict[str, Any] = {
        "epochs": 2.5,
        "batch_size": 6,
        "learning_rate": 1e-3,
        "rank": 4,
        "alpha": 4.0,
        "dropout": 0.0,
        "targets": ("q_proj", "v_proj"),
        "weight_decay": 0.0,
        "warmup_ratio": 0.5,
        "max_length": 300,
        "seed": 7,
    }
    plan = LocalLora().plan(spec(**given))
    for name, value in given.items():
        found = next(one for one in plan.settings if one.name == name)
        assert (found.value, found.origin) == (
            list(value) if name == "targets" else value,
            "user",
        )
    assert plan.value("total_steps") == 15
    assert plan.value("warmup_steps") == 8


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "dpo"}, "method 'sft' only"),
        ({"learning_rate_multiplier": 2.0}, "set learning_rate"),
        ({"targets": ("q_prj",)}, "did you mean 'q_proj'"),
        ({"targets": ("lm_head",)}, "never be trained"),
        ({"targets": ("input_layernorm",)}, "no linear layer"),
        ({"max_length": CONTEXT + 1}, f"context of {CONTEXT}"),
        ({"options": {"micro_bach": 2}}, "did you mean 'micro_batch'"),
        ({"options": {"pack_length": 64}, "packing": False}, "turn packing on"),
        ({"options": {"device": "cuda"}}, "nvidia-smi"),
        ({"data": "nowhere.jsonl"}, "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_way_out(
    spec: Callable[..., Any], settings: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match=words) as caught:
        LocalLora().plan(spec(**settings))
    assert caught.value.fix


@pytest.mark.parametrize("attention", ["flash_attention_2", "flash_attention_3"])
def test_flash_attention_is_refused_where_it_cannot_run(
    attention: str, spec: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from unift_local.settings import _refuse_flash

    with pytest.raises(UsageError, match="is for CUDA cards") as caught:
        LocalLora().plan(spec(options={"attention": attention}))
    assert caught.value.where == "options.attention"
    with pytest.raises(UsageError, match="16 bits"):
        _refuse_flash(attention, cuda=True, half=False)
    with pytest.raises(UsageError, match="package flash-attn") as caught:
        _refuse_flash(attention, cuda=True, half=True)
    assert "varlen" in str(caught.value.fix)
    version = attention[-1]
    monkeypatch.setattr(
        f"transformers.utils.import_utils.is_flash_attn_{version}_available", lambda: True
    )
    _refuse_flash(attention, cuda=True, half=True)


def test_a_token_without_an_embedding_is_refused_before_it_ends_in_an_assertion(
    spec: Callable[..., Any], tmp_path: Path
) -> None:
    model = make_model(tmp_path / "model")
    tokenizer = make_tokenizer(tmp_path / "model")
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [chat("first", "row"), chat("a <new> word", "b"), chat("last", "row")]
    data = write_rows(tmp_path / "data.jsonl", rows)
    with pytest.raises(DataError, match="Row 2 has the token 261 \\('<new>'\\)") as caught:
        LocalLora().plan(spec(model=str(model), data=str(data)))
    assert caught.value.code == "unknown_token"
    assert "resize" in str(caught.value.fix)


def test_a_run_is_no_base_model(spec: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="what a run left") as caught:
        LocalLora().plan(spec(model="run:abc"))
    assert caught.value.code == "model_is_run"


def test_full_tuning_takes_no_adapter_settings(spec: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="has no adapter"):
        LocalFull().plan(spec("local-full", rank=8))


def test_more_than_one_process_is_refused(
    spec: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = LocalLora().plan(spec())
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert "WORLD_SIZE" not in environment(plan)
    with pytest.raises(UsageError, match="2 processes were asked for"):
        LocalLora().plan(spec())


def test_threads_are_shared_with_the_runs_that_live(
    spec: Callable[..., Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = len(os.sched_getaffinity(0))
    alone = LocalLora().plan(spec(options={"threads": None}))
    assert alone.value("threads") == cores
    assert environment(alone)["OMP_NUM_THREADS"] == str(cores)
    assert environment(alone)["GOMP_SPINCOUNT"] == "2000", "spinning starves shared cores"
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert "GOMP_SPINCOUNT" not in environment(alone), "the user's choice stands"
    other = run_dir("other")
    other.folder.mkdir()
    lock = other.take_lock()
    assert lock is not None
    assert LocalLora().plan(spec(options={"threads": None})).value("threads") == max(1, cores // 2)
    assert LocalLora().plan(spec(options={"threads": 3})).value("threads") == 3
    os.close(lock)
    assert LocalLora().plan(spec(options={"threads": None})).value("threads") == cores


def test_no_row_is_cut(spec: Callable[..., Any], tmp_path: Path) -> None:
    """Not at the 1024 tokens of TRL, not at our own 2048, not by packing."""
    model = make_model(tmp_path / "m", max_position_embeddings=4096)
    rows = [chat("x" * 2500, "long"), chat("x", "short")]
    data = write_rows(tmp_path / "d.jsonl", rows)
    wanted = {"model": str(model), "data": str(data), "validation": None}
    plan = LocalLora().plan(spec(**wanted))
    assert plan.payload["longest_row"] > 2500
    assert plan.value("max_length") == plan.payload["longest_row"]
    with pytest.raises(DataError, match="more than max_length 2000") as caught:
        LocalLora().plan(spec(**wanted, max_length=2000))
    assert [one.line for one in caught.value.findings] == [1]


def test_rows_beyond_the_context_are_all_named(spec: Callable[..., Any], tmp_path: Path) -> None:
    rows = [chat("x" * 600, "long"), chat("x", "short"), chat("y" * 700, "longer")]
    data = write_rows(tmp_path / "d.jsonl", rows)
    with pytest.raises(DataError, match="2 of 3 rows") as caught:
        LocalLora().plan(spec(data=str(data)))
    assert [(one.code, one.line) for one in caught.value.findings] == [
        ("row_too_long", 1),
        ("row_too_long", 3),
    ]


def test_rows_without_loss_are_not_dropped_in_silence(
    spec: Callable[..., Any], tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "d.jsonl", [chat("a", "b"), chat("a", "b", weight=0)])
    with pytest.raises(DataError) as caught:
        LocalLora().plan(spec(data=str(data)))
    assert ":2" in str(caught.value)


def test_a_template_without_stop_token_is_refused(
    spec: Callable[..., Any], model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(model_folder, folder)
    template = folder / "chat_template.jinja"
    template.write_text(
        template.read_text().replace("m['content'] + '<|end|>' -", "m['content'] -", 1)
    )
    with pytest.raises(DataError, match="never learn to stop"):
        LocalLora().plan(spec(model=str(folder)))


def test_a_relative_model_path_is_remembered_as_an_absolute_one(
    spec: Callable[..., Any], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model_folder.parent)
    for name in (f"./{model_folder.name}", model_folder.name, f"path:{model_folder.name}"):
        assert LocalLora().plan(spec(model=name)).payload["base"] == str(model_folder)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model_without_weights"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "pickle_weights",
        ),
        (lambda folder: (folder / "config.json").unlink(), "model_incomplete"),
        (lambda folder: (folder / "config.json").write_text("{"), "model_incomplete"),
        (lambda folder: os.truncate(folder / "model.safetensors", 5000), "model_incomplete"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "model_incomplete"),
        (lambda folder: shutil.rmtree(folder), "model_not_found"),
    ],
)
def test_unusable_model_folders_are_refused(
    spec: Callable[..., Any],
    model_folder: Path,
    tmp_path: Path,
    change: Callable[[Path], Any],
    code: str,
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(model_folder, folder)
    change(folder)
    with pytest.raises(UsageError) as caught:
        LocalLora().plan(spec(model=str(folder)))
    assert caught.value.code == code
    assert caught.value.fix
    with pytest.raises(UsageError):
        LocalLora().model(str(folder))


def test_code_that_comes_with_a_model_runs_only_when_trusted(
    spec: Callable[..., Any], model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(model_folder, folder)
    (folder / "own.py").write_text(
        "import pathlib\n"
        "from transformers import PreTrainedTokenizerFast\n"
        f"pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
        "class Own(PreTrainedTokenizerFast):\n    pass\n"
    )
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": [None, "own.Own"]}, "tokenizer_class": "Own"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    LocalLora().plan(spec(model=str(folder)))
    assert not (tmp_path / "ran").exists()
    LocalLora().plan(spec(model=str(folder), options={"trust_remote_code": True}))
    assert (tmp_path / "ran").exists()


def test_too_little_disk_starts_nothing(
    spec: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    local = LocalLora()
    plan = local.plan(spec())
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(LimitError, match="GiB of disk"):
        local.submit(plan, "full")
    assert local.find("full") is None


def test_a_tokenizer_without_template_is_refused(
    spec: Callable[..., Any], model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(model_folder, folder)
    make_tokenizer(folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(DataError, match="no chat template"):
        LocalLora().plan(spec(model=str(folder)))
