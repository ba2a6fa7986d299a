"""Prices, limits, shutdown dates, GPUs and model shapes, each with its source and its day.

The shipped facts lie in ``data/``; a file of the user's own (``catalog.json`` in ``UNIFT_HOME``, or
``UNIFT_CATALOG``) replaces them entry by entry. Nothing is read before the first look-up.
"""

from unift.catalog._load import load, measured
from unift.catalog._lookup import (
    TrainPrice,
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
    vendor,
)
from unift.catalog._schema import (
    STALE_AFTER_DAYS,
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
    SizePrice,
    TokenPrice,
    Vendor,
    VendorModel,
)
from unift.catalog._update import Update, update

__all__ = [
    "STALE_AFTER_DAYS",
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
    "SizePrice",
    "TokenPrice",
    "TrainPrice",
    "Update",
    "Vendor",
    "VendorModel",
    "charges_by_size",
    "events",
    "gpu",
    "gpus",
    "limits",
    "load",
    "measured",
    "model",
    "models",
    "open_model",
    "price",
    "providers",
    "update",
    "vendor",
]
