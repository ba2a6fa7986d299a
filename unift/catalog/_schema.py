"""What a fact of the catalogue looks like. Every one carries its source and the day it was true.

All prices are US dollars; token prices are per million tokens; dates are ISO days.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from statistics import median
from typing import Any, Literal

from pydantic import Field

from unift.spec import Frozen

# A price older than this is shown with a warning: vendors reprice a few times a year.
STALE_AFTER_DAYS = 60

# The driver and the runtime keep this much of what the driver tool prints as total: torch reports
# 79.1 to 79.2 GiB on a card of 81,559 MiB (79.65 GiB).
DRIVER_RESERVE_GIB = 0.5


class Fact(Frozen):
    """A statement with its origin.

    `verification` says how directly it was read: ``first_party`` (the vendor's own page, package or
    repository), ``first_party_mirror`` (a copy of the vendor's page), ``third_party...`` (somebody
    else says so). `origin` is ``"user"`` for facts from the user's own file.
    """

    source: tuple[str, ...] = Field(min_length=1)
    as_of: date
    verification: str
    note: str = ""
    origin: Literal["unift", "user"] = "unift"

    def age_days(self, today: date | None = None) -> int:
        """Days since the fact was read; never negative."""
        return max(0, ((today or datetime.now(UTC).date()) - self.as_of).days)

    def stale(self, today: date | None = None) -> bool:
        """True when the fact is older than 60 days and should be checked again."""
        return self.age_days(today) > STALE_AFTER_DAYS

    def citation(self, today: date | None = None) -> dict[str, Any]:
        """The source of a figure as the ``--json`` documents show it."""
        return {
            "source": list(self.source),
            "as_of": self.as_of.isoformat(),
            "age_days": self.age_days(today),
            "stale": self.stale(today),
            "verification": self.verification,
            "origin": self.origin,
        }


class TokenPrice(Frozen):
    """Dollars per million tokens; None where the vendor gives no price."""

    input: float | None = Field(default=None, ge=0)
    cached_input: float | None = Field(default=None, ge=0)
    output: float | None = Field(default=None, ge=0)
    batch_input: float | None = Field(default=None, ge=0)
    batch_output: float | None = Field(default=None, ge=0)


class VendorModel(Fact):
    """A model that a vendor trains or serves, with what both cost there."""

    id: str
    provider: str
    hub_id: str | None = Field(default=None, description="the same weights on the Hugging Face hub")
    aliases: tuple[str, ...] = Field((), description="undated names that answer as this snapshot")
    family: str | None = None
    params_b: float | None = Field(
        default=None, gt=0, description="billions of parameters, all experts"
    )
    open_weights: bool = False
    weights_downloadable: bool = False
    methods: tuple[str, ...] = ()
    tunes: tuple[Literal["full", "lora"], ...] = Field((), description="empty: the vendor hides it")
    trainable: Literal["yes", "existing customers", "no"] = "no"
    new_jobs_until: date | None = None
    train_usd_per_1m_tokens: float | None = Field(default=None, ge=0)
    train_usd_per_hour: float | None = Field(default=None, ge=0)
    base_price: TokenPrice | None = None
    tuned_price: TokenPrice | None = None
    max_tokens_per_example: int | None = Field(default=None, gt=0)
    tuned_context_tokens: int | None = Field(default=None, gt=0)
    shutdown_date: date | None = Field(
        default=None, description="the model and its fine-tunes stop"
    )
    replacement: str | None = None


class SizePrice(Fact):
    """A training price by size in billions of total parameters: above_b < size <= up_to_b."""

    provider: str
    above_b: float = Field(ge=0)
    up_to_b: float | None = None
    method: str
    tunes: Literal["full", "lora"]
    usd_per_1m_tokens: float = Field(ge=0)


class Billing(Frozen):
    """How a vendor counts what it charges for."""

    rule: str
    validation: Literal["free", "per evaluation"] = "free"
    unpacked_rows_billed_at_max_length: bool = False
    minimum_usd: float = Field(default=0.0, ge=0, description="least charge of a job")
    hosting_unpriced: bool = Field(
        default=False, description="an hourly fee exists, its rate is unknown"
    )
    fact: Fact


class Hosting(Frozen):
    """What keeping a tuned model answering costs by the hour."""

    usd_per_hour: float = Field(ge=0)
    unit: str
    fact: Fact


class Limits(Frozen):
    """What a vendor accepts. None or empty: not published."""

    min_examples: int | None = None
    max_examples: int | None = None
    upload_max_mb: int | None = None
    max_tokens_per_example: int | None = None
    over_length: str | None = None
    epochs: tuple[int, int] | None = None
    batch_size: tuple[int, int] | None = None
    suffix_max_chars: int | None = None
    validation_rows_max: int | None = None
    validation_max_share_of_train_bytes: float | None = None
    validation_many_rows: int | None = Field(
        None, description="up to so many the next limit is not asked for"
    )
    validation_max_share_of_train_rows: float | None = None
    adapter_sizes: tuple[int, ...] = ()
    images_per_example_max: int | None = None
    image_max_mb: int | None = None
    image_examples_max: int | None = None
    formats: tuple[str, ...] = Field((), description="of rows that are taken as they are")
    formats_converted: tuple[str, ...] = Field(
        (), description="of rows that unift's provider writes anew in one of `formats`"
    )
    fact: Fact


class Tokens(Frozen):
    """How a vendor's tokens are counted without asking it, by an encoding of tiktoken."""

    encoding: str = Field(description="for a model that was not named")
    encodings: dict[str, str] = Field(
        default_factory=dict[str, str], description="start of a model's name -> its encoding"
    )
    stand_in: str | None = Field(None, description="what is said if the real one is not public")
    fact: Fact


