"""`unift.estimate`: one row for every way to train, side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

# `import unift` imports this module, so the formulas and the catalogue wait for the first call.
if TYPE_CHECKING:
    from unift.estimate._resolve import Workload
    from unift.estimate._row import Row


@dataclass(frozen=True, slots=True)
class Estimate:
    """The table, and where the API and a GPU of one's own cost the same."""

    rows: tuple[Row, ...]
    break_even: dict[str, Any] | None = field(default=None)

    def as_dict(self) -> dict[str, Any]:
        """The ``--json`` document of ``unift estimate``."""
        return {"rows": [row.as_dict() for row in self.rows], "break_even": self.break_even}

    def row(self, provider: str) -> Row:
        """The first row of a provider; KeyError if there is none."""
        for row in self.rows:
            if row.provider == provider:
                return row
        raise KeyError(provider)


def estimate(
    *,
    model: str,
    data: str | os.PathLike[str] | None = None,
    validation: str | os.PathLike[str] | None = None,
    tokens: float | None = None,
    rows: int | None = None,
    epochs: float = 3.0,
    providers: Sequence[str] | str | None = None,
    gpu: str | None = None,
    usd_per_hour: float | None = None,
    watts: float | None = None,
    usd_per_kwh: float | None = None,
    rank: int = 16,
    targets: Sequence[str] | None = None,
    batch_size: int | None = None,
    max_length: int | None = None,
    method: Literal["sft", "dpo", "rft"] = "sft",
    traffic: int | Mapping[str, float] | None = None,
    probe: bool = False,
) -> Estimate:
    """Will it fit, how long will it take, what will it cost: for every provider asked.

    Args:
        model: ``demo``, a folder with a config.json, a hub id, or a vendor's model id.
        data: Chat JSONL of one epoch (or ``demo:train``), counted as each provider counts.
        validation: Validation rows, evaluated ten times a run locally and billed where a vendor
            bills them.
        tokens: Tokens of one epoch, instead of `data`.
        rows: Rows of one epoch, with `tokens`; alone, 350 tokens a row are assumed.
        epochs: Passes over the data.
        providers: Names, or None or ``"all"`` for every one that trains this model.
        gpu: For local training, such as ``"h100"``; ``"cpu"`` for none; None for what is present.
        usd_per_hour: What an hour of that hardware costs, instead of the catalogue's offers.
        watts: Draw of hardware you own, with `usd_per_kwh` for its electricity.
        usd_per_kwh: Price of electricity.
        rank: Of the adapter.
        targets: Projections that get an adapter, in local training; None for all that can.
        batch_size: Rows per optimiser step; None for 4 to 16 by the number of rows.
        max_length: Tokens that the longest row may have; None for the longest row of the data.
        method: ``sft``, ``dpo`` or ``rft`` (changes vendors' prices).
        traffic: Answers per month, or a mapping with ``answers_per_month``, ``prompt_tokens``,
            ``answer_tokens``, for the price of running the model and the break-even.
        probe: Run the largest step of each local training twice on this machine's device first
            (seconds, and the model must be here or is downloaded); what it measures is kept, and
            corrects later estimates for this device and these libraries, too.

    Returns:
        Rows in the order of `providers`; a provider that cannot train the model gets a row that
        says why, and, if it was asked for by name, rows for what it trains instead.

    Raises:
        UsageError: An unknown model, provider or GPU (the nearest name is given), or a bad number.
        DataError: The data cannot be counted.
    """
    from unift import catalog
    from unift.estimate._break_even import break_even, make_traffic
    from unift.estimate._local import local_row
    from unift.estimate._probing import check_probe, probed
    from unift.estimate._resolve import (
        check_numbers,
        choose_providers,
        count,
        counter_model,
        find_base,
        local_providers,
    )
    from unift.estimate._setup import LocalSettings
    from unift.estimate._vendor import vendor_rows

    check_numbers(
        {
            "tokens": tokens,
            "rows": rows,
            "epochs": epochs,
            "rank": rank,
            "batch_size": batch_size,
            "max_length": max_length,
        },
        {"usd_per_hour": usd_per_hour, "watts": watts, "usd_per_kwh": usd_per_kwh},
    )
    base = find_base(model)
    names, named = choose_providers(providers, base)
    answers = make_traffic(traffic)
    if probe:
        check_probe(data, gpu)
    counted: dict[str, Workload] = {}
    # Vendors that count with a public tokenizer of their own, whatever model is being compared.
    own = {one.id for one in catalog.providers() if one.tokens and not one.tokens.stand_in}
    found: list[Row] = []
    for name in names:
        counter = counter_model(name, base) if name in own else model
        if counter not in counted:
            counted[counter] = count(data, validation, tokens, rows, model=counter)
        work = counted[counter]
        if name in local_providers():
            settings = LocalSettings(
                epochs=epochs,
                gpu=gpu,
                usd_per_hour=usd_per_hour,
                watts=watts,
                usd_per_kwh=usd_per_kwh,
                rank=rank,
                targets=tuple(targets) if targets else None,
                batch_size=batch_size,
                max_length=max_length,
            )
            if probe:
                wanted = {"epochs": epochs, "batch_size": batch_size, "max_length": max_length}
                wanted |= {"rank": rank, "targets": settings.targets}
                settings = probed(name, model, base, (data, validation), work, settings, wanted)
            found.append(local_row(name, base, work, settings))
        else:
            found += vendor_rows(
                name,
                base,
                work,
                epochs=epochs,
                method=method,
                max_length=max_length,
                substitutes=named,
            )
    work = next(iter(counted.values()), None)
    priced = [row.with_traffic(answers, work) for row in found] if answers and work else found
    return Estimate(tuple(priced), break_even(priced, answers, work))
