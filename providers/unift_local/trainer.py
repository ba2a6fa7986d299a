"""The trainer of a run: TRL's, with one optimiser step an item and unift's own loss."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from unift.provider import Plan
from unift_local import speed
from unift_local.callbacks import Journal
from unift_local.late import Late
from unift_local.loss import chunked_cross_entropy, plain_head
from unift_local.packing import Row, StepCollator


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
