"""Whose project, where, which bucket, with which credentials: each with what to set.

Nothing here talks to a network. The variables are those of Google's own SDKs (google-auth,
google-genai, google-cloud-storage), and UNIFT_GOOGLE_BUCKET, for which Google has no name.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from unift.errors import ProviderError, UsageError
from unift.verbs import Check
from unift_google.families import DEFAULT_LOCATION, Family
from unift_google.options import GoogleOptions

BUCKET = "UNIFT_GOOGLE_BUCKET"
LOGIN = "gcloud auth application-default login"
_KEYS = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
_SETUP = (
    f"{LOGIN}; export GOOGLE_CLOUD_PROJECT=... GOOGLE_CLOUD_LOCATION={DEFAULT_LOCATION} "
    f"{BUCKET}=gs://...; unift doctor checks each"
)
_DMI = Path("/sys/class/dmi/id/product_name")


@dataclass(frozen=True)
class Site:
    """Where to work. `bucket` is ``gs://NAME[/FOLDER]`` without a slash at the end, or None."""

    project: str
    location: str
    bucket: str | None = None

    @property
    def parent(self) -> str:
        return f"projects/{self.project}/locations/{self.location}"

    def at(self, location: str) -> Site:
        return Site(self.project, location, self.bucket)


def credentials_source() -> str | None:
    """Where Google's SDKs will find credentials, in words; None if nowhere."""
    given = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if given:
        return f"GOOGLE_APPLICATION_CREDENTIALS ({given})" if Path(given).is_file() else None
    if _login_file().is_file():
        return f"gcloud ({_login_file()})"
    try:
        # The same sign by which google-auth tells that the metadata server will answer.
        here = _DMI.read_text().strip().startswith("Google")
    except OSError:
        here = False
    return "the metadata server of this Google machine" if here else None


def api_key_name() -> str | None:
    """The variable that holds a key of AI Studio, if one does."""
    return next((name for name in _KEYS if os.environ.get(name)), None)


def check_key() -> None:
    """Say the dead end kindly: a key of AI Studio, and nothing else.

    Raises:
        ProviderError: That is so.
    """
    key = api_key_name()
    if key is not None and credentials_source() is None:
        raise ProviderError(
            f"{key} is a key of Google AI Studio, where no model can be tuned since May 2025. "
            "Tuning exists only on Google Cloud's platform (Vertex AI, now the Gemini Enterprise "
            "Agent Platform), which takes the login of a Cloud project instead of a key.",
            code="api_key_cannot_tune",
            where=key,
            fix=_SETUP,
        )


def missing_credentials() -> ProviderError:
    """The error for no credentials at all, or a file that is not there."""
    given = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    return ProviderError(
        "There are no Google credentials"
        + (f": the file {given} does not exist." if given else " on this machine."),
        code="no_credentials",
        where="GOOGLE_APPLICATION_CREDENTIALS" if given else "environment",
        fix=f"{LOGIN}, or export GOOGLE_APPLICATION_CREDENTIALS=KEYFILE.json",
    )


