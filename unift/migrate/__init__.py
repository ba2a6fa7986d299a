"""Off a vendor's API before it closes: inventory, record, fetch, plan, train, compare, cut over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unift._lazy import loader

if TYPE_CHECKING:
    from unift.migrate._fetch import Fetched, fetch
    from unift.migrate._folder import migration_folder
    from unift.migrate._inventory import Inventory, inventory
    from unift.migrate._record import Golden, record

_HOMES = {
    "Fetched": "_fetch",
    "Golden": "_record",
    "Inventory": "_inventory",
    "fetch": "_fetch",
    "inventory": "_inventory",
    "migration_folder": "_folder",
    "record": "_record",
}

__all__ = [
    "Fetched",
    "Golden",
    "Inventory",
    "fetch",
    "inventory",
    "migration_folder",
    "record",
]

__getattr__ = loader(__name__, _HOMES)
