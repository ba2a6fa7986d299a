"""`validate`: everything that is wrong with training data, at once, before anything is paid."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from unift.data._finding import Report
from unift.errors import UsageError

if TYPE_CHECKING:
    from unift.data.formats import Format

MAX_FINDINGS = 50_000
_MOST_EPOCHS = 1000

FileName = str | os.PathLike[str]


def validate(
    path: FileName,
    *,
    provider: str | Sequence[str] | None = None,
    model: str | None = None,
    validation: FileName | None = None,
    test: FileName | None = None,
    max_length: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    max_findings: int = MAX_FINDINGS,
    fix: FileName | None = None,
    format: str | None = None,
    deep: bool = False,
    epochs: float = 1.0,
    region: str | None = None,
    drop: Iterable[str] = (),
) -> Report:
    """Check training data and everything that is held out from it.

    One streaming pass over each file, in memory that does not grow with it: beyond a million rows
    their hashes (20 bytes a row) lie in the folder for temporary files, and findings are capped.

    Args:
        path: JSON Lines (``.jsonl``, also ``.gz`` and ``.zst``), Parquet, or ``demo:train``.
        provider: Who is to train on it, one or several; sets limits and severities.
        model: What is to be trained: picks the tokenizer (a folder, a hub model that was
            downloaded before, an OpenAI model, ``demo``).
        validation: Held-out rows that are watched while training.
        test: Held-out rows for the final evaluation.
        max_length: Tokens that a row may have; more is an error.
        progress: Called as ``progress(done_bytes, total_bytes)``, over all files.
        max_findings: How many findings to keep; all are counted.
        fix: Write a copy here in which everything is mended that can be mended safely. Each change
            is listed (`Report.fixed`, and a ``.changes.jsonl`` beside the copy); a row that still
            has an error is left out of it, and listed.
        format: Of the rows, such as ``gemini`` (see `unift.data.formats`); None to look.
        deep: Also look for near duplicates (on disk: 260 bytes a row in the folder for temporary
            files), for secrets and personal data, and for answers in another language.
        epochs: Passes over the data, for the tokens that a vendor charges for (`Report.bills`).
        drop: What may be lost where rows have to be converted for a provider, as `unift.convert`
            takes it: ``weights``, ``settings``, ...
        region: With `deep`: where phone numbers may be written without a country code, as ``US``.

    Returns:
        The report. Bad data is no exception here; `Report.raise_if_bad` makes it one.

    Raises:
        UsageError: A file is missing or is a folder; a provider, a format or what may be lost does
            not exist; or `epochs` is no number of passes.
        MissingDependency: A Parquet file and no pyarrow, or `deep` and not ``unift[data]``.
    """
    # Imported here: `import unift` has no use for the decoder and the threads behind this.
    from unift.data._job import Job
    from unift.data._limits import known_limits, limits_of
    from unift.data._lines import find_file
    from unift.data._sink import Sink
    from unift.data.formats import allowed_losses, format_named

    if not 0 < epochs <= _MOST_EPOCHS:
        raise UsageError(
            f"{epochs:g} is no number of passes over the data.",
            code="bad_epochs",
            where="epochs",
            fix="a number above 0, such as 3",
        )
    if region is not None and not deep:
        raise UsageError(
            "Phone numbers are looked for in a deep look only.",
            code="bad_region",
            where="region",
            fix="add --deep (deep=True), or leave the region out",
        )
    form = format_named(format) if format is not None else None
    allowed = allowed_losses(drop)
    asked = (provider,) if isinstance(provider, str) else tuple(provider or ())
    limits = {name: limits_of(name, model) for name in asked}
    families = {name: one.family for name, one in limits.items()}

    def check(
        named: dict[str, FileName | None],
        failed: Callable[[str, int, str], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
        form: Format | None = form,
    ) -> Report:
        files = {
            part: (find_file(name), str(name)) for part, name in named.items() if name is not None
        }
        sink = Sink(families, max_findings, failed)
        known = limits if asked else known_limits()
        job = Job(sink, known, bool(asked), max_length, epochs, allowed)
        return job.run(
            files,
            counter_model=model,
            asked=asked,
            progress=progress,
            form=form,
            deep=deep,
            region=region,
        )

    report = check({"train": path, "validation": validation, "test": test}, progress=progress)
    if fix is None:
        return report
    from unift.data._mend import mend

    fixed = mend(
        find_file(path),
        str(path),
        fix,
        families,
        lambda file, failed, found: check({"train": file}, failed, form=found),
        form,
    )
    return replace(report, fixed=fixed)
