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


class Job:
    """One call of `validate`."""

    def __init__(
        self,
        sink: Sink,
        limits: dict[str, Limits],
        asked: bool,
        max_length: int | None,
        epochs: float = 1.0,
    ) -> None:
        self._sink = sink
        self._limits = limits
        self._asked = asked
        self._max_length = max_length
        self._epochs = epochs
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
                    deep=deeps.get(part),
                ).run()
                before += found.stat().st_size
                repeats = self._whole_file(part, found, scans[part])
                if part in deeps:
                    deeps[part].report(self.say, repeats)
            if progress is not None:
                progress(total, total)
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
        if held or not rows:
            return
        under = [name for name, one in self._limits.items() if rows < one.min_rows]
        if under:
            least = max(self._limits[name].min_rows for name in under)
            message = f"{rows} rows; at least {least} are needed."
            self._limit("UD700", file, 0, message, under)
        elif rows < _FEW:
            self.say("UD701", file, 0, f"{rows} rows are few.")

    def _format(self, file: str, scanned: Scanned) -> None:
        name = scanned.format
        against = [n for n, one in self._limits.items() if name not in one.formats]
        if not scanned.rows or not against or (name == CHAT and not self._asked):
            return
        message = f"The rows are {name} ({scanned.format_reason})."
        # Chat in another format is converted when it is trained on.
        able = [n for n in against if CHAT in self._limits[n].formats]
        if FORMATS[name].kind == "chat" and len(able) == len(against):
            message += " unift trains on a converted copy; a vendor's own upload would refuse them."
            self._sink.add(
                "UD906", file=file, message=message, severity="advice", providers=tuple(against)
            )
        elif self._asked:
            # Pairs stay pairs if anybody asked about trains on pairs.
            taken = (one for who in against for one in self._limits[who].formats)
            to = next((one for one in taken if FORMATS[one].kind == FORMATS[name].kind), None)
            fix = f"unift convert FILE --to {to} --out OUT" if to is not None else None
            self._limit("UD906", file, 0, message, against, fix=fix)
        else:
            self._sink.add("UD906", file=file, message=message, severity="warning", providers=())

    def _row_length(self, file: str, line: int, tokens: int) -> None:
        about = "" if self._exact else "about "
        if self._max_length is not None and tokens > self._max_length:
            # An estimate must not stop a run that may be fine.
            self._sink.add(
                "UD703",
                file=file,
                line=line,
                message=f"The row has {about}{tokens} tokens; {self._max_length} are allowed.",
                severity="error" if self._exact else "warning",
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
                firm = self._asked and self._exact
                self._length("error" if firm else "warning", file, line, message, refused)

    def _length(
        self, severity: Severity, file: str, line: int, message: str, over: Sequence[str]
    ) -> None:
        self._sink.add(
            "UD703", file=file, line=line, message=message, severity=severity, providers=tuple(over)
        )

    def _row_images(self, file: str, line: int, images: int) -> None:
        over = [n for n, one in self._limits.items() if one.max_images and images > one.max_images]
        if over:
            most = min(self._limits[name].max_images or 0 for name in over)
            message = f"The row has {images} images; at most {most} are taken."
            self._limit("UD403", file, line, message, over, "messages")

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
