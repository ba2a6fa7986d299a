"""What is wrong with a text that a model is to read or to say."""

from __future__ import annotations

import re

from unift.data._finding import Path
from unift.data._parse import Note

# Answers that somebody meant to replace. Compared without case, white space and end punctuation.
# Words such as "none" or "test" are left out: they are fair labels of a classification.
PLACEHOLDERS = frozenset(
    {
        "todo", "tbd", "tba", "fixme", "xxx", "nan", "undefined", "placeholder", "lorem ipsum",
        "your answer here", "answer here", "assistant response", "insert answer here",
        "insert response here", "[answer]", "<answer>", "[response]", "<response>",
        "[insert answer]", "[insert response]", "<completion>", "[todo]", "<todo>",
        "...", "…", "---", "???", "{answer}", "{response}", "{completion}", "{output}", "%s",
        "${answer}", "${response}", "${completion}", "${output}",
    }
)  # fmt: skip
LONGEST_PLACEHOLDER = 24

_CANNOT = ("can't", "can’t", "cannot", "can not", "am unable", "am not able", "won't be able")
# "I'm sorry, I can see why" is no refusal: what cannot be done has to follow.
REFUSALS = (
    *(
        f"{sorry}{i} {cannot}"
        for sorry in ("I'm sorry, ", "I’m sorry, ", "I am sorry, ", "Sorry, ", "I apologize, ")
        for i in ("but I", "I")
        for cannot in _CANNOT
    ),
    *(
        f"I {cannot} {what}"
        for cannot in ("can't", "can’t", "cannot")
        for what in ("assist", "help with", "fulfill", "comply")
    ),
    "I'm unable to",
    "I’m unable to",
    "I am unable to",
    "I'm not able to",
    "I’m not able to",
    "As an AI",
    "as an AI",
    "As a large language model",
)
_FIELD = re.compile(r"\{\{ ?[A-Za-z_][\w. ]{0,40}? ?\}\}")
_CONTROL = re.compile(
    r"<\|[A-Za-z_][A-Za-z0-9_]{0,30}\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</s>"
)
# Tags of DeepSeek and Qwen, of Mistral (Magistral), of Kimi. Not in code (`<think>`), where
# somebody writes about it. Control tokens of reasoning (gpt-oss, Cohere) are told as such.
_REASONING = re.compile(
    r"(?<!`)(?:</?(?:think|thinking|thought|reasoning|scratchpad)>|\[/?THINK\]|◁/?think▷)"
)
_REASONING_TOKEN = re.compile(
    r"<\|channel\|>(?:analysis|commentary)|<\|(?:START|END)_THINKING\|>|<\|(?:begin|end)_of_thought\|>"
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
# UTF-8 read as Latin-1 or Windows-1252: a lead byte C2..C5 or E2 as a letter, then a
# continuation byte as a sign that hardly ever follows it in real text.
_GARBLED = re.compile(r"[ÂÃÄÅ][\u0080-\u00bf]|â€[\u0080-\u00bfœžš™˜¦]|ï»¿|\ufffd")


def suspicious(text: str) -> bool:
    """True if `check_text`, or a check for tags or fields, could find something.

    Cheap where nothing can be wrong: a search for one character runs at memory speed, one for two
    characters ten times slower, a pattern slower still.
    """
    return (
        ("<" in text and (bool(_CONTROL.search(text)) or bool(_REASONING.search(text))))
        or ("{" in text and "{{" in text)
        or ("]" in text and ("INST]" in text or "THINK]" in text))
        or ("◁" in text and bool(_REASONING.search(text)))
        or "\0" in text
        or (not text.isascii() and _odd_letters(text) and bool(_GARBLED.search(text)))
    )


def _odd_letters(text: str) -> bool:
    """True if a character is there with which garbled text starts."""
    return (
        "Ã" in text
        or "Â" in text
        or "Ä" in text
        or "Å" in text
        or "â" in text
        or "ï" in text
        or "\ufffd" in text
    )


def check_text(text: str, path: Path, note: Note) -> None:
    """Faults of any text, whoever says it."""
    if "\0" in text:
        note("UD107", path, f"Character {text.index(chr(0)) + 1} of the text is NUL.")
    # The looks before the patterns are `suspicious` again: a pattern costs ten times as much.
    found = None if text.isascii() or not _odd_letters(text) else _GARBLED.search(text)
    if found:
        around = text[max(0, found.start() - 12) : found.end() + 4]
        note("UD506", path, f"The text looks garbled: {around!r}.")
    found = _CONTROL.search(text) if "<" in text or "INST]" in text else None
    if found:
        reasoning = _REASONING_TOKEN.search(text)
        what = ", which belongs to reasoning" if reasoning else ""
        note("UD507", path, f"The text has the control token {found[0]}{what}.")


def check_filled_in(text: str, path: Path, note: Note) -> None:
    """Faults of a text that somebody wrote as a template: what is said by system and assistant."""
    # Templates in code are meant: Jinja, Handlebars, workflows.
    found = _FIELD.search(_CODE.sub("", text)) if "{{" in text else None
    if found:
        note("UD502", path, f"The field {found[0]} was never filled in.")


def check_answer(text: str, path: Path, note: Note) -> None:
    """Faults of a text that the model is to learn. Not for empty ones."""
    if placeholder(text):
        note("UD501", path, f"The answer is only {text.strip()!r}.")
    if text.startswith(REFUSALS):
        note("UD503", path, f"The answer starts with {text[:40]!r}.")
    if text[0].isspace() or text[-1].isspace():
        end = "ends" if not text[0].isspace() else "starts"
        note("UD504", path, f"The answer {end} with white space.")
    found = _REASONING.search(text) if "<" in text or "THINK]" in text or "◁" in text else None
    if found:
        note("UD505", path, f"The answer has the tag {found[0]}.")
    if text.count("```") % 2:
        note("UD508", path, "A code block (```) is opened and never closed.")


def placeholder(text: str) -> bool:
    """True for a stand-in that can hardly be a real answer."""
    if len(text) > LONGEST_PLACEHOLDER:
        return False
    plain = text.strip().casefold()
    return plain in PLACEHOLDERS or plain.rstrip(".!:") in PLACEHOLDERS
