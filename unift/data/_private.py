"""Secrets and personal data in texts, through kept detectors.

Secrets: detect-secrets (Yelp), the detectors that know the form of one vendor's keys; those that
guess from entropy or from words such as "password" are left out, because prose is full of both.
People: phonenumbers (Google's libphonenumber) for numbers with a country code, python-stdnum for
the check digits of bank accounts (ISO 13616) and cards (ISO/IEC 7812), a pattern for addresses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self, cast

from unift.errors import MissingDependency, UsageError

Found = Callable[[str, int, str], Any]
"""``found(code, message index, message)``"""

_DETECTORS = (
    "AWSKeyDetector", "AzureStorageKeyDetector", "DiscordBotTokenDetector", "GitHubTokenDetector",
    "GitLabTokenDetector", "JwtTokenDetector", "MailchimpDetector", "NpmDetector",
    "OpenAIDetector", "PrivateKeyDetector", "PypiTokenDetector", "SendGridDetector",
    "SlackDetector", "SquareOAuthDetector", "StripeDetector", "TelegramBotTokenDetector",
    "TwilioKeyDetector",
)  # fmt: skip
MAIL = re.compile(r"\b[\w.+-]{1,64}@([\w-]{1,63}(?:\.[\w-]{2,63}){1,4})\b")
# Reserved for examples (RFC 2606, RFC 6761).
MADE_UP = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|test|invalid|localhost)$")
_DIGITS = re.compile(r"\d(?:\D{0,3}\d){6}")  # fewer are no number of a region
ACCOUNT = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
CARD = re.compile(r"(?<![\d.])(?:\d[ -]?){12,18}\d(?![\d.])")


class Private:
    """Looks into texts, one kind of finding a row at most. Use as a context manager."""

    def __init__(self, region: str | None = None) -> None:
        """`region` (ISO 3166, two letters) finds phone numbers without a country code too."""
        try:
            import phonenumbers
            from detect_secrets.core.scan import scan_line
            from detect_secrets.settings import transient_settings
            from stdnum import iban, luhn
        except ImportError:
            raise MissingDependency(
                "Looking for secrets and personal data needs detect-secrets, phonenumbers and "
                "python-stdnum.",
                where="deep",
                fix="pip install 'unift[data]'",
            ) from None
        self._phones: Any = phonenumbers
        self._region = region.upper() if region else None
        if self._region is not None and self._region not in self._phones.SUPPORTED_REGIONS:
            raise UsageError(
                f"There is no region {region!r}.",
                code="unknown_region",
                where="region",
                fix="two letters of ISO 3166, such as US, GB or DE",
            )
        self._scan: Any = scan_line
        self._iban: Any = iban
        self._luhn: Any = luhn
        self._settings = cast(
            "AbstractContextManager[Any]",
            transient_settings(
                # No filters: one of them would ask the vendor whether a key works.
                {"plugins_used": [{"name": name} for name in _DETECTORS], "filters_used": []}
            ),
        )

    def __enter__(self) -> Self:
        self._settings.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._settings.__exit__(*error)

    def check(self, texts: Sequence[str], found: Found) -> None:
        """Pass what is in the texts of one row to `found`. A secret is never shown whole."""
        for index, text in enumerate(texts):
            secret = next((one for line in text.splitlines() for one in self._scan(line)), None)
            if secret is not None:
                shown = f" ({secret.secret_value[:4]}…)" if secret.secret_value else ""
                found("UD800", index, f"The text has a secret: {secret.type}{shown}.")
                break
        for index, text in enumerate(texts):
            kind = next(self._personal(text), None)
            if kind is not None:
                found("UD801", index, f"The text has {kind}.")
                break

    def _personal(self, text: str) -> Iterator[str]:
        if "@" in text:
            for match in MAIL.finditer(text):
                if not MADE_UP.search(match[1].lower()):
                    yield f"a mail address at {match[1]}"
        if next(self._numbers(text), None):
            yield "a phone number"
        for match in ACCOUNT.finditer(text):
            if self._iban.is_valid(match[0]):
                yield f"a bank account number ({match[0][:4]}…)"
        for match in CARD.finditer(text):
            if self._is_card(match[0]):
                yield f"a payment card number ({match[0][:4]}…)"

    def _numbers(self, text: str) -> Iterator[Any]:
        """Phone numbers of the region, or with a country code."""
        if "+" in text or (self._region is not None and _DIGITS.search(text)):
            yield from self._phones.PhoneNumberMatcher(text, self._region)

    def _is_card(self, text: str) -> bool:
        digits = re.sub(r"\D", "", text)
        # 3, 4, 5, 6: the first digits of payment cards. Two digits alone are a test number.
        return digits[0] in "3456" and len(set(digits)) > 2 and bool(self._luhn.is_valid(digits))
