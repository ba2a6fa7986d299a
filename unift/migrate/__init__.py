"""Off a vendor's API before it closes: inventory, record, fetch, plan, train, compare, cut over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unift._lazy import loader

if TYPE_CHECKING:
    from unift.migrate._archive import Verified, verify
    from unift.migrate._compare import Compared
    from unift.migrate._cutover import CutOver
    from unift.migrate._fetch import Fetched, fetch
    from unift.migrate._folder import migration_folder
    from unift.migrate._inventory import Inventory, inventory
    from unift.migrate._migration import Migration, migrate
    from unift.migrate._plan import MigrationPlan
    from unift.migrate._record import Golden, record
    from unift.migrate._spec import STEPS, MigrationSpec
    from unift.migrate._story import Story
    from unift.migrate._switch import Switch
    from unift.migrate._train import Trained

# Loaded on first use: `import unift` needs none of them.
_HOMES = {
    "STEPS": "_spec",
    "Compared": "_compare",
    "CutOver": "_cutover",
    "Fetched": "_fetch",
    "Golden": "_record",
    "Inventory": "_inventory",
    "Migration": "_migration",
    "MigrationPlan": "_plan",
    "MigrationSpec": "_spec",
    "Story": "_story",
    "Switch": "_switch",
    "Trained": "_train",
    "Verified": "_archive",
    "fetch": "_fetch",
    "inventory": "_inventory",
    "migrate": "_migration",
    "migration_folder": "_folder",
    "record": "_record",
    "verify": "_archive",
}

__all__ = [
    "STEPS",
    "Compared",
    "CutOver",
    "Fetched",
    "Golden",
    "Inventory",
    "Migration",
    "MigrationPlan",
    "MigrationSpec",
    "Story",
    "Switch",
    "Trained",
    "Verified",
    "fetch",
    "inventory",
    "migrate",
    "migration_folder",
    "record",
    "verify",
]

__getattr__ = loader(__name__, _HOMES)
