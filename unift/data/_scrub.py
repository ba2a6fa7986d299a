"""Taking secrets and personal data out of texts, with the detectors that also report them."""

from __future__ import annotations

import re
from typing import Any, cast

from unift.data import _private


class Scrubber(_private.Private):
    """Replaces what `unift validate --deep` would report (UD800, UD801) by a word in brackets.

    Use as a context manager. `count` is the number of replacements so far.

    Raises:
        MissingDependency: The detectors are not installed (``unift[data]``).
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def scrub(self, value: Any) -> Any:
        """The same JSON value with every text in it cleaned; keys are left alone."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.scrub(one) for one in cast("list[Any]", value)]
        if isinstance(value, dict):
            return {key: self.scrub(one) for key, one in cast("dict[Any, Any]", value).items()}
        return value

    def text(self, text: str) -> str:
        """One text, cleaned."""
        for line in text.splitlines():
            for secret in self._scan(line):
                if secret.secret_value:
                    text = self._put(text, secret.secret_value, f"[{secret.type}]")
        if "-----BEGIN" in text:  # the detector finds the head of a key, the secret is the body
            text, times = _KEY_BLOCK.subn("[Private Key]", text)
            self.count += times
        for found in list(_private.MAIL.finditer(text)):
            if not _private.MADE_UP.search(found[1].lower()):
                text = self._put(text, found[0], "[mail address]")
        for match in list(self._numbers(text)):
            text = self._put(text, match.raw_string, "[phone number]")
        for found in list(_private.ACCOUNT.finditer(text)):
            if self._iban.is_valid(found[0]):
                text = self._put(text, found[0], "[bank account]")
        for found in list(_private.CARD.finditer(text)):
            if self._is_card(found[0]):
                text = self._put(text, found[0], "[payment card]")
        return text

    def _put(self, text: str, secret: str, word: str) -> str:
        self.count += text.count(secret)
        return text.replace(secret, word)


_KEY_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.S)