def project(given: str | None = None) -> str | None:
    """The project: the option, the environment, or what the credentials' file says."""
    named = given or os.environ.get("GOOGLE_CLOUD_PROJECT")
    if named:
        return named
    for file in (os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"), _login_file()):
        try:
            found = json.loads(Path(file or "").read_bytes())
            named = found.get("quota_project_id") or found.get("project_id")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(named, str):
            return named
    return None


def location(given: str | None, family: Family | None = None) -> str:
    """The location: the option, the environment, or what suits the family.

    Raises:
        UsageError: The family is not tuned there.
    """
    asked = given or os.environ.get("GOOGLE_CLOUD_LOCATION")
    allowed = family.locations if family else None
    if asked is None:
        return allowed[0] if allowed else DEFAULT_LOCATION
    if allowed is not None and asked not in allowed:
        raise UsageError(
            f"{family.name if family else 'That model'} cannot be tuned in '{asked}'.",
            code="bad_location",
            where="options.google.location" if given else "GOOGLE_CLOUD_LOCATION",
            fix=f"use one of {', '.join(allowed)}: --option google.location={allowed[0]}",
        )
    return asked


def bucket(given: str | None = None) -> str | None:
    """``gs://NAME[/FOLDER]`` of the option or the environment.

    Raises:
        UsageError: It is not of that form.
    """
    text = (given or os.environ.get(BUCKET) or "").strip().rstrip("/")
    if not text:
        return None
    text = text if "://" in text else f"gs://{text}"
    parts = urlsplit(text)
    if parts.scheme != "gs" or not parts.hostname:
        raise UsageError(
            f"'{text}' is no bucket.",
            code="bad_bucket",
            where="options.google.bucket" if given else BUCKET,
            fix="give gs://NAME or gs://NAME/FOLDER",
        )
    return text


def missing(options: GoogleOptions) -> list[tuple[str, str]]:
    """What is still to be set before a job can start: (what is missing, how to set it)."""
    found: list[tuple[str, str]] = []
    if credentials_source() is None:
        found.append(("credentials", missing_credentials().fix))
    if project(options.project) is None:
        found.append(("a project", "export GOOGLE_CLOUD_PROJECT=..."))
    if bucket(options.bucket) is None:
        found.append(("a bucket", f"export {BUCKET}=gs://..."))
    return found


def checks() -> list[Check]:
    """What `unift doctor` says of the set-up; values are named, secrets never read."""
    key, source, named = api_key_name(), credentials_source(), project()
    place = os.environ.get("GOOGLE_CLOUD_LOCATION")
    try:
        target, wrong = bucket(), ""
    except UsageError as error:
        target, wrong = None, error.message
    # Whoever has set nothing has no use for Google; whoever began wants to know what is missing.
    begun = any((key, source, os.environ.get("GOOGLE_CLOUD_PROJECT"), place, target, wrong))
    missing = False if begun else None
    unset = "" if source else missing_credentials().message
    if key and not source:
        unset = f"only {key}, a key of AI Studio, which tunes nothing"
    lost = "unift train --provider google"

    def check(name: str, found: str | None, lacks: str, fix: str) -> Check:
        ok = True if found else missing
        return Check(
            name=f"google {name}",
            ok=ok,
            detail=found or lacks,
            disables="" if found else lost,
            fix="" if found else fix,
        )

    return [
        check("credentials", source, unset, missing_credentials().fix),
        check("project", named, "not set", "export GOOGLE_CLOUD_PROJECT=..."),
        Check(
            name="google location",
            ok=None,
            detail=place or f"not set: {DEFAULT_LOCATION}, or what suits the model",
            fix="" if place else "export GOOGLE_CLOUD_LOCATION=... to choose another",
        ),
        check("bucket", target, wrong or "not set", f"export {BUCKET}=gs://..."),
    ]


def site(options: GoogleOptions, family: Family | None = None) -> Site:
    """Where to work.

    Raises:
        ProviderError: There is no project, or only a key of AI Studio.
        UsageError: A name has the wrong form, or the family is not tuned there.
    """
    check_key()
    named = project(options.project)
    if named is None:
        raise ProviderError(
            "No Google Cloud project is named.",
            code="no_project",
            where="GOOGLE_CLOUD_PROJECT",
            fix="export GOOGLE_CLOUD_PROJECT=..., or --option google.project=...",
        )
    return Site(named, location(options.location, family), bucket(options.bucket))


def base_url() -> str | None:
    """Another address than Google's, from the variable of Google's own SDK; None: Google's."""
    return os.environ.get("GOOGLE_VERTEX_BASE_URL") or None


def loopback() -> bool:
    """The address is on this machine."""
    host = urlsplit(os.environ.get("GOOGLE_VERTEX_BASE_URL") or "").hostname
    return host in ("127.0.0.1", "localhost", "::1")


def _login_file() -> Path:
    folder = os.environ.get("CLOUDSDK_CONFIG")
    base = Path(folder) if folder else Path.home() / ".config" / "gcloud"
    return base / "application_default_credentials.json"
