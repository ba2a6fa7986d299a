"""The page on which two answers are compared without knowing whose they are."""

from __future__ import annotations

from importlib.resources import files

from markupsafe import Markup


def vote_page(
    *,
    total: int,
    done: int,
    nonce: str,
    number: int | None = None,
    question: str = "",
    expected: str = "",
    left: str = "",
    right: str = "",
    voted: str | None = None,
    ended: bool = False,
) -> str:
    """One pair, or without a `number` the page after the last one.

    Args:
        total: Pairs.
        done: Those with a vote.
        nonce: Of the content policy, for the one script.
        number: Place of the pair, from 0.
        question: What was asked.
        expected: The wanted answer, shown on demand.
        left: The one answer.
        right: The other.
        voted: ``left``, ``right``, ``tie`` or None.
        ended: The voting is over.
    """
    from unift.report._render import environment

    folder = files("unift.report").joinpath("templates")
    style = folder.joinpath("style.css").read_text("utf-8")
    style += folder.joinpath("vote.css").read_text("utf-8")
    values = {
        "total": total, "done": done, "nonce": nonce, "number": number, "question": question,
        "expected": expected, "left": left, "right": right, "voted": voted, "ended": ended,
        "style": Markup(style),
    }  # fmt: skip
    return environment().get_template("vote.html.j2").render(values)
