"""The user's bucket: rows go up under the name of their content, weights come down and are checked.

Every call may be repeated without harm, because an object is created only where there is none
(``ifGenerationMatch=0``) and read only in the generation that was looked at.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
from google.api_core import exceptions as api
from google.cloud import storage

from unift._home import home
from unift.errors import RunError, UsageError
from unift_google._calls import credentials, kept, politely
from unift_google.site import Site

_BLOCK = 1 << 20
# Below this the SDK sends one request; above, a resumable upload in pieces of this size.
_PIECE = 8 << 20
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def client(project: str) -> Any:
    """The shared SDK client of a project. Any: its annotations deny that retries can be off."""

    def make() -> storage.Client:
        emulator = os.environ.get("STORAGE_EMULATOR_HOST")
        options = {"api_endpoint": emulator} if emulator else None
        return storage.Client(project=project, credentials=credentials(), client_options=options)

    return kept("storage", make, project)


def split(uri: str) -> tuple[str, str]:
    """``gs://bucket/a/b`` -> ("bucket", "a/b").

    Raises:
        UsageError: It is not of that form.
    """
    name, _, rest = uri.removeprefix("gs://").partition("/")
    if not uri.startswith("gs://") or not name:
        raise UsageError(
            f"'{uri}' names nothing in Cloud Storage.", where=uri, fix="give gs://BUCKET/OBJECT"
        )
    return name, rest


def upload(place: Site, uri: str, content: Path) -> None:
    """Put a file there unless the same content is there already."""
    bucket, name = split(uri)
    checksum = crc32c(content)
    holder = client(place.project).bucket(bucket)

    def attempt() -> None:
        there = holder.get_blob(name, retry=None)
        if there is not None and there.crc32c == checksum:
            return
        blob = holder.blob(name, chunk_size=_PIECE)
        with content.open("rb") as file:
            blob.upload_from_file(
                file,
                size=content.stat().st_size,
                content_type="application/jsonl",
                if_generation_match=there.generation if there else 0,
                checksum="crc32c",
                retry=None,
            )

    def settle() -> None:
        try:
            attempt()
        except api.PreconditionFailed:
            attempt()  # it came into being since we looked

    politely(settle)


def objects(place: Site, uri: str) -> list[Any]:
    """Everything under a folder, in the order of the names."""
    bucket, folder = split(uri)
    api_client = client(place.project)

    def listing() -> list[Any]:
        return list(api_client.list_blobs(bucket, prefix=folder.rstrip("/") + "/", retry=None))

    return sorted(politely(listing), key=lambda blob: str(blob.name))


def download_rows(place: Site, uri: str) -> Path:
    """A local copy of rows that are in a bucket, kept for as long as they do not change.

    Raises:
        UsageError: There is no such object.
    """
    bucket, name = split(uri)
    blob = politely(lambda: client(place.project).bucket(bucket).get_blob(name, retry=None))
    if blob is None:
        raise UsageError(
            "There is no such object.", code="file_not_found", where=uri, fix="check the name"
        )
    ending = "".join(Path(name).suffixes[-2:]) or ".jsonl"
    mark = hashlib.sha256(f"{uri} {blob.generation}".encode()).hexdigest()[:24]
    target = home() / "google" / "rows" / f"{mark}{ending}"
    if not target.exists():
        download(blob, target)
    return target


def download(blob: Any, target: Path) -> str:
    """One object into a file, going on where an interrupted download stopped.

    What was downloaded before is kept beside the target under the object's generation, so that
    pieces of two versions never meet. Returns the sha256.

    Raises:
        RunError: The content is not what Cloud Storage says it is.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{blob.generation}.part")

    def attempt() -> None:
        done = part.stat().st_size if part.exists() else 0
        if done > blob.size:
            part.unlink()
            done = 0
        if done == blob.size:
            part.touch()
            return
        with part.open("ab") as file:
            blob.download_to_file(
                file,
                start=done or None,
                raw_download=True,
                if_generation_match=blob.generation,
                checksum=None,  # of a part there is none; the whole is checked below
                retry=None,
            )

    politely(attempt)
    wrong = _mismatch(part, blob)
    if wrong:
        part.unlink()
        raise RunError(
            f"The downloaded file is damaged: its {wrong} is not the one that Cloud Storage has.",
            code="checksum_mismatch",
            where=f"gs://{blob.bucket.name}/{blob.name}",
            fix="fetch it again: unift runs show",
        )
    digest = _hashed(part, hashlib.sha256())
    part.replace(target)
    return digest


def fetch_weights(place: Site, uri: str, folder: Path) -> dict[str, str]:
    """Every file of a folder with trained weights; returns their sha256 by name.

    Raises:
        RunError: There are none, or they are pickles.
    """
    blobs = [blob for blob in objects(place, uri) if not blob.name.endswith("/")]
    _, prefix = split(uri)
    names = {blob.name: blob.name[len(prefix.rstrip("/")) + 1 :] for blob in blobs}
    if not any(name.endswith(".safetensors") for name in names):
        raise RunError(
            "There are no trained weights where the job should have left them.",
            code="no_weights",
            where=uri,
            fix="look there with the Cloud console; unift runs show tries again",
        )
    digests: dict[str, str] = {}
    for blob in blobs:
        name = names[blob.name]
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise RunError(f"'{name}' leads out of the folder.", code="bad_name", where=uri)
        if name.endswith(_PICKLES):
            continue  # optimizer states and the like; a pickle can run any code
        if target.is_file() and _mismatch(target, blob) is None:
            digests[name] = _hashed(target, hashlib.sha256())
        else:
            digests[name] = download(blob, target)
    return digests


def crc32c(path: Path) -> str:
    """CRC-32C of a file as Cloud Storage writes it: base64, big-endian."""
    checksum = google_crc32c.Checksum()
    for block in _blocks(path):
        checksum.update(block)
    return base64.b64encode(checksum.digest()).decode()


def _mismatch(path: Path, blob: Any) -> str | None:
    """Which checksum differs; None if all that there are agree."""
    if path.stat().st_size != blob.size:
        return "size"
    if blob.crc32c and crc32c(path) != blob.crc32c:
        return "crc32c"
    if blob.md5_hash and _hashed(path, hashlib.md5(usedforsecurity=False), True) != blob.md5_hash:
        return "md5"
    return None


def _hashed(path: Path, state: Any, base64_too: bool = False) -> str:
    for block in _blocks(path):
        state.update(block)
    return base64.b64encode(state.digest()).decode() if base64_too else state.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
