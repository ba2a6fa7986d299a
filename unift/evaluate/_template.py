"""Prompts in files: a system prompt, or a template with a place for the input.

A place is written ``{{ input }}``; ``\\{{ input }}`` stands for the braces themselves.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from unift._text import did_you_mean
from unift.errors import UsageError

_WORDS = "input|question|prompt|text|query|answer_[12ab]"
_PLACE = re.compile(rf"\\(\{{\{{\s*\w+\s*\}}\}}|\{{(?:{_WORDS})\}})|\{{\{{\s*(\w+)\s*\}}\}}")
# What other tools write; here it would silently stay the text that it is.
_SINGLE = re.compile(rf"(?<![{{\\])\{{(?:{_WORDS})\}}(?!\}})")


def read_text(file: Path, what: str) -> str:
    """The text of a prompt file, without the space around it.

    Args:
        file: A UTF-8 text file.
        what: What it holds, for the error: "system prompt or template".

    Raises:
        UsageError: It cannot be read or is empty.
    """
    try:
        text = file.read_text("utf-8").strip()
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 ({error.reason} at byte {error.start})"
    except OSError as error:
        reason = str(error.strerror)
    else:
        if text:
            return text
        reason = "it is empty"
    raise UsageError(
        f"The prompt cannot be read: {reason}.",
        code="bad_prompt_file",
        where=str(file),
        fix=f"give a text file that holds the {what}",
    )


def places(text: str, known: Collection[str], file: Path) -> set[str]:
    """The places that a text has.

    Raises:
        UsageError: A place of another name than the `known` ones, or one in single braces.
    """
    found: set[str] = set()
    for match in _PLACE.finditer(text):
        name = match[2]
        if name is not None and name not in known:
            raise _bad(
                f"There is nothing to put at '{match[0]}'.",
                file,
                text,
                match.start(),
                f"{did_you_mean(name, known)}; write \\{match[0]} for the braces themselves",
            )
        if name is not None:
            found.add(name)
    single = _SINGLE.search(text)
    if single and not found:
        raise _bad(
            f"'{single[0]}' is no place for anything.",
            file,
            text,
            single.start(),
            f"write {{{{ {sorted(known)[0]} }}}}, or \\{single[0]} for the braces themselves",
        )
    return found


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with every place filled; what is put in is not looked at again."""
    return _PLACE.sub(lambda match: match[1] or values[match[2]], text)


def _bad(message: str, file: Path, text: str, at: int, fix: str) -> UsageError:
    line = text.count("\n", 0, at) + 1
    return UsageError(message, code="bad_template", where=f"{file}:{line}", fix=fix)
