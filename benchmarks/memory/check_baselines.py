"""Compare the memory formula with every measured run of the catalogue and print the table.

    python benchmarks/memory/check_baselines.py

Every row is printed and written to benchmarks/results, the misses too; the exit status is 1 when a
row is off by more than 15%.
"""

from __future__ import annotations

import sys
from pathlib import Path

from unift import catalog
from unift.estimate import Memory, Shape, estimate_memory

TOLERANCE = 0.15
RESULT = Path(__file__).parents[1] / "results" / "memory_baselines.md"
HEAD = [
    "# Memory: formula against measured peaks",
    "",
    "`python benchmarks/memory/check_baselines.py`. Llama-3.1-8B shape, random weights, one H100",
    "80 GB, measured 2026-11-24 (torch 2.11, transformers 5.17, trl 1.16, peft 0.21). No constant",
    "was fitted to these rows one by one; the allocator slack and the size of the short-lived",
    "tensors were chosen with them in view, so they are no held-out test.",
    "",
]


def estimated(run: catalog.Measured) -> Memory:
    """The estimate for one measured run, from the settings that the run was started with."""
    shape = Shape.from_config(catalog.open_model(run.model).config)
    return estimate_memory(
        shape,
        tuning=run.tuning,
        micro_batch=run.micro_batch,
        length=run.length,
        checkpointing=run.checkpointing,
        packing=run.packing,
        padded=run.padded,
        attention=run.attention,
        kernels=run.kernels,
        optimizer=run.optimizer,
        dropout=run.dropout,
        loss="tiled",
        # Stock TRL casts the adapters of 4-bit models; unift does not.
        adapter_dtype="bf16" if run.tuning == "qlora" else None,
    )


def table() -> tuple[list[str], float]:
    """Markdown lines, one a run, and the largest error of the allocated peak."""
    lines = [
        "| run | measured GiB | estimate | error | reserved | estimate | error | largest term |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    errors: list[float] = []
    for run in catalog.measured():
        memory = estimated(run)
        error = memory.allocated_gib / run.allocated_gib - 1
        reserved = memory.reserved_gib / run.reserved_gib - 1
        errors.append(abs(error))
        name = run.name + (" **MISS**" if abs(error) > TOLERANCE else "")
        lines.append(
            f"| {name} | {run.allocated_gib:.1f} | {memory.allocated_gib:.1f} | {error:+.1%} "
            f"| {run.reserved_gib:.1f} | {memory.reserved_gib:.1f} | {reserved:+.1%} "
            f"| {memory.largest} {memory.terms[memory.largest]:.1f} |"
        )
    lines += [
        "",
        f"{len(errors)} runs, mean error {sum(errors) / len(errors):.1%}, worst {max(errors):.1%}.",
    ]
    return lines, max(errors)


def main(result: Path | None = None) -> int:
    """Print the table, write it to `result` if given; 1 if any run misses the tolerance."""
    lines, worst = table()
    print("\n".join(lines))
    if result is not None:
        result.parent.mkdir(exist_ok=True)
        result.write_text("\n".join([*HEAD, *lines]) + "\n", encoding="utf-8")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main(RESULT))
