"""Who speaks this API, and in which dialect: one row a host."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import urlsplit

from unift.errors import ProviderError, UsageError
from unift.provider import State

# Every word of the SDK's own enumeration (openai 3.57, types/fine_tuning/fine_tuning_job.py), and
# the two that the OpenAPI document shows in its example of a pause. A word that is not here is
# shown as it is and taken as not finished.
WORDS: Mapping[str, State] = {
    "validating_files": State.QUEUED,
    "queued": State.QUEUED,
    "running": State.RUNNING,
    "pausing": State.RUNNING,
    "paused": State.PAUSED,
    "succeeded": State.SUCCEEDED,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
}


@dataclass(frozen=True)
class Host:
    """What differs between hosts.

    Attributes:
        base_url: Where it answers; None: the user has to say.
        base_url_env: Variables that hold it, the first one set counts.
        key_env: Variables that hold the key.
        learning_rate: What the field ``learning_rate_multiplier`` means there.
        placement: Where hyperparameters go: under ``method``, or in the older top-level field.
        extra: Settings of a spec -> the host's own hyperparameter keys.
        keeps_metadata: It stores a job's metadata and filters by it. Where it does not, the token
            travels in the name of the training file.
        pauses: It can pause and resume a job.
        weights: Checkpoints are files to download.
        priced: Prices and dates of the catalogue apply.
        settle_seconds: After this long a created job is certainly in the list of jobs.
    """

    name: str
    base_url: str | None
    base_url_env: tuple[str, ...]
    key_env: tuple[str, ...]
    methods: tuple[str, ...] = ("sft",)
    learning_rate: Literal["multiplier", "absolute"] = "multiplier"
    placement: Literal["method", "top"] = "method"
    extra: Mapping[str, str] = field(default_factory=dict[str, str])
    keeps_metadata: bool = False
    pauses: bool = False
    weights: bool = False
    priced: bool = True
    settle_seconds: float = 120.0
    words: Mapping[str, State] = field(default_factory=lambda: WORDS)


OPENAI = Host(
    name="openai",
    base_url="https://api.openai.com/v1",
    base_url_env=("OPENAI_BASE_URL",),
    key_env=("OPENAI_API_KEY",),
    methods=("sft", "dpo"),  # reinforcement went with o4-mini on 2026-10-23
    keeps_metadata=True,
    pauses=True,
)
# learn.microsoft.com, "Fine-tuning - Create Fine Tuning Job" (v1), which has no metadata filter.
AZURE = Host(
    name="azure",
    base_url=None,
    base_url_env=("AZURE_OPENAI_BASE_URL", "AZURE_OPENAI_ENDPOINT"),
    key_env=("AZURE_OPENAI_API_KEY",),
    methods=("sft", "dpo", "rft"),
    pauses=True,
)
# docs.crusoecloud.com/serverless-fine-tuning: "returns LoRA adapter checkpoints".
CRUSOE = Host(
    name="crusoe",
    base_url="https://api.intelligence.crusoecloud.com/v1",
    base_url_env=("CRUSOE_BASE_URL",),
    key_env=("CRUSOE_API_KEY",),
    weights=True,
)
# docs.studio.nebius.com, API reference "List fine-tuning checkpoints" (`result_files`); the names
# of the extra keys and the absolute rate: nebius-finetune on skills.sh.
NEBIUS = Host(
    name="nebius",
    base_url="https://api.tokenfactory.nebius.com/v1",
    base_url_env=("NEBIUS_BASE_URL",),
    key_env=("NEBIUS_API_KEY",),
    learning_rate="absolute",
    placement="top",
    extra={
        "rank": "lora_r",
        "alpha": "lora_alpha",
        "dropout": "lora_dropout",
        "packing": "packing",
        "warmup_ratio": "warmup_ratio",
        "weight_decay": "weight_decay",
    },
    weights=True,
)
HOSTS: Mapping[str, Host] = {host.name: host for host in (OPENAI, AZURE, CRUSOE, NEBIUS)}


@dataclass(frozen=True)
class Site:
    """A host at an address."""

    host: Host
    url: str

    @property
    def own(self) -> bool:
        """True for the host's public address, False for somebody else who speaks its API."""
        return self.host.base_url is None or self.url == self.host.base_url

    @property
    def loopback(self) -> bool:
        return urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")

    def key(self) -> str:
        """The key for this address. A vendor's key goes to nobody else unless the user said so
        by naming the address in that vendor's own variable.

        Raises:
            ProviderError: There is none.
        """
        names: tuple[str, ...] = self.host.key_env
        if not self.own:
            trusted = self.url in {_plain(os.environ.get(v, "")) for v in self.host.base_url_env}
            names = ("UNIFT_API_KEY", *(self.host.key_env if trusted else ()))
        for name in names:
            if os.environ.get(name):
                return os.environ[name]
        if self.loopback:
            return "none"  # a server of one's own may ask for no key
        raise ProviderError(
            f"There is no API key for {self.url}.",
            code="no_key",
            where="environment",
            fix=f"export {names[0]}=...",
        )


def site(name: str, base_url: str | None = None, metadata: bool | None = None) -> Site:
    """The host of that name, at its own address or at another one.

    Args:
        base_url: The user's choice; None: the environment's, else the host's own.
        metadata: Whether it keeps metadata; None: as the table says, no for strangers.

    Raises:
        UsageError: There is no address, or it is none.
    """
    host = HOSTS[name]
    url = _plain(base_url or "")
    for variable in () if url else host.base_url_env:
        url = url or _plain(os.environ.get(variable, ""))
    url = url or host.base_url or ""
    if name == "azure" and url and not url.endswith("/v1"):
        url += "/openai/v1"
    if not urlsplit(url).hostname or urlsplit(url).scheme not in ("http", "https"):
        raise UsageError(
            f"'{url}' is no address." if url else f"Provider '{name}' needs an address.",
            code="bad_base_url",
            where=f"options.{name}.base_url",
            fix=f"export {host.base_url_env[0]}=https://..., or set the option base_url",
        )
    found = Site(host, url)
    if not found.own:
        # Somebody else: no prices, no dates, and metadata only if the user vouches for it.
        methods = ("sft", "dpo")
        host = replace(host, keeps_metadata=False, priced=False, methods=methods)
    if metadata is not None:
        host = replace(host, keeps_metadata=metadata)
    return Site(host, url)


def _plain(url: str) -> str:
    return url.strip().rstrip("/")
