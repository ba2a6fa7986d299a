"""The training itself: model, adapter, data and trainer, built from the plan and nothing else."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PrinterCallback,
    set_seed,
)
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from unift.data.rendering import stop_token_ids
from unift.provider import Plan, State, Status
from unift_local import checkpoint as checkpoints
from unift_local import export, fused, guards, pacing, probing, replan, speed, tokens
from unift_local.callbacks import Journal, memory_gib
from unift_local.late import Late
from unift_local.loss import chunked_cross_entropy, plain_head
from unift_local.models import download
from unift_local.packing import Row, StepCollator
from unift_local.profile import StepProfile
from unift_local.quantize import four_bit_config
from unift_local.rundir import EventLog, RunDir
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


def arguments(plan: Plan, output: Path) -> SFTConfig:
    """The trainer's settings. Evaluation and saving are timed by `Journal`, packing is ours."""
    return SFTConfig(
        output_dir=str(output),
        per_device_train_batch_size=plan.value("batch_size"),
        gradient_accumulation_steps=1,  # `StepTrainer` accumulates within the step
        max_steps=plan.value("total_steps"),
        learning_rate=plan.value("learning_rate"),
        lr_scheduler_type=plan.value("schedule"),
        warmup_steps=plan.value("warmup_steps"),
        weight_decay=plan.value("weight_decay"),
        max_grad_norm=plan.value("max_grad_norm"),
        optim=plan.value("optimizer"),
        bf16=False,  # `speed.precision` says where
        use_cpu=plan.value("device") == "cpu",
        gradient_checkpointing=False,  # `speed.apply` sets it up
        seed=plan.value("seed"),
        data_seed=plan.value("seed"),
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,  # it would replace a NaN by the mean of what came before
        max_length=None,  # TRL cuts rows at 1024 tokens unless told not to
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=plan.value("device") == "cuda",
        accelerator_config={"non_blocking": plan.value("device") == "cuda"},
        disable_tqdm=True,
        report_to="none",
    )


class StepTrainer(SFTTrainer):
    """TRL's trainer with one data loader item per optimiser step (see `packing.StepCollator`)."""

    def __init__(
        self,
        *,
        model: Any,
        args: SFTConfig,
        plan: Plan,
        rows: list[Row],
        validation: list[Row],
        tokenizer: Any,
        journal: Journal,
    ) -> None:
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        packing = plan.value("packing")
        lengths = {len(row.input_ids) for row in [*rows, *validation]}
        step_collator = StepCollator(
            tokenizer.pad_token_id,
            plan.value("micro_batch"),
            plan.value("pack_length") if packing else None,
            speed.COMPILED_MULTIPLE if packing and plan.value("compile") else 1,
            max(lengths),
            alike=len(lengths) == 1,
        )
        records = [{"input_ids": row.input_ids, "labels": row.labels} for row in rows]
        super().__init__(
            model=model,
            args=args,
            data_collator=step_collator,
            train_dataset=Dataset.from_list(records),
            processing_class=tokenizer,
            callbacks=[journal],
            optimizer_cls_and_kwargs=_optimizer(plan),
        )
        kept = len(cast("Dataset", self.train_dataset))
        if kept != len(rows):
            raise RuntimeError(f"{len(rows)} rows went in, {kept} came out")
        for parameter in model.parameters():
            # TRL casts the adapters of 4-bit models to bf16, where small updates round to nothing.
            if parameter.requires_grad and plan.payload["tunes"] != "full":
                parameter.data = parameter.data.float()
        self.row_lengths = [len(row.input_ids) for row in rows]
        self._plan = plan
        self.applied = speed.apply(plan, model)
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._base = base if plan.value("loss") == "chunked" and plain_head(base) else None
        self.remove_callback(PrinterCallback)  # the journal tells
        self._journal, self._late = journal, Late()
        validation_records = [
            {"input_ids": row.input_ids, "labels": row.labels} for row in validation
        ]
        self._validation = step_collator(validation_records) if validation_records else None

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Forward and backward of one optimiser step; its tokens are counted."""
        total = self.accumulate(model, inputs)
        self._journal.add_tokens(inputs["tokens"])
        return total

    def accumulate(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Forward and backward over the micro-batches of one optimiser step."""
        model.train()
        total = torch.zeros((), device=self.args.device)
        for micro in inputs["micro_batches"]:
            with speed.precision(self._plan):
                loss = self.compute_loss(
                    model, self._prepare_inputs(micro), num_items_in_batch=inputs["trained"]
                )
            self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of a micro-batch, as its share of the step's mean over trained tokens."""
        at, targets = inputs.pop("trained_at"), inputs.pop("targets")
        if self._base is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        del inputs["labels"]
        hidden = self._base.base_model(**inputs, use_cache=False).last_hidden_state
        rows = hidden.flatten(0, 1).index_select(0, at)
        weight = self._base.get_output_embeddings().weight
        return chunked_cross_entropy(rows.to(weight.dtype), weight, targets) / num_items_in_batch

    def _maybe_log_save_evaluate(
        self, tr_loss: torch.Tensor, grad_norm: Any, *args: Any, **kwargs: Any
    ) -> None:
        """As in transformers, but the loss is not waited for (see `late`)."""
        control, step = self.control, self.state.global_step
        if control.should_log and step > self._globalstep_last_logged:
            rate = kwargs.get("learning_rate")
            self._late.put(
                step, tr_loss, grad_norm, self._get_learning_rate() if rate is None else rate
            )
            tr_loss.zero_()
            self._globalstep_last_logged = step
        ends = control.should_save or control.should_evaluate or control.should_training_stop
        for logs in self._late.take(everything=ends):
            self.control = self.callback_handler.on_log(self.args, self.state, control, logs)
        self.control.should_log = False
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Mean loss per trained token over the validation rows.

        No data loader takes part, so that evaluating uses up no random numbers.
        """
        if self._validation is None:
            raise RuntimeError("there is no validation data")
        began = time.perf_counter()
        model = cast("torch.nn.Module", self.model)
        model.eval()
        total = 0.0
        with torch.no_grad(), speed.precision(self._plan):
            for micro in self._validation["micro_batches"]:
                prepared = self._prepare_inputs(dict(micro))
                total += self.compute_loss(
                    model, prepared, num_items_in_batch=self._validation["trained"]
                ).item()
        self._metrics["eval"].clear()
        metrics = {"eval_loss": total, "eval_runtime": time.perf_counter() - began}
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: the inputs of a step are a list of micro-batches."""
        return 0

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: the run's own record says more."""


def _optimizer(plan: Plan) -> tuple[Any, dict[str, Any]] | None:
    """The optimiser's class and settings where it is ours; None for one of the trainer's own."""
    if plan.value("optimizer") != "adamw_8bit":
        return None
    from unift_local.optimizer import RoundingAdamW8bit

    return RoundingAdamW8bit, {"lr": plan.value("learning_rate")}


def _quiet() -> None:
    """Library warnings belong in the log, once, and are not the user's business."""
    logging.captureWarnings(True)
    warnings.simplefilter("once")
    for name in ("transformers", "peft", "trl", "accelerate", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
