"""Uploads of ours that no job uses: which they are, and deleting them.

Three things leave some: an order that was refused while the host was too busy to delete, a crash
between the upload and the order, and an order that never arrived and is never given again. The
journal (`_intent`) knows each by the name under which we began to upload it, so that also a file
whose upload had no answer is found.
"""

from __future__ import annotations

import openai

from unift.verbs import Leftover
from unift_openai._calls import client, politely
from unift_openai._intent import Intent
from unift_openai._submit import look, pages, settled
from unift_openai.hosts import Site

_PAGE = 100


def remembered(place: Site, intent: Intent) -> list[Leftover]:
    """As the journal has it, without asking. None while an order may still turn out to be a job."""
    if intent.job is not None or intent.attempted is not None:
        return []
    known = {one.id: one.name for one in intent.uploads.values() if one.ours and one.id}
    names = [name for name in intent.begun if name not in known.values()]
    # A name that was begun and never answered: it may or may not have become a file.
    found = [Leftover(id=id, name=name, place=place.url) for id, name in known.items()]
    return found + [Leftover(id="", name=name, place=place.url) for name in names]


def there(place: Site, intent: Intent) -> list[Leftover] | None:
    """As the host has it: files of ours that are there and that no job of it uses; None when there
    is a job, or may be one.

    Raises:
        openai.OpenAIError: It does not answer.
    """
    if not intent.begun:
        return []
    if settled(place, intent) > 0 or look(place, intent, intent.token):
        return None
    api = client(place)
    files = [
        Leftover(id=file.id, name=file.filename, place=place.url)
        for file in pages(lambda: api.files.list(purpose="fine-tune", limit=_PAGE))
        if file.filename in intent.begun
    ]
    listed = {file.id for file in files}
    for one in remembered(place, intent):  # a fresh file may be missing in the list
        if one.id and one.id not in listed and _exists(place, one.id):
            files.append(one)
    if not files:
        return []
    jobs = list(pages(lambda: api.fine_tuning.jobs.list(limit=_PAGE)))
    used = {job.training_file for job in jobs} | {job.validation_file for job in jobs}
    return [one for one in files if one.id not in used]


def _exists(place: Site, file_id: str) -> bool:
    try:
        politely(lambda: client(place).files.retrieve(file_id))
    except openai.NotFoundError:
        return False
    return True


def delete(place: Site, intent: Intent) -> tuple[list[Leftover], list[tuple[Leftover, str]]]:
    """Delete what is `there` and forget it; (what was deleted, what was not and why).

    Raises:
        openai.OpenAIError: The host does not answer at all.
    """
    done: list[Leftover] = []
    kept: list[tuple[Leftover, str]] = []
    found = there(place, intent)
    if found is None:
        return [], []
    for one in found:
        try:
            politely(lambda id=one.id: client(place).files.delete(id))
            done.append(one)
        except openai.NotFoundError:
            continue
        except openai.OpenAIError as error:
            kept.append((one, type(error).__name__))
    names = {one.name for one, _ in kept}
    intent.begun = [name for name in intent.begun if name in names]
    intent.uploads = {part: one for part, one in intent.uploads.items() if one.name in names}
    intent.save(place.host.name)
    return done, kept
