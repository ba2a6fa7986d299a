"""Uploads that no job uses, of every run that this machine remembers."""

from __future__ import annotations

from unift.errors import UniftError
from unift.runs._run import Run
from unift.runs._store import Store
from unift.spec import Frozen


class Orphan(Frozen):
    """An upload of a run that no job uses. `problem` says why it is not known or not deleted."""

    run: str
    provider: str
    id: str = ""
    name: str = ""
    place: str = ""
    deleted: bool = False
    problem: dict[str, str] | None = None

    def describe(self) -> str:
        """One line for people."""
        file = f"upload {self.id} ({self.name})" if self.id else f"uploads at {self.provider}"
        if self.problem:
            return f"{file}: {self.problem['message']}"
        end = "deleted" if self.deleted else "no job uses it; --delete-orphans deletes it"
        return f"{file} at {self.place}: {end}"


def orphans(delete: bool = False) -> list[Orphan]:
    """Look for them at the providers, and delete them if told to.

    A provider is asked only about runs of which the journal remembers an upload and no job; one
    that does not answer becomes a `problem` and does not stop the rest.
    """
    store = Store()
    found: list[Orphan] = []
    for row in store.list():
        run = Run(row, store)
        try:
            if not run.leftovers():
                continue
            left = run.discard() if delete else run.leftovers(ask=True)
            found += [
                Orphan(run=run.id, provider=run.provider, deleted=delete, **one.model_dump())
                for one in left
            ]
        except UniftError as error:
            found.append(Orphan(run=run.id, provider=run.provider, problem=error.as_dict()))
    return found
