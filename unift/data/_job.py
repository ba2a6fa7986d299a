"""One call of `validate`: the files one after the other, then what only all of them can tell."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from unift.data._bill import Bill, bill
from unift.data._deep import Deep
from unift.data._finding import Finding, Report
from unift.data._finding import Path as JsonPath
from unift.data._fit import Fit
from unift.data._lengths import Lengths
from unift.data._limits import Limits
from unift.data._private import Private
from unift.data._scan import CHAT, Scan, Scanned
from unift.data._sink import Sink
from unift.data._tokens import ByCharacters, counter_for
from unift.data._whole import Lines, Signatures
from unift.data.codes import Severity
from unift.data.formats import FORMATS, Format

_FEW = 50
# Beyond this multiple of a limit no estimate is so far off (benchmarks/results/gemini_tokens.md).
_FAR = 2


class Job:
    """One call of `validate`."""

    def __init__(
        self,
        sink: Sink,
        limits: dict[str, Limits],
        asked: bool,
        max_length: int | None,
        epochs: float = 1.0,
        drop: frozenset[str] = frozenset(),
    ) -> None:
        self._sink = sink
        self._limits = limits
        self._asked = asked
        self._max_length = max_length
        self._epochs = epochs
        self._drop = drop
        # Smallest limit first, so that most rows cost one comparison.
        self._token_limits = sorted(
            (one.max_tokens, name) for name, one in limits.items() if one.max_tokens is not None
        )
        lowest = [max_length] if max_length is not None else []
        self._lowest = min([*lowest, *(limit for limit, _ in self._token_limits)], default=None)
        self._exact = False

    def run(
        self,
        files: dict[str, tuple[Path, str]],
        *,
        counter_model: str | None,
        asked: Sequence[str],
        progress: Callable[[int, int], None] | None,
        form: Format | None = None,
        deep: bool = False,
        region: str | None = None,
    ) -> Report:
        counter = counter_for(counter_model, asked)
        self._exact = counter.exact
        total = sum(found.stat().st_size for found, _ in files.values())
        scans: dict[str, Scanned] = {}
        # Tokenizers leave the interpreter lock; estimating by characters does not. This thread
        # counts as well.
        threads = 0 if isinstance(counter, ByCharacters) else len(os.sched_getaffinity(0)) - 1
        pool = ThreadPoolExecutor(threads) if threads else None
        before = 0
        stack = ExitStack()
        deeps: dict[str, Deep] = {}
        try:
            private = stack.enter_context(Private(region)) if deep else None
            for part, (found, shown) in files.items():
                done = before

                def seen(position: int, done: int = done) -> None:
                    if progress is not None:
                        progress(min(done + position, total), total)

                if private is not None:
                    deeps[part] = Deep(shown, private, self._say_at)
                    stack.callback(deeps[part].close)
                signatures = Signatures(shown)
                stack.callback(signatures.table.close)
                scans[part] = Scan(
                    found,
                    signatures,
                    self._sink,
                    counter,
                    pool,
                    seen=seen,
                    counted=self._row_length,
                    on_images=self._row_images,
                    watched=self._lowest,
                    form=form,
                    fit=self._fit,
                    deep=deeps.get(part),
                ).run()
                before += found.stat().st_size
                repeats = self._whole_file(part, found, scans[part])
                if part in deeps:
                    deeps[part].report(self.say, repeats)
            if progress is not None:
                progress(total, total)
            if "validation" in scans:
                self._share(files, scans)
            for part, scanned in scans.items():
                if part != "train":
                    leaks = scans["train"].signatures.report_leaks(scanned.signatures, self)
                    if part in deeps:
                        deeps["train"].report_leaks(deeps[part], self.say, leaks)
        finally:
            stack.close()
            if pool is not None:
                pool.shutdown(cancel_futures=True)
        return self._report(files["train"][1], scans, counter.method, asked, files)

    def _fit(self, form: Format) -> Fit:
        return Fit(self._limits if self._asked else {}, form, self._drop)

    def say(self, code: str, file: str, line: int, message: str) -> None:
        """A finding about rows together (see `_whole.Tell`)."""
        self._sink.add(code, file=file, line=line, message=message)

    def more(self, code: str, count: int) -> None:
        """Findings that are counted only."""
        self._sink.more(code, count)

    @property
    def most(self) -> int:
        """Findings that are kept at most."""
        return self._sink.keep

    def _say_at(self, code: str, file: str, line: int, path: JsonPath, message: str) -> None:
        # No excerpt: it would show what should not be shown.
        self._sink.add(code, file=file, line=line, path=path, message=message)

    def _limit(
        self,
        code: str,
        file: str,
        line: int,
        message: str,
        over: Sequence[str],
        path: str = "",
        fix: str | None = None,
    ) -> None:
        """A limit of some providers: an error for those asked about, else a warning."""
        severity: Severity = "error" if self._asked else "warning"
        self._sink.add(
            code,
            file=file,
            line=line,
            path=(path,) if path else (),
            message=message,
            severity=severity,
            providers=tuple(over),
            fix=fix,
        )

    def _whole_file(self, part: str, found: Path, scanned: Scanned) -> Lines:
        """Findings about the file; answers the lines that repeat another one."""
        repeats = scanned.signatures.report(self)
        self._size(part, found, scanned)
        return repeats

    def _size(self, part: str, found: Path, scanned: Scanned) -> None:
        file = scanned.signatures.file
        rows = scanned.rows
        self._format(file, scanned)
        size = found.stat().st_size
        over = [n for n, one in self._limits.items() if one.max_bytes and size > one.max_bytes]
        if over:
            self._limit("UD702", file, 0, f"The file has {size / 1e6:.0f} MB.", over)
        held = part != "train"
        most = {
            name: (one.max_validation_rows if held else None) or one.max_rows
            for name, one in self._limits.items()
        }
        over = [name for name, limit in most.items() if limit and rows > limit]
        if over and part != "test":
            lowest = min(limit for limit in most.values() if limit)
            self._limit("UD704", file, 0, f"{rows} rows; at most {lowest} are taken.", over)
        over = [n for n, o in self._limits.items() if o.max_image_rows is not None]
        over = [n for n in over if scanned.images > (self._limits[n].max_image_rows or 0)]
        if over and not held:
            lowest = min(self._limits[name].max_image_rows or 0 for name in over)
            message = f"{scanned.images} rows have images; at most {lowest} are taken."
            self._limit("UD704", file, 0, message, over)
        if held or not rows:
            return
        under = [name for name, one in self._limits.items() if rows < one.min_rows]
        if under:
            least = max(self._limits[name].min_rows for name in under)
            message = f"{rows} rows; at least {least} are needed."
            self._limit("UD700", file, 0, message, under)
        elif rows < _FEW:
            self.say("UD701", file, 0, f"{rows} rows are few.")

    def _share(self, files: dict[str, tuple[Path, str]], scans: dict[str, Scanned]) -> None:
        """Validation data may be a part of the training data only."""
        rows, of = scans["validation"].rows, scans["train"].rows
        size, of_size = (files[part][0].stat().st_size for part in ("validation", "train"))
        for name, one in self._limits.items():
            share, most = one.max_validation_share, one.max_validation_bytes
            why = ""
            if share is not None and rows > max(one.many_validation_rows, share * of):
                why = (
                    f"{rows:,} validation rows for {of:,} training rows; above "
                    f"{one.many_validation_rows:,} at most {share:.0%} of them are taken"
                )
            elif most is not None and size > most * of_size:
                why = (
                    f"The validation file has {size:,} bytes, {size / max(of_size, 1):.0%} of the "
                    f"training file's; at most {most:.0%} are taken"
                )
            if why:
                self._limit("UD705", files["validation"][1], 0, f"{why} ({one.source}).", [name])

    def _format(self, file: str, scanned: Scanned) -> None:
        name = scanned.format
        against = [n for n, one in self._limits.items() if name not in one.formats]
        if not scanned.rows or not against:
            return
        # Of rows that are nothing, chat is only what they were taken for.
        if name == CHAT and not (self._asked and scanned.lengths.count):
            return
        message = f"The rows are {name} ({scanned.format_reason})."
        targets = {who: self._limits[who].target(name) for who in against}
        unable = [who for who, to in targets.items() if to is None]
        if unable and not self._asked:
            self._sink.add("UD906", file=file, message=message, severity="warning", providers=())
            return
        if unable:
            # Pairs stay pairs if anybody asked about trains on pairs.
            taken = (one for who in unable for one in self._limits[who].formats)
            kind = FORMATS[name].kind
            to = next((one for one in taken if one in FORMATS and FORMATS[one].kind == kind), None)
            fix = f"unift convert FILE --to {to} --out OUT" if to is not None else None
            self._limit("UD906", file, 0, message, unable, fix=fix)
        message += " unift trains on a converted copy; a vendor's own upload would refuse them."
        if not self._asked:  # then the format that most read is enough
            targets = dict.fromkeys(targets, CHAT)
        for to in dict.fromkeys(one for one in targets.values() if one is not None):
            self._sink.add(
                "UD906",
                file=file,
                message=message,
                fix=f"unift convert FILE --to {to} --out OUT",
                severity="advice",
                providers=tuple(who for who, one in targets.items() if one == to),
            )

    def _row_length(self, file: str, line: int, tokens: int) -> None:
        about = "" if self._exact else "about "

        def firm(limit: int) -> bool:
            # An estimate must not stop a run that may be fine.
            return self._exact or tokens > _FAR * limit

        if self._max_length is not None and tokens > self._max_length:
            self._sink.add(
                "UD703",
                file=file,
                line=line,
                message=f"The row has {about}{tokens} tokens; {self._max_length} are allowed.",
                severity="error" if firm(self._max_length) else "warning",
                providers=(),
            )
        over = [(limit, name) for limit, name in self._token_limits if tokens > limit]
        for limit in sorted({limit for limit, _ in over}):
            names = [name for each, name in over if each == limit]
            cut = [name for name in names if self._limits[name].too_long == "cut"]
            refused = [name for name in names if name not in cut]
            if cut:
                message = (
                    f"The row has {about}{tokens} tokens; what comes after {limit}, the end of "
                    "the answer, is cut off."
                )
                self._length("warning", file, line, message, cut)
            if refused:
                message = f"The row has {about}{tokens} tokens; at most {limit} are taken."
                sure = self._asked and firm(limit)
                self._length("error" if sure else "warning", file, line, message, refused)

    def _length(
        self, severity: Severity, file: str, line: int, message: str, over: Sequence[str]
    ) -> None:
        self._sink.add(
            "UD703", file=file, line=line, message=message, severity=severity, providers=tuple(over)
        )

    def _row_images(self, file: str, line: int, images: int) -> None:
        most = {name: one.max_images for name, one in self._limits.items()}
        for limit in sorted({limit for limit in most.values() if limit is not None}):
            over = [name for name, one in most.items() if one == limit and images > limit]
            if over:
                taken = f"at most {limit} are taken" if limit else "only text is trained on"
                many = "an image" if images == 1 else f"{images} images"
                self._limit("UD403", file, line, f"The row has {many}; {taken}.", over)

    def _bill(self, name: str, training: Lengths, held: Scanned | None) -> Bill | None:
        return bill(
            name,
            self._limits[name],
            training,
            held.lengths if held is not None else None,
            epochs=self._epochs,
            max_length=self._max_length,
        )

    def _report(
        self,
        file: str,
        scans: dict[str, Scanned],
        method: str,
        asked: Sequence[str],
        files: dict[str, tuple[Path, str]],
    ) -> Report:
        rank = {shown: index for index, (_, shown) in enumerate(files.values())}

        def place(finding: Finding) -> tuple[int, int]:
            return rank.get(finding.file, 0), finding.line

        counts = self._sink.severities
        scanned = scans["train"]
        lengths = scanned.lengths
        return Report(
            file=file,
            rows=scanned.rows,
            tokens=lengths.total if lengths.count else None,
            tokens_method=method,
            findings=tuple(sorted(self._sink.findings, key=place)),
            counts=dict(sorted(self._sink.counts.items())),
            verdicts={name: not self._sink.failed[name] for name in asked},
            bills={
                name: charged
                for name in asked
                if (charged := self._bill(name, lengths, scans.get("validation"))) is not None
            },
            refusals={name: dict(sorted(self._sink.failed[name].items())) for name in asked},
            characters=scanned.characters,
            format=scanned.format,
            format_reason=scanned.format_reason,
            longest_row=lengths.longest,
            tokens_per_row=lengths.shares(),
            errors=counts["error"],
            warnings=counts["warning"],
            advice=counts["advice"],
        )
