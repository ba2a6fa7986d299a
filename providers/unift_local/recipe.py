"""A run from its plan and nothing else: model, adapter and data, then training to its end."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from unift.data.rendering import stop_token_ids
from unift.provider import Plan, State, Status
from unift_local import checkpoint as checkpoints
from unift_local import export, fused, guards, pacing, probing, replan, speed, tokens
from unift_local.callbacks import Journal, memory_gib
from unift_local.models import download
from unift_local.profile import StepProfile
from unift_local.quantize import four_bit_config
from unift_local.rundir import EventLog, RunDir
from unift_local.trainer import StepTrainer, arguments
from unift_local.worker import StopRequest


def run(folder: RunDir, stop: StopRequest) -> Status:
    """Train one run from its start or its last checkpoint; the final state.

    Raises:
        UniftError: The data or the settings turned out to be unusable, or training diverged.
        Exception: Whatever torch and the libraries raise; the worker puts it into words.
    """
    _quiet()
    plan = folder.plan()
    torch.set_num_threads(plan.value("threads"))
    log = EventLog(folder.events_file)
    removed = checkpoints.delete_incomplete(folder.checkpoints)
    last = checkpoints.latest(folder.checkpoints)
    progress = last[1] if last else checkpoints.Progress()
    if last or removed:
        log.write(
            "status",
            f"resumed from step {progress.step}",
            resumed_from_step=progress.step,
            removed=removed,
        )
    if not progress.finished:
        if stop:
            return _stopped(stop, progress, bool(last))
        journal, trainer = build(folder, plan, log, stop, progress)
        with _replanning(folder, log, trainer, progress):
            if probing.wanted(folder, plan):
                probing.before_training(folder, plan, trainer, log)
            if plan.payload.get("only_probe"):
                return Status(state=State.SUCCEEDED, word="probed")
            folder.write_status(Status(state=State.RUNNING, word="training"))
            log.write("status", "training", total_steps=plan.value("total_steps"))
            if last is None and plan.payload["validation_rows"]:
                trainer.evaluate()
            trainer.train(resume_from_checkpoint=str(last[0]) if last else None)
            with suppress(OSError):  # a disk that takes no record is no reason to fail
                kept = pacing.keep(plan, trainer.row_lengths, journal.clock)
                if kept is not None:
                    log.write("log", kept.kept())
        if journal.cancelled:
            ended = _stopped(stop, progress, True)
            log.write("status", ended.word, step=progress.step)
            return ended
    step = progress.best_step if progress.best_step is not None else progress.step
    chosen = checkpoints.path_of(folder.checkpoints, step)
    metrics = {
        "step": float(step),
        "steps": float(progress.step),
        "seconds": round(progress.trained_seconds, 3),
        "tokens": float(progress.tokens),
        **memory_gib(),
    }
    if progress.best_loss is not None:
        metrics["validation_loss"] = progress.best_loss
    export.export(folder, plan, chosen, metrics)
    log.write("artifact", f"the model of step {step} is ready", **metrics)
    return Status(state=State.SUCCEEDED, word="succeeded")


@contextmanager
def _replanning(
    folder: RunDir, log: EventLog, trainer: StepTrainer, progress: checkpoints.Progress
) -> Iterator[None]:
    """Where memory runs out, leave a smaller layout behind for the next life of the run.

    Raises:
        replan.Again: The worker is to start over with it.
    """
    try:
        yield
    except Exception as error:
        if not guards.is_memory(error):
            raise
        step = trainer.state.global_step
        probed = folder.status()
        when = "in the probe" if probed and probed.word == probing.WORD else f"at step {step + 1}"
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        largest = probing.largest_pass(trainer, trainer.args.max_steps)
        if not replan.replan(folder, log, when, said, largest, progress.step):
            raise
        raise replan.Again from error


def _stopped(stop: StopRequest, progress: checkpoints.Progress, saved: bool) -> Status:
    return stop.outcome(f"; step {progress.step} is saved" if saved else " before the first step")


def build(
    folder: RunDir,
    plan: Plan,
    log: EventLog,
    stop: StopRequest,
    progress: checkpoints.Progress,
) -> tuple[Journal, StepTrainer]:
    """Everything that a training needs, from the plan."""
    base = base_folder(plan)
    tokenizer = AutoTokenizer.from_pretrained(
        base, trust_remote_code=plan.value("trust_remote_code")
    )
    set_seed(plan.value("seed"))  # before the adapter gets its random half
    model = load_base(plan, base)
    stops = stop_token_ids(tokenizer, model.generation_config)
    rows = {
        part: tokens.rows_of_run(plan, folder.data(part), part, tokenizer, stops)
        for part in ("train", "validation")
        if folder.data(part).exists()
    }
    if plan.payload["tunes"] != "full":
        model = add_adapter(plan, model)
    else:
        model.requires_grad_(True)
    evaluates = bool(rows.get("validation"))
    journal = Journal(
        folder,
        log,
        stop,
        progress,
        plan,
        total_steps=plan.value("total_steps"),
        steps_per_epoch=plan.payload["steps_per_epoch"],
        eval_steps=plan.value("eval_steps"),
        patience=plan.value("patience"),
        keep=plan.value("save_total_limit"),
        evaluates=evaluates,
        learning_rate=plan.value("learning_rate"),
    )
    trainer = StepTrainer(
        model=model,
        args=arguments(plan, folder.checkpoints),
        plan=plan,
        rows=rows["train"],
        validation=rows.get("validation", []),
        tokenizer=tokenizer,
        journal=journal,
    )
    if trainer.applied:
        log.write("log", f"For speed: {trainer.applied}.")
    if plan.value("profile"):
        config = model.config
        trainer.add_callback(
            StepProfile(folder.profile, log, config, progress.step, plan.value("total_steps"))
        )
    return journal, trainer


def base_folder(plan: Plan) -> str:
    """Where the base model lies; a hub model is downloaded now if need be."""
    if plan.payload["base_complete"]:
        return plan.payload["base_folder"]
    return str(download(plan.payload["base"], plan.payload["revision"]))


def load_base(plan: Plan, base: str) -> Any:
    """The base model in the precision of the plan, on the device of the plan."""
    cuda = plan.value("device") == "cuda"
    compute = torch.bfloat16 if plan.value("dtype") == "bf16" else torch.float32
    tunes = plan.payload["tunes"]
    kwargs: dict[str, Any] = {
        # Full tuning keeps its weights in fp32 and computes in bf16: an update of 2e-5 is lost
        # when added to a bf16 weight, unless it is rounded at random as `optimizer` does.
        "dtype": torch.float32 if tunes == "full" and not speed.computes_in_bf16(plan) else compute,
        "attn_implementation": speed.attention_name(plan),
        "use_safetensors": True,
        "trust_remote_code": plan.value("trust_remote_code"),
        "device_map": {"": 0} if cuda else {"": "cpu"},
    }
    if tunes == "qlora":
        kwargs["quantization_config"] = four_bit_config(compute)
    model = AutoModelForCausalLM.from_pretrained(base, **kwargs)
    if tunes == "qlora":
        guards.keep_four_bit_exact(model)
    model.config.use_cache = False
    return model


def add_adapter(plan: Plan, model: Any) -> Any:
    """The model with a fresh LoRA adapter; its base is remembered by absolute path or hub id."""
    targets = plan.value("targets")
    config = LoraConfig(
        r=plan.value("rank"),
        lora_alpha=plan.value("alpha"),
        lora_dropout=plan.value("dropout"),
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
        bias="none",
    )
    if plan.value("fused_adapters"):
        fused.register_layers(config)
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = plan.payload["base"]
    adapted.peft_config["default"].revision = plan.payload["revision"]
    return adapted


def _quiet() -> None:
    """Library warnings belong in the log, once, and are not the user's business."""
    logging.captureWarnings(True)
    warnings.simplefilter("once")
    for name in ("transformers", "peft", "trl", "accelerate", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
