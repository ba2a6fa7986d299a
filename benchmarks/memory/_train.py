"""A few steps of one configuration through the product's own trainer, measured."""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from pathlib import Path
from typing import Any

import torch
from _configs import Run
from _snapshot import at_peak
from transformers import TrainerCallback

GIB = 2**30
SLOW = 1.2  # seconds: a step longer than this is timed once, shorter ones three times


class Clock(TrainerCallback):
    """Stands in for the journal: times steps, counts nothing else."""

    def __init__(self, cuda: bool) -> None:
        self.cuda, self.seconds, self._began = cuda, [], 0.0

    def add_tokens(self, tokens: int) -> None:
        """Nothing: the grid knows its tokens."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = self._now()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds.append(self._now() - self._began)
        control.should_log = control.should_save = False
        timed = self.seconds[1:]
        if timed and (len(timed) >= 3 or sum(timed) > SLOW):
            control.should_training_stop = True

    def _now(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


def measure(
    run: Run, base: Any, device: str, tokenizer: Any, explain: bool = False
) -> dict[str, Any]:
    """Peak GiB allocated and reserved, seconds a step, tokens a step."""
    cuda = device == "cuda"
    _clean(cuda)
    if run.compiled:
        torch._dynamo.reset()  # the limit on recompiling counts the models before
    model, undo = _adapt(run, base)
    try:
        trainer, clock = make_trainer(run, model, device, tokenizer)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        static = torch.cuda.memory_allocated() / GIB if cuda else 0.0
        trainer.train()
        size, ran = trainer.args.per_device_train_batch_size, len(clock.seconds)
        steps = [trainer.row_lengths[at : at + size] for at in range(0, size * ran, size)]
        found: dict[str, Any] = {
            "tokens": sum(steps[0]),
            "passes": [trainer.data_collator.tokens(one) for one in steps],
            "step_seconds": [round(one, 4) for one in clock.seconds],
            "static_gib": round(static, 4),
        }
        if cuda:
            found["allocated_gib"] = round(torch.cuda.max_memory_allocated() / GIB, 4)
            found["reserved_gib"] = round(torch.cuda.max_memory_reserved() / GIB, 4)
            found["live_gib"] = round(torch.cuda.memory_allocated() / GIB, 4)
            free, total = torch.cuda.mem_get_info()
            used = (total - free - torch.cuda.memory_reserved()) / GIB
            found["context_gib"] = round(used, 4)
        if explain and cuda:
            try:
                found["alive_at_peak"] = _explain(trainer)
            except Exception as error:  # noqa: BLE001 - the figures above are what was asked for
                found["alive_at_peak"] = f"{type(error).__name__}: {error}"
        return found
    finally:
        trainer = None
        undo()
        _clean(cuda)


def _clean(cuda: bool) -> None:
    import bitsandbytes as bnb

    # It keeps modules alive, and settings of parameters by their place, from one model to the next.
    bnb.optim.GlobalOptimManager.get_instance().initialize()
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()


def _adapt(run: Run, base: Any) -> tuple[Any, Any]:
    """The model to train, and how to get the untouched base back (fused blocks stay: the caller
    builds a new base after a run of the product's own path)."""
    from unift_local import attention

    own = attention.register() if run.product else "grid_varlen"
    base.config._attn_implementation = {"varlen": own}.get(run.attention, run.attention)
    text = base.config.get_text_config()
    text._attn_implementation = base.config._attn_implementation
    if run.attention == "varlen" and not run.product:
        _register_varlen()
    modeling = sys.modules[type(base).__module__]
    before = dict(vars(modeling))
    if run.kernels == "liger":  # of this model for good, so rows with Liger come last within it
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(base, cross_entropy=False, fused_linear_cross_entropy=False)

    def forget() -> None:
        for name, value in before.items():  # Liger changes the library's module too
            setattr(modeling, name, value)
        for owner in (base, base.base_model):
            for name in ("forward", "gradient_checkpointing_enable"):
                owner.__dict__.pop(name, None)
        # accelerate would take a prepared model as it is, and not wrap it in autocast again.
        base.__dict__.pop("_is_accelerate_prepared", None)
        for parameter in base.parameters():
            parameter.grad = None
        with contextlib.suppress(Exception):
            base.gradient_checkpointing_disable()
        with contextlib.suppress(Exception):
            base.disable_input_require_grads()

    if run.tuning == "full":
        base.requires_grad_(True)
        return base, forget
    from peft import LoraConfig, get_peft_model
    from unift_local import fused

    base.requires_grad_(False)
    head = base.get_output_embeddings()
    names = {
        name.rpartition(".")[2]
        for name, module in base.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module is not head
        and "vision" not in name
        and "multi_modal" not in name
        and name.rpartition(".")[2] not in ("gate", "router")
        and not (run.targets == "attention" and "self_attn" not in name)
    }
    if run.targets == "default":  # the projections of the checkpoint, by their names in it
        mixtral = base.config.model_type == "mixtral"
        names |= {"w1", "w2", "w3"} if mixtral else {"gate_proj", "up_proj", "down_proj"}
    targets: Any = sorted(names)
    if any("vision" in name for name, _ in base.named_modules()):
        targets = r".*language_model.*\.(" + "|".join(sorted(names)) + ")"
    product = run.product and not (run.dora or run.dropout)
    adapter = LoraConfig(
        r=run.rank,
        lora_alpha=2 * run.rank,
        lora_dropout=run.dropout,
        use_dora=run.dora,
        target_modules=targets,
        task_type="CAUSAL_LM",
        bias="none",
    )
    if product:
        fused.register_layers(adapter)
    model = get_peft_model(base, adapter)

    def undo() -> None:
        model.unload()
        if hasattr(base, "peft_config"):
            del base.peft_config
        forget()

    return model, undo


def make_trainer(
    run: Run,
    model: Any,
    device: str,
    tokenizer: Any,
    lengths: list[int] | None = None,
    total_steps: int = 4,
    clock: Any = None,
) -> tuple[Any, Any]:
    """The product's trainer for a configuration; with `lengths`, on rows of those many tokens, all
    of which a step shares evenly."""
    from unift_local import recipe
    from unift_local.packing import Row

    from unift.provider import Plan, Setting
    from unift.spec import TrainSpec

    values = {
        "batch_size": len(lengths) // total_steps
        if lengths
        else run.micro_batch * max(1, run.rows_per_pack) * run.passes,
        "micro_batch": run.micro_batch,
        "packing": run.rows_per_pack > 0,
        "pack_length": run.length,
        "total_steps": total_steps,
        "learning_rate": 1e-5,
        "schedule": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "optimizer": "adamw_torch_fused" if run.optimizer == "adamw" else run.optimizer,
        "dtype": "fp32" if run.dtype == "fp32" or device == "cpu" else "bf16",
        "device": device,
        "gradient_checkpointing": run.checkpointing != "none",
        "checkpointing": run.checkpointing if run.checkpointing != "none" else "full",
        "checkpointed_layers": run.checkpointed_layers,
        "attention": run.attention,
        "fused_adapters": run.product and run.tuning != "full" and not (run.dora or run.dropout),
        "products": "fp32",  # of frozen weights on a CPU; a card computes as its dtype says
        # The recipe's other word for TRL's own loss.
        "loss": "chunked" if run.product else "plain",
        "compile": run.compiled,
        "seed": 0,
    }
    plan = Plan(
        spec=TrainSpec(provider=f"local-{run.tuning}", model=run.model, data="none"),
        settings=tuple(
            Setting(name=name, value=value, origin="user") for name, value in values.items()
        ),
        payload={"tunes": run.tuning},
    )
    args = recipe.arguments(plan, Path("/tmp/grid-out"))
    if run.checkpointing == "selective" and not run.product:
        args.gradient_checkpointing_kwargs = {"selective": True}
    size = model.config.get_text_config().vocab_size
    rows: list[Row] = []
    each = run.length // run.rows_per_pack if run.rows_per_pack else run.length
    generator = torch.Generator().manual_seed(0)
    for count in lengths or ():
        ids = torch.randint(10, size, (count,), generator=generator).tolist()
        silent = round(count * (1 - run.trained))
        rows.append(Row(ids, [-100] * silent + ids[silent:]))
    for index in range(0 if lengths else values["batch_size"] * values["total_steps"]):
        # A padded batch: every second row is half as long. Packs: one row is a token shorter, so
        # that rows are not all alike, and any of them make a full pack.
        short = run.rows_per_pack > 1 and index % run.rows_per_pack == 0
        count = each // 2 if run.padded and index % 2 else each - short
        ids = torch.randint(10, size, (count,), generator=generator).tolist()
        silent = round(count * (1 - run.trained))
        rows.append(Row(ids, [-100] * silent + ids[silent:]))
    clock = clock or Clock(device == "cuda")
    kind = _kind(run)
    trainer = (kind if lengths else _in_order(kind))(
        model=model,
        args=args,
        plan=plan,
        rows=rows,
        validation=[],
        tokenizer=tokenizer,
        journal=clock,
    )
    if run.tuning == "full" and run.dtype == "bf16":
        for parameter in model.parameters():  # the trainer wants float32 for what it trains
            parameter.data = parameter.data.to(torch.bfloat16)
    return trainer, clock


def _in_order(kind: Any) -> Any:
    """Rows come as they are written: every step has the same packs."""

    class InOrder(kind):
        """Not shuffled."""

        def _get_train_sampler(self, *args: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    return InOrder


def _kind(run: Run) -> Any:
    from unift_local import recipe

    if run.loss == "chunked":
        return recipe.StepTrainer

    class OtherLoss(recipe.StepTrainer):
        """The loss from whole logits, or Liger's fused linear cross entropy."""

        def compute_loss(
            self,
            model: Any,
            inputs: Any,
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            labels = inputs.pop("labels")
            if run.loss == "plain":
                return model(**inputs, labels=labels, num_items_in_batch=num_items_in_batch).loss
            from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

            inner = self.accelerator.unwrap_model(model)
            inner = inner if run.tuning == "full" else inner.get_base_model()
            with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16):
                hidden = inner.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
                loss = LigerFusedLinearCrossEntropyLoss(reduction="sum")
                flat = hidden.reshape(-1, hidden.shape[-1])
                total = loss(inner.lm_head.weight, flat, labels[:, 1:].reshape(-1))
            return total / num_items_in_batch

    return OtherLoss


def _register_varlen() -> None:
    """Attention through torch's own varlen kernel: no mask, no padding; for memory alone, so the
    whole sequence is one document."""
    from torch.nn.attention.varlen import varlen_attn
    from transformers import AttentionInterface, AttentionMaskInterface

    def attend(
        module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: Any = None, **rest: Any
    ) -> Any:
        rows, _, length, _ = query.shape
        flat = [
            one.transpose(1, 2).reshape(rows * length, one.shape[1], -1)
            for one in (query, key, value)
        ]
        repeat = flat[0].shape[1] // flat[1].shape[1]
        if repeat > 1:
            flat[1:] = [one.repeat_interleave(repeat, 1) for one in flat[1:]]
        ends = torch.arange(0, (rows + 1) * length, length, device=query.device, dtype=torch.int32)
        out = varlen_attn(*flat, ends, ends, length, length, scale=scaling, window_size=(-1, 0))
        return out.view(rows, length, query.shape[1], -1), None

    AttentionInterface.register("grid_varlen", attend)
    AttentionMaskInterface.register("grid_varlen", lambda *args, **kwargs: None)


def _explain(trainer: Any) -> list[dict[str, Any]]:
    """What is alive at the peak of one more step, by the line of code that asked for it."""
    count = trainer.args.per_device_train_batch_size
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(count)])

    def step() -> None:
        trainer.training_step(trainer.model_wrapped, batch)
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.model.zero_grad()

    return at_peak(step)
