"""One file that holds a whole migration, and the proof that nothing in it has changed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from unift.errors import UsageError
from unift.migrate._files import sha256

SUMS = "SHA256SUMS"
_SKIPPED = ("archive", ".lock")


@dataclass(frozen=True)
class Archive:
    """An archive: where it is, its own digest, and how many files and bytes are in it."""

    file: str
    sha256: str
    files: int
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Verified:
    """The outcome of `verify`: what is missing or changed; nothing of it if `ok`."""

    file: str
    files: int
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not (self.changed or self.missing or self.extra)

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}


def archive(folder: Path, name: str, model: Path | None, about: Mapping[str, Any]) -> Archive:
    """Pack a migration's folder and its model into ``archive/NAME.tar.gz``.

    The same files make the same archive, byte for byte. ``SHA256SUMS`` in it has the digest of
    every file (``sha256sum -c SHA256SUMS`` after unpacking), and ``NAME.tar.gz.sha256`` beside it
    that of the archive.

    Raises:
        UsageError: It cannot be written.
    """
    target = folder / "archive" / f"{name}.tar.gz"
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    members = dict(_members(folder, model))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sums: list[str] = []
        with (
            draft.open("wb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            for path in sorted(members):
                sums.append(f"{sha256(members[path])}  {path}\n")
                with members[path].open("rb") as file:
                    _add(tar, f"{name}/{path}", file, members[path].stat().st_size)
            manifest = json.dumps({**about, "files": len(members)}, indent=2, default=str).encode()
            sums.append(f"{hashlib.sha256(manifest).hexdigest()}  manifest.json\n")
            _add(tar, f"{name}/manifest.json", io.BytesIO(manifest), len(manifest))
            listed = "".join(sums).encode()
            _add(tar, f"{name}/{SUMS}", io.BytesIO(listed), len(listed))
        draft.replace(target)
        digest = sha256(target)
        target.with_name(f"{target.name}.sha256").write_text(f"{digest}  {target.name}\n")
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UsageError(
            f"The archive cannot be written: {error.strerror}.",
            code="unwritable",
            where=str(target),
            fix="free disk space, then unift migrate cutover again",
        ) from error
    return Archive(str(target), digest, len(members) + 1, target.stat().st_size)


def verify(path: str | Path) -> Verified:
    """Hold every file of an archive against the digest that it was packed with.

    Raises:
        UsageError: It is no archive of a migration, or damaged so that it cannot be read.
    """
    file = Path(path).expanduser()
    found: dict[str, str] = {}
    wanted: dict[str, str] = {}
    try:
        with tarfile.open(file, "r:gz") as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isfile() else None
                if stream is None:
                    continue
                inside = member.name.partition("/")[2]
                if inside == SUMS:
                    lines = stream.read().decode("utf-8", "replace").splitlines()
                    wanted = {line[66:]: line[:64] for line in lines if line.strip()}
                else:
                    found[inside] = _digest(stream)
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        raise UsageError(
            f"The archive cannot be read: {getattr(error, 'strerror', None) or error}.",
            code="archive_damaged",
            where=str(file),
            fix="take another copy of it",
        ) from error
    if not wanted:
        raise UsageError(
            f"There is no {SUMS} in it, so it is no archive of a migration.",
            code="no_archive",
            where=str(file),
            fix="give the NAME.tar.gz that unift migrate cutover wrote",
        )
    beside = file.with_name(f"{file.name}.sha256")
    changed = [name for name, digest in wanted.items() if name in found and found[name] != digest]
    if beside.is_file() and beside.read_text().split()[:1] != [sha256(file)]:
        changed.append(file.name)
    return Verified(
        str(file),
        len(wanted),
        tuple(changed),
        tuple(sorted(set(wanted) - set(found))),
        tuple(sorted(set(found) - set(wanted))),
    )


def _members(folder: Path, model: Path | None) -> Iterable[tuple[str, Path]]:
    for place, root in (("", folder), ("model", model)):
        if root is None:
            continue
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            if path.is_file() and inside.parts[0] not in _SKIPPED and not _draft(path):
                yield str(Path(place) / inside), path


def _draft(path: Path) -> bool:
    return path.name.startswith(".")


def _add(tar: tarfile.TarFile, name: str, data: IO[bytes], size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    tar.addfile(info, data)


def _digest(stream: IO[bytes]) -> str:
    found = hashlib.sha256()
    while piece := stream.read(1 << 20):
        found.update(piece)
    return found.hexdigest()
