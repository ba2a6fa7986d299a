"""A spec -> every setting of a local run, with where it came from, and proof that the data fits.

Defaults and their sources: LoRA on all attention and MLP projections, learning
rate 2e-4 and NF4 follow Dettmers et al. 2023 (https://arxiv.org/abs/2305.14314, section 4 and
appendix B); 2e-5, cosine and 3 % warm-up for full tuning follow Stanford Alpaca's recipe
(https://github.com/tatsu-lab/stanford_alpaca). Nothing is started or written here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from unift.errors import UsageError
from unift.provider import Plan, Setting
from unift.spec import Method, TrainSpec, typed_options
from unift_local.estimating import plan_estimate
from unift_local.layout import fitted
from unift_local.measuring import Data, measure
from unift_local.models import BaseModelFiles, resolve_model
from unift_local.options import LocalOptions
from unift_local.rundir import running_jobs
from unift_local.settings import Settings, Tunes, adapter_settings, speed_settings

_MAX_LENGTH = 2048  # default cap on row length, tokens
_DENSE_PACK = 512  # under a dense mask, cost grows with the square of a pack's length
_FULL_BYTES = 16  # a weight tuned in fp32: itself, its gradient, two moments
_WORTH_PROBING = 20  # steps; below, memory that is short shows soon enough
_MIN_EVALUATIONS = 10  # per run


def make_plan(spec: TrainSpec, name: str, tunes: Tunes) -> Plan:
    """Resolve every setting of a local run.

    Raises:
        UsageError: A setting that cannot be honoured here, or an unusable model.
        DataError: Rows that cannot be trained on; `findings` names all of them.
        ProviderError: A hub model that cannot be had.
    """
    options = typed_options(LocalOptions, name, spec)
    _refuse(spec, tunes)
    base = resolve_model(spec.model)
    wanted, settings = spec.hyperparameters, Settings()
    keep = options.cache_tokens is not False
    data, fingerprints, files = measure(spec, base, options.trust_remote_code, keep)
    device = _device(settings, options)
    cuda = device == "cuda"
    _precision(settings, options, cuda, tunes)

    rows = len(data.train)
    _lengths(settings, wanted.max_length, data, base)
    batch = settings.take(
        "batch_size",
        wanted.batch_size,
        4 if rows < 200 else 8 if rows < 1000 else 16,
        f"4 below 200 rows, 8 below 1000, 16 above; there are {rows}",
    )
    _layout(settings, wanted.packing, options, data, cuda)
    per_epoch = math.ceil(rows / batch)
    epochs = settings.take("epochs", wanted.epochs, 3.0, "three passes suit most data sets")
    total = settings.take(
        "total_steps",
        wanted.max_steps,
        math.ceil(epochs * per_epoch),
        f"{epochs:g} epochs of {per_epoch} steps ({rows} rows, {batch} a step)",
        "mapping rule",
    )
    settings.take(
        "learning_rate",
        wanted.learning_rate,
        2e-5 if tunes == "full" else 2e-4,
        "2e-5 moves all weights gently" if tunes == "full" else "usual for adapters",
    )
    settings.take("schedule", None, "cosine", "decays to zero without a cliff")
    ratio = settings.take("warmup_ratio", wanted.warmup_ratio, 0.03, "avoids a first jump")
    settings.take(
        "warmup_steps", None, math.ceil(ratio * total), "warmup_ratio of all steps", "mapping rule"
    )
    settings.take("weight_decay", wanted.weight_decay, 0.01, "mild regularisation")
    settings.take("max_grad_norm", None, 1.0, "clips outliers")
    _optimizer(settings, options, base, cuda, tunes)
    if tunes != "full":
        adapter_settings(settings, spec, base)
    speed_settings(settings, options, base, cuda, tunes)
    settings.found = fitted(settings.found, options, base, data, tunes)
    settings.take("seed", wanted.seed, 42, "so that a run can be repeated")
    settings.take(
        "eval_steps",
        options.eval_steps,
        max(1, min(per_epoch, total // _MIN_EVALUATIONS)),
        f"at least {_MIN_EVALUATIONS} evaluations a run, besides one at each epoch's end; "
        "a checkpoint is saved each time",
    )
    settings.take(
        "patience",
        options.patience,
        5,
        "stops after so many evaluations without a new best validation loss",
    )
    settings.take("save_total_limit", options.save_total_limit, 2, "newest ones, besides the best")
    cores = _cores()
    jobs = running_jobs() + 1
    settings.take(
        "threads",
        options.threads,
        max(1, cores // jobs),
        f"{cores} cores shared by {jobs} local run(s); two runs with all cores each are about ten "
        "times slower",
        "hardware",
    )
    settings.take(
        "profile", True if options.profile else None, False, "costs the time of a step or two"
    )
    worth = cuda and total >= _WORTH_PROBING
    settings.take(
        "probe",
        options.probe,
        worth,
        "the largest step runs twice before the first one, so that memory cannot run out later"
        if worth
        else f"two steps more are worth it on a card and from {_WORTH_PROBING} steps on",
    )
    settings.take(
        "trust_remote_code",
        True if options.trust_remote_code else None,
        False,
        "code that comes with a model is not run",
    )
    settings.take(
        "cache_tokens",
        options.cache_tokens,
        True,
        "tokens are kept in UNIFT_HOME by the content of data and tokenizer, so that the run and "
        "its resumptions need not tokenise again",
    )
    warnings: list[str] = []
    if not data.validation:
        warnings.append(
            "There is no validation data: nothing can tell overfitting, the last weights are kept "
            "and the run never stops early."
        )
    values = {one.name: one.value for one in settings.found}
    estimate, unknown = plan_estimate(name, spec.model, base, data, values, fingerprints)
    if unknown:
        warnings.append(unknown)
    return Plan(
        spec=spec,
        settings=tuple(settings.found),
        estimate=estimate,
        fingerprints=fingerprints,
        warnings=tuple(warnings),
        payload={
            "tunes": tunes,
            "base": base.reference,
            "base_folder": str(base.folder),
            "base_complete": base.complete,
            "revision": base.revision,
            "rows": rows,
            "validation_rows": len(data.validation),
            "tokens": sum(data.train),
            "trained_tokens": data.trained,
            "validation_tokens": sum(data.validation),
            "longest_row": data.longest,
            "token_files": data.tokens,
            "steps_per_epoch": per_epoch,
            "checkpoint_bytes": _checkpoint_bytes(base, tunes, settings.found),
            "files": files,
        },
    )


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _refuse(spec: TrainSpec, tunes: Tunes) -> None:
    if spec.method != Method.SFT:
        raise UsageError(
            f"Local training knows method 'sft' only, not '{spec.method}'.",
            code="unsupported_method",
            where="method",
            fix="use method='sft'",
        )
    if spec.hyperparameters.learning_rate_multiplier is not None:
        raise UsageError(
            "A learning rate multiplier has no meaning here: there is no hidden rate to multiply.",
            code="unsupported_setting",
            where="hyperparameters.learning_rate_multiplier",
            fix="set learning_rate, e.g. 2e-4 for adapters or 2e-5 for full tuning",
        )
    given = spec.lora.model_dump(exclude_none=True)
    if tunes == "full" and given:
        raise UsageError(
            f"Full tuning has no adapter, so it cannot use {', '.join(given)}.",
            code="unsupported_setting",
            where=f"lora.{next(iter(given))}",
            fix="use provider 'local-lora', or leave those settings out",
        )
    world = os.environ.get("WORLD_SIZE", "1")
    if world not in ("", "1"):
        raise UsageError(
            f"{world} processes were asked for (WORLD_SIZE), but local training runs in one.",
            code="unsupported_world_size",
            where="WORLD_SIZE",
            fix="call unift without torchrun or accelerate launch",
        )


def _device(settings: Settings, options: LocalOptions) -> str:
    import torch

    has_cuda = torch.cuda.is_available()
    if options.device == "cuda" and not has_cuda:
        raise UsageError(
            "There is no CUDA device that torch can use.",
            code="no_gpu",
            where="options.device",
            fix="install a CUDA build of torch and a driver (nvidia-smi must list a card), or use "
            "device 'cpu'",
        )
    return settings.take(
        "device",
        None if options.device == "auto" else options.device,
        "cuda" if has_cuda else "cpu",
        "one CUDA card is used" if has_cuda else "no CUDA device was found",
        "hardware",
    )


def _precision(settings: Settings, options: LocalOptions, cuda: bool, tunes: Tunes) -> None:
    import torch

    bf16 = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    settings.take(
        "dtype",
        None if options.dtype == "auto" else options.dtype,
        "bf16" if bf16 else "fp32",
        "the card computes in bf16" if bf16 else "fp32 is exact, and bf16 is slow on most CPUs",
        "hardware",
    )
    if tunes == "qlora":
        settings.take("quantization", None, "nf4 + double quantisation", "4 bits a base weight")


def _lengths(settings: Settings, pinned: int | None, data: Data, base: BaseModelFiles) -> None:
    context = base.context
    if pinned is not None and context is not None and pinned > context:
        raise UsageError(
            f"max_length {pinned} is beyond the model's context of {context} tokens.",
            code="bad_setting",
            where="hyperparameters.max_length",
            fix=f"set max_length to at most {context}",
        )
    default = max(min(context or _MAX_LENGTH, _MAX_LENGTH), data.longest)
    settings.take(
        "max_length",
        pinned,
        default,
        f"the model's context is {context or 'unknown'}, the longest row {data.longest} tokens; "
        "no row is ever cut",
        "model",
    )


def _layout(
    settings: Settings, packing: bool | None, options: LocalOptions, data: Data, cuda: bool
) -> None:
    """How the rows of a step are laid out: this changes speed and memory, never the gradients."""
    packed = settings.take("packing", packing, True, "no padding is computed; rows stay apart")
    if not packed and options.pack_length is not None:
        raise UsageError(
            "pack_length has no effect without packing.",
            code="bad_setting",
            where="options.pack_length",
            fix="leave pack_length out, or turn packing on",
        )
    batch = next(one.value for one in settings.found if one.name == "batch_size")
    max_length = next(one.value for one in settings.found if one.name == "max_length")
    mean = sum(data.train) / len(data.train)
    varlen = options.attention in ("auto", "varlen")
    if packed:
        length = settings.take(
            "pack_length",
            options.pack_length,
            max_length if cuda or varlen else min(max_length, _DENSE_PACK),
            "full sequences keep the card busy"
            if cuda
            else "one forward pass for many short rows"
            if varlen
            else "the attention mask is dense, so long packs cost more than they save",
            "hardware",
        )
        micro = settings.take(
            "micro_batch", options.micro_batch, 1, "one packed sequence per forward pass"
        )
        forwards = max(1, math.ceil(batch * mean / (max(length, mean) * micro)))
    else:
        micro = settings.take(
            "micro_batch",
            options.micro_batch,
            min(batch, 4),
            "rows of like length share a forward pass",
        )
        forwards = math.ceil(batch / micro)
    settings.take(
        "accumulation",
        None,
        forwards,
        "forward passes per optimiser step, as many as its rows need"
        + (" (about; packs differ)" if packed else ""),
        "mapping rule",
    )
    settings.take(
        "gradient_checkpointing",
        options.gradient_checkpointing,
        cuda,
        "saves most activation memory" if cuda else "main memory is rarely what is short on CPU",
        "hardware",
    )
    on = settings.found[-1].value
    if not on and (options.checkpointing != "auto" or options.checkpointed_layers is not None):
        raise UsageError(
            "How to checkpoint is chosen, but gradient checkpointing is off.",
            code="bad_setting",
            where="options.checkpointing",
            fix="turn gradient_checkpointing on, or leave the choice out",
        )
    if not on:
        return
    kind = settings.take(
        "checkpointing",
        None if options.checkpointing == "auto" else options.checkpointing,
        "selective" if options.checkpointed_layers is not None else "full",
        "what gradient checkpointing recomputes",
    )
    if kind == "selective":
        settings.take("checkpointed_layers", options.checkpointed_layers, 2**30, "all of them")


def _optimizer(
    settings: Settings, options: LocalOptions, base: BaseModelFiles, cuda: bool, tunes: Tunes
) -> None:
    if options.optimizer == "adamw_8bit" and (tunes != "full" or not cuda):
        raise UsageError(
            "The 8-bit optimiser is for full tuning on a CUDA card; "
            + ("a CPU has no kernel for it." if tunes == "full" else "an adapter is small anyway."),
            code="bad_setting",
            where="options.optimizer",
            fix="leave optimizer out",
        )
    small = tunes == "full" and cuda and base.parameters * _FULL_BYTES > _card_bytes() * 0.9
    names = {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_8bit"}
    settings.take(
        "optimizer",
        names.get(options.optimizer),
        "adamw_8bit" if small else "adamw_torch_fused",
        "weights in fp32 with fp32 moments would not fit on this card"
        if small
        else "AdamW in one kernel per step",
        "hardware" if small else "provider default",
    )


def _card_bytes() -> int:
    import torch

    return torch.cuda.get_device_properties(0).total_memory


def _checkpoint_bytes(base: BaseModelFiles, tunes: Tunes, found: Sequence[Setting]) -> int:
    """Bytes of one checkpoint: fp32 weights that are trained, and AdamW's two moments of them."""
    if tunes == "full":
        trained = base.parameters
    else:
        values = {one.name: one.value for one in found}
        targets = values["targets"]
        names = tuple(targets) if isinstance(targets, list) else base.projections()
        trained = base.adapter_parameters(names, values["rank"])
    return trained * 4 * 3 + 2**20
