"""Prices, limits, shutdown dates, GPUs and model shapes, each with its source and its day.

The shipped facts lie in ``data/``; a file of the user's own (``catalog.json`` in ``UNIFT_HOME``, or
``UNIFT_CATALOG``) replaces them entry by entry. Nothing is read before the first look-up.
"""

from unift.catalog._answers import answer_price, more_prices
from unift.catalog._load import load, measured
from unift.catalog._lookup import (
    TrainPrice,
    bases,
    charges_by_size,
    events,
    gpu,
    gpus,
    limits,
    model,
    models,
    open_model,
    price,
    providers,
    rate_rules,
    vendor,
)
from unift.catalog._schema import (
    STALE_AFTER_DAYS,
    BaseModel,
    Billing,
    Catalog,
    Fact,
    Gpu,
    Happening,
    Hosting,
    Limits,
    Measured,
    Offer,
    OpenModel,
    RateRule,
    SizePrice,
    TokenPrice,
    Vendor,
    VendorModel,
)
from unift.catalog._update import Update, update

__all__ = [
    "STALE_AFTER_DAYS",
    "BaseModel",
    "Billing",
    "Catalog",
    "Fact",
    "Gpu",
    "Happening",
    "Hosting",
    "Limits",
    "Measured",
    "Offer",
    "OpenModel",
    "RateRule",
    "SizePrice",
    "TokenPrice",
    "TrainPrice",
    "Update",
    "Vendor",
    "VendorModel",
    "answer_price",
    "bases",
    "charges_by_size",
    "events",
    "gpu",
    "gpus",
    "limits",
    "load",
    "measured",
    "model",
    "models",
    "more_prices",
    "open_model",
    "price",
    "providers",
    "rate_rules",
    "update",
    "vendor",
]
