"""Step 3: training data, results and settings, taken home and checked.

In the folder: ``ID-NAME`` for each file, ``JOB.settings.json`` for each job, and ``fetch.json``,
the manifest. A file is in the manifest only after it is whole on the disk, so that a fetch that was
broken off goes on where it stopped, in the middle of a file too.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from unift.errors import ProviderError, UniftError, UsageError
from unift.holdings import HeldFile, HeldJob
from unift.migrate._files import sha256, write_json
from unift.migrate._inventory import Inventory
from unift.migrate._inventory import inventory as look
from unift.migrate._source import parse_source
from unift.spec import Frozen
from unift.verbs import Inventoried

MANIFEST = "fetch.json"
_TRIES = 4  # at one file whose connection breaks before anything came
_CLOSE = 0.1  # our count of tokens and the vendor's may differ so much: images, hidden formatting
Role = Literal["training", "validation", "result", "weights", "other"]
Progress = Callable[[int, int], None]


class FetchedFile(Frozen):
    """One file at home.

    `bytes` is the vendor's count, `verified` says that it was met and every row could be read;
    `sha256` is of the file as it lies here. `checks` says what was compared with what.
    """

    file: str
    id: str
    purpose: str
    roles: dict[str, Role] = Field(default_factory=dict[str, Role])
    sha256: str
    bytes: int
    rows: int | None = None
    encoding: Literal["plain", "base64"] = "plain"
    verified: bool = True
    checks: tuple[str, ...] = ()


class Missing(Frozen):
    """One file that stays there, and why."""

    id: str
    name: str
    jobs: tuple[str, ...]
    why: str


class Fetched(Frozen):
    """The manifest. `settings`: job -> file with all that the vendor says of it."""

    provider: str
    account: str
    folder: str
    files: tuple[FetchedFile, ...] = ()
    settings: dict[str, str] = Field(default_factory=dict[str, str])
    missing: tuple[Missing, ...] = ()

    @property
    def verified(self) -> bool:
        """Everything that there is came, and is what the vendor says it is."""
        return not self.missing and all(file.verified for file in self.files)

    def path(self, job: str, role: Role) -> Path | None:
        """The training, validation or result file of a job."""
        for file in self.files:
            if file.roles.get(job) == role:
                return Path(self.folder) / file.file
        return None

    def as_dict(self) -> dict[str, Any]:
        """The ``--json`` shape."""
        return {**self.model_dump(mode="json"), "verified": self.verified}

    @classmethod
    def read(cls, folder: str | Path) -> Fetched | None:
        """The manifest of a folder; None if there is none that can be read."""
        try:
            return cls.model_validate_json((Path(folder) / MANIFEST).read_bytes())
        except (OSError, ValidationError):
            return None


def fetch(
    what: Inventory | str,
    folder: str | Path,
    *,
    everything: bool = False,
    progress: Progress | None = None,
) -> Fetched:
    """Download training, validation and result files and the settings of jobs.

    Args:
        what: An inventory: the files of all its jobs. Or a model, ``openai:MODEL``: the files of
            its job; a provider or an address: of all jobs that it has now.
        folder: Where they go.
        everything: Also files that no job names.
        progress: Called with (bytes there, bytes in all).

    Raises:
        UsageError: The source or the model is unknown, or the folder cannot be written.
        ProviderError: The vendor cannot be reached. What was fetched is kept.
    """
    if isinstance(what, Inventory):
        held, model = what, None
    else:
        held, model = look(what), parse_source(what).model
    keeper = parse_source(held.source).keeper
    target = Path(folder).expanduser().absolute()
    jobs = _jobs(held, model)
    known = {file.id: file for file in held.holdings.files}
    roles = _roles(jobs, known)
    wanted = [known.get(id) or HeldFile(id=id, jobs=tuple(roles[id])) for id in roles]
    if everything:
        wanted += [file for file in held.holdings.files if file.id not in roles]
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(target, error) from error
    return _Fetch(held, keeper, target, roles, progress).run(wanted, jobs)


def _jobs(held: Inventory, model: str | None) -> list[HeldJob]:
    if model is None:
        return list(held.holdings.jobs)
    job = held.job_of(model)
    if job is None:
        listed = ", ".join(one.id for one in held.holdings.models[:5]) or "none"
        raise UsageError(
            f"The vendor lists no job that made '{model}'.",
            code="unknown_model",
            where="source",
            fix=f"unift migrate inventory lists what there is: {listed}",
        )
    return [job]


def _roles(jobs: Iterable[HeldJob], known: dict[str, HeldFile]) -> dict[str, dict[str, Role]]:
    """File -> job -> what it is to the job."""
    roles: dict[str, dict[str, Role]] = {}
    for job in jobs:
        if job.training_file:
            roles.setdefault(job.training_file, {})[job.id] = "training"
        if job.validation_file:
            roles.setdefault(job.validation_file, {})[job.id] = "validation"
        for id in job.result_files:
            roles.setdefault(id, {})[job.id] = "result"
        for file in known.values():
            if job.id in file.jobs and file.id not in roles:
                roles[file.id] = {job.id: "weights" if file.purpose == "weights" else "other"}
    return roles


class _Fetch:
    def __init__(
        self,
        held: Inventory,
        keeper: Inventoried,
        folder: Path,
        roles: dict[str, dict[str, Role]],
        progress: Progress | None,
    ) -> None:
        self.held, self.keeper, self.folder, self.roles = held, keeper, folder, roles
        self.progress = progress
        self.done = self.total = 0
        before = Fetched.read(folder)
        self.files = {file.id: file for file in before.files} if before else {}
        self.settings = dict(before.settings) if before else {}
        self.missing: list[Missing] = []

    def run(self, wanted: list[HeldFile], jobs: list[HeldJob]) -> Fetched:
        for job in jobs:
            name = f"{_plain(job.id)}.settings.json"
            write_json(self.folder / name, job.model_dump(mode="json"))
            self.settings[job.id] = name
        self.total = sum(file.bytes or 0 for file in wanted)
        for file in wanted:
            if file.downloadable is False:
                self._miss(file, file.note)
                continue
            try:
                self.files[file.id] = self._one(file)
            except ProviderError as error:
                if error.code in ("no_key", "bad_key", "unreachable", "broken_off"):
                    self._write()
                    raise
                self._miss(file, error.message)
            self._write()
        return self._write()

    def _miss(self, file: HeldFile, why: str) -> None:
        if file.id not in self.files:
            self.missing.append(Missing(id=file.id, name=file.name, jobs=file.jobs, why=why))

    def _write(self) -> Fetched:
        manifest = Fetched(
            provider=self.held.holdings.provider,
            account=self.held.holdings.account,
            folder=str(self.folder),
            files=tuple(self.files.values()),
            settings=self.settings,
            missing=tuple(self.missing),
        )
        write_json(self.folder / MANIFEST, manifest.model_dump(mode="json"))
        return manifest

    # --- one file -----------------------------------------------------------------------------

    def _one(self, file: HeldFile) -> FetchedFile:
        roles = self.roles.get(file.id, {})
        there = self.files.get(file.id)
        home = self.folder / there.file if there else None
        if there and home and home.is_file() and there.sha256 == sha256(home):
            self._count(file.bytes or 0)
            return there.model_copy(update={"roles": {**there.roles, **roles}})
        name = f"{_plain(file.id)}-{_plain(file.name or 'file')}"
        part = self.folder / f".{name}.part"
        size = self._download(file, part)
        checks: list[str] = []
        verified = True
        if file.bytes is not None:
            verified = size == file.bytes
            checks.append(f"{size:,} of {file.bytes:,} bytes")
        encoding: Literal["plain", "base64"] = "plain"
        if file.purpose == "fine-tune-results" and _decode(part):
            encoding = "base64"
            checks.append("was base64, lies here as plain CSV")
        rows, readable = _rows(part, name)
        if rows is not None:
            checks.append(f"{rows:,} rows" + ("" if readable else ", not all of them can be read"))
        digest = sha256(part)
        part.replace(self.folder / name)
        verified = verified and readable
        for job, role in roles.items():
            if role == "training":
                fits, said = self._against_job(job, self.folder / name)
                verified = verified and fits
                checks += [said] if said else []
        return FetchedFile(
            file=name,
            id=file.id,
            purpose=file.purpose,
            roles=roles,
            sha256=digest,
            bytes=size,
            rows=rows,
            encoding=encoding,
            verified=verified,
            checks=tuple(checks),
        )

    def _download(self, file: HeldFile, part: Path) -> int:
        """Bytes of the whole file; goes on where an earlier try stopped."""
        tries = 0
        while True:
            start = part.stat().st_size if part.exists() else 0
            if file.bytes is not None and start >= file.bytes > 0:
                if start == file.bytes:
                    return start
                start = 0
            try:
                return self._pull(file, part, start)
            except OSError as error:
                raise _unwritable(part, error) from error
            except ProviderError as error:
                # As long as bytes come, it goes on; without any, only so often.
                came = part.exists() and part.stat().st_size > start
                tries = 0 if came else tries + 1
                if error.code != "broken_off" or tries == _TRIES:
                    raise

    def _pull(self, file: HeldFile, part: Path, start: int) -> int:
        self._count(start)
        size = start
        with part.open("ab" if start else "wb") as out:
            for piece in self.keeper.content(file, start):
                out.write(piece)
                size += len(piece)
                self._count(len(piece))
            out.flush()
            os.fsync(out.fileno())
        if file.bytes is not None and size < file.bytes:
            raise ProviderError(
                f"The file ended after {size:,} of {file.bytes:,} bytes.",
                code="broken_off",
                where=f"file {file.id}",
                fix="fetch again; it goes on where it stopped",
            )
        return size

    def _count(self, more: int) -> None:
        self.done += more
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total)

    def _against_job(self, id: str, path: Path) -> tuple[bool, str]:
        """Our count of tokens against what the vendor says that it trained on and billed."""
        job = next((one for one in self.held.holdings.jobs if one.id == id), None)
        epochs = job.settings.get("n_epochs") if job else None
        if job is None or job.trained_tokens is None or not isinstance(epochs, int | float):
            return True, ""
        from unift.data import validate

        provider = self.held.holdings.provider
        try:
            report = validate(str(path), provider=provider, model=job.base)
        except UniftError as error:
            return True, f"tokens not counted: {error.message}"
        ours = (report.billed.get(provider) or report.tokens or 0) * epochs
        if not ours:
            return True, "tokens not counted"
        off = ours / job.trained_tokens - 1 if job.trained_tokens else 1.0
        said = (
            f"{ours:,.0f} tokens in {epochs:g} epochs by our count, {job.trained_tokens:,} trained "
            f"by the job {id} ({off:+.1%})"
        )
        if abs(off) > _CLOSE:
            said += "; more than a tenth apart, so look whether this is the file that was trained"
        return True, said


def _plain(name: str) -> str:
    """A name from the vendor as a file name: no folders, no surprises."""
    return re.sub(r"[^\w.-]+", "_", name).strip(".")[-120:] or "file"


def _decode(path: Path) -> bool:
    """The vendor serves some result files as base64 of the CSV; put the CSV in its place."""
    raw = path.read_bytes()
    if b"step" in raw.partition(b"\n")[0]:
        return False
    try:
        text = base64.b64decode(raw, validate=False)
    except binascii.Error:
        return False
    if b"step" not in text.partition(b"\n")[0]:
        return False
    with path.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return True


def _rows(path: Path, name: str) -> tuple[int | None, bool]:
    """Rows of a JSONL or CSV file, and whether all can be read; None for anything else."""
    if not name.endswith((".jsonl", ".csv", ".json")):
        return None, True
    count, readable = 0, True
    for line in _lines(path):
        if line.strip():
            count += 1
            if name.endswith(".jsonl"):
                try:
                    json.loads(line)
                except ValueError:
                    readable = False
    return (max(0, count - 1) if name.endswith(".csv") else count), readable


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"The file cannot be written: {error.strerror}.",
        code="unwritable",
        where=str(path),
        fix="make room or give another folder; what was fetched is kept",
    )
