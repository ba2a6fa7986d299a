"""Asking a provider for a probe while an estimate is made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from unift.errors import LimitError, UsageError
from unift.estimate._hardware import hardware
from unift.estimate._local import local_row
from unift.estimate._resolve import Base, Workload
from unift.estimate._setup import LocalSettings, Setup
from unift.provider import get_provider
from unift.spec import make_spec
from unift.verbs import Probing


def check_probe(data: str | os.PathLike[str] | None, gpu: str | None) -> None:
    """Refuse what cannot be probed.

    Raises:
        UsageError: No rows, or hardware that is not here.
    """
    if data is None:
        raise UsageError(
            "A probe runs the largest step of a file, but there are only totals.",
            code="bad_setting",
            where="probe",
            fix="give data=FILE, or leave the probe out",
        )
    if gpu is not None and gpu.lower() != "cpu" and hardware(None).gpu != hardware(gpu).gpu:
        raise UsageError(
            f"A probe runs on this machine, which has no {gpu} ({hardware(None).name}).",
            code="bad_setting",
            where="gpu",
            fix="leave gpu out, or leave the probe out",
        )


def probed(
    provider: str,
    model: str,
    base: Base,
    files: tuple[str | os.PathLike[str] | None, str | os.PathLike[str] | None],
    work: Workload,
    settings: LocalSettings,
    wanted: Mapping[str, Any],
) -> LocalSettings:
    """Probe a local training; the settings of its row, which then finds the record.

    Nothing is run for a model that is too large by the formulas: its row says so.
    """
    asked = get_provider(provider)
    if base.shape is None or not isinstance(asked, Probing):
        return settings
    before = local_row(provider, base, work, settings)
    if before.memory is not None and before.usable_gib is not None:
        device = before.memory.device_gib - before.memory.allocated_gib
        if before.memory.low + device > before.usable_gib:
            return settings
    data, validation = files
    options = {provider: {"device": "cpu"}} if (settings.gpu or "").lower() == "cpu" else {}
    spec = make_spec(
        provider=provider,
        model=model,
        data=str(data),
        validation=None if validation is None else str(validation),
        options=options,
        **{
            name: value
            for name, value in wanted.items()
            if not (name in ("rank", "targets") and asked.capabilities(model).tunes == "full")
        },
    )
    try:
        record = asked.probe(asked.plan(spec))
    except LimitError:  # the row says that it does not fit
        return settings
    if record is None:
        return settings
    return replace(settings, setup=Setup(**record["setup"]), subject=record["subject"])
