"""What Google allows for each family of models: one row a family.

Sources: docs.cloud.google.com, "Tune Gemini models by using supervised fine-tuning" (page of
2026-09-25): adapter sizes, locations of Gemini 3, sizes of validation data; google/skills on GitHub
@1af7775 (2026-08-21), agent-platform-tuning: locations, ids, rates and split rules of open models;
google-genai 3.6.1, types.AdapterSize: names of the sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unift import catalog
from unift.errors import UsageError

Mode = Literal["peft", "full"]
ADAPTER_NAMES = {
    1: "ADAPTER_SIZE_ONE",
    2: "ADAPTER_SIZE_TWO",
    4: "ADAPTER_SIZE_FOUR",
    8: "ADAPTER_SIZE_EIGHT",
    16: "ADAPTER_SIZE_SIXTEEN",
    32: "ADAPTER_SIZE_THIRTY_TWO",
}


@dataclass(frozen=True)
class Family:
    """What differs between families.

    Attributes:
        name: As people say it.
        starts: Beginnings of the model ids.
        open: The weights are public, and the tuned ones are written to the user's bucket.
        locations: Where its jobs may run, the preferred one first; None: the vendor does not say.
        serves: Location of the job -> where the tuned model answers, if that is another one.
        adapters: Ranks to choose from.
        methods: How it can be trained.
        data_format: In which rows are uploaded, by method.
        validation_rows: Most validation rows.
        rate: Name of the setting for the learning rate.
        idle: What an endpoint costs that nobody asks anything.
    """

    name: str
    starts: tuple[str, ...]
    open: bool
    locations: tuple[str, ...] | None
    adapters: tuple[int, ...]
    serves: tuple[tuple[str, str], ...] = ()
    validation_rows: int = 5_000

    @property
    def methods(self) -> tuple[str, ...]:
        return ("sft",) if self.open else ("sft", "dpo")

    @property
    def rate(self) -> str:
        return "learning_rate" if self.open else "learning_rate_multiplier"

    def data_format(self, method: str) -> str:
        if self.open:
            return "openai-chat"
        return "gemini-preference" if method == "dpo" else "gemini"

    @property
    def idle(self) -> str:
        # docs.cloud.google.com/vertex-ai, "Deploy generative AI models": tuned Gemini models are
        # deployed to a shared public endpoint; open models to machines of your own.
        if self.open:
            return (
                "the job leaves weights in your bucket and no endpoint; one that you deploy is "
                "billed by the hour of its GPUs, idle or not, until you undeploy it"
            )
        return (
            "the endpoint is a shared one, billed by tokens: idle it costs nothing, and it stays "
            "until you delete it"
        )


_GEMINI_3 = Family(
    "Gemini 3",
    ("gemini-3",),
    False,
    ("us-central1", "europe-west4"),
    (1, 2, 4, 8, 16),
    serves=(("us-central1", "us"), ("europe-west4", "eu")),
)
_GEMINI_PRO = Family("Gemini 2.5 Pro", ("gemini-2.5-pro",), False, None, (1, 2, 4, 8))
_GEMINI = Family("Gemini", ("gemini-",), False, None, (1, 2, 4, 8, 16))
_OPEN = Family(
    "open models",
    (),
    True,
    ("global", "us-central1", "europe-west4", "us-west1", "us-east5", "asia-southeast1"),
    (1, 2, 4, 8, 16, 32),
)
FAMILIES = (_GEMINI_3, _GEMINI_PRO, _GEMINI, _OPEN)
#: Everywhere that unift may have started a job, for looking one up whose plan is not at hand.
LOCATIONS = tuple(dict.fromkeys(place for one in FAMILIES for place in one.locations or ()))
DEFAULT_LOCATION = "us-central1"
#: Bytes of validation data per byte of training data, open models: an 80/20 split is refused.
OPEN_VALIDATION_BYTES = 0.25
#: Gemini: with more than so many validation rows, at most this share of the training rows.
GEMINI_MANY_ROWS, GEMINI_SHARE = 1_000, 0.30


def family_of(model: str) -> Family:
    """The family of a model id, of a tuned model (``projects/...``), or of an open model."""
    if "@" in model and "/" in model and not model.startswith("projects/"):
        return _OPEN
    if model.startswith("projects/"):
        return _GEMINI  # only Gemini can be tuned on from a tuned model
    return next((one for one in FAMILIES if one.starts and model.startswith(one.starts)), _OPEN)


def base_id(model: str) -> str:
    """The vendor's id for a model that may be named by its hub id, e.g. Qwen/Qwen3-8B.

    Raises:
        UsageError: Google does not tune it; the nearest one is in `fix`.
    """
    if model.startswith("projects/") or "@" in model:
        return model
    try:
        return catalog.model(model, "google").id
    except UsageError as error:
        if model.startswith("gemini-") and any(
            model.startswith(one.id) for one in catalog.models("google") if one.methods
        ):
            return model  # a dated version of a known model, e.g. gemini-2.5-flash-001
        raise UsageError(
            f"Google does not tune '{model}'.",
            code="model_not_trainable",
            where="model",
            fix=error.fix,
        ) from error


def entry(model: str) -> catalog.VendorModel | None:
    """What the catalogue knows of a model, or of the one that it is a version of."""
    known = [one for one in catalog.models("google") if model.startswith(one.id)]
    exact = [one for one in known if model in (one.id, one.hub_id)]
    return max(exact or known, key=lambda one: len(one.id), default=None)


def nearest_rank(rank: int, allowed: tuple[int, ...]) -> int:
    """The allowed size closest to a rank; of two equally close ones the larger."""
    return min(allowed, key=lambda size: (abs(size - rank), -size))


def open_mode(model: str, wanted: Mode | None) -> Mode:
    """How an open model is trained: as wanted if Google offers it, else an adapter if it can.

    Raises:
        UsageError: Google does not offer the wanted way for this model.
    """
    known = entry(model)
    tunes = known.tunes if known and known.tunes else ("lora", "full")
    offered: tuple[Mode, ...] = tuple("peft" if one == "lora" else "full" for one in tunes)
    if wanted is None:
        return "peft" if "peft" in offered else "full"
    if wanted not in offered:
        raise UsageError(
            f"Google trains '{model}' by {' and '.join(offered)} only.",
            code="unsupported_setting",
            where="options.google.mode",
            fix=f"leave it out, or set mode={offered[0]}; local-lora and local-full take any model",
        )
    return wanted


def open_rate(model: str, mode: Mode) -> float:
    """Recommended absolute rate of an open model (google/skills, references/models.md)."""
    if mode == "full":
        return 1e-5  # the lower end of 1e-5 to 7.5e-5
    if "70b" in model:
        return 5e-5
    return 2e-5 if "scout" in model else 2e-4