class Vendor(Fact):
    """A training service."""

    id: str
    aliases: tuple[str, ...] = ()
    family: tuple[str, ...] = Field((), description="catalogue ids that the plain name stands for")
    alive: bool
    openai_shaped: bool = False
    weights_downloadable: bool | None = None
    learning_rate: str | None = None
    billing: Billing | None = None
    hosting: Hosting | None = None
    limits: Limits | None = None
    tokens: Tokens | None = None
    checks_as: str | None = Field(None, description="id of the vendor whose file checks it has")
    answer_list: str | None = Field(
        None, description="id in genai-prices of the vendor's own price list, never a reseller's"
    )


class Offer(Fact):
    """A rental price of one GPU, on demand, as listed."""

    vendor: str
    usd_per_hour: float = Field(gt=0)
    min_gpus: int = Field(default=1, ge=1)
    hyperscaler: bool = False


class Gpu(Fact):
    """A card: memory, dense bf16 arithmetic without sparsity, bandwidth, rental offers."""

    id: str
    aliases: tuple[str, ...] = ()
    memory_gb: float = Field(gt=0, description="as marketed")
    memory_mib: int = Field(gt=0, description="total that the driver tool prints")
    memory_source: tuple[str, ...] = Field(min_length=1)
    bf16_tflops: float = Field(gt=0)
    bandwidth_gb_s: float | None = Field(default=None, gt=0)
    offers: tuple[Offer, ...] = ()

    @property
    def usable_gib(self) -> float:
        """GiB that a process can allocate, its own CUDA context included."""
        return round(self.memory_mib / 1024 - DRIVER_RESERVE_GIB, 2)

    @property
    def low_usd_per_hour(self) -> float | None:
        """The cheapest listed offer."""
        return min((offer.usd_per_hour for offer in self.offers), default=None)

    @property
    def high_usd_per_hour(self) -> float | None:
        """The dearest listed offer."""
        return max((offer.usd_per_hour for offer in self.offers), default=None)

    @property
    def typical_usd_per_hour(self) -> float | None:
        """Median of the offers outside the hyperscalers, or of all if there is none."""
        pool = [offer.usd_per_hour for offer in self.offers if not offer.hyperscaler]
        pool = pool or [offer.usd_per_hour for offer in self.offers]
        return round(median(pool), 4) if pool else None


class Happening(Fact):
    """Something that a vendor does on a day: a shutdown, the end of new jobs."""

    date: date
    provider: str
    what: str


class OpenModel(Fact):
    """The shape of an open model, in the words of its own ``config.json``."""

    ids: tuple[str, ...] = Field(min_length=1)
    config: dict[str, Any]


class BaseModel(Fact):
    """An open model that one may start from: what its licence allows, what it can read.

    `languages` are ISO 639-1 codes as the model card lists them, `languages_count` how many it
    claims without listing them. `tools`: its chat template has a place for tool declarations.
    """

    id: str
    family: str
    params_b: float = Field(gt=0, description="billions of parameters, all experts")
    context_tokens: int = Field(gt=0, description="without extension of the positions")
    licence: str
    licence_conditions: str = Field(default="", description="empty: any use, commercial too")
    tools: bool
    languages: tuple[str, ...] = ()
    languages_count: int | None = None


class RateRule(Fact):
    """A published formula for the learning rate of an adapter, with one exponent a family."""

    name: str
    formula: str
    families: dict[str, float]


class Measured(Frozen):
    """One measured training run, to check estimates against."""

    name: str
    model: str
    gpu: str
    tuning: Literal["full", "lora", "qlora"]
    micro_batch: int
    length: int
    checkpointing: bool
    packing: bool
    padded: bool
    attention: Literal["sdpa", "varlen", "eager"]
    kernels: Literal["torch", "liger"]
    optimizer: Literal["adamw", "adamw_8bit"]
    dropout: float
    padded_share: float
    real_tokens_per_second: float
    allocated_gib: float
    reserved_gib: float


class Catalog(Frozen):
    """All facts of one file, or of all files together."""

    models: tuple[VendorModel, ...] = ()
    size_prices: tuple[SizePrice, ...] = ()
    providers: tuple[Vendor, ...] = ()
    events: tuple[Happening, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    open_models: tuple[OpenModel, ...] = ()
    bases: tuple[BaseModel, ...] = ()
    rate_rules: tuple[RateRule, ...] = ()
