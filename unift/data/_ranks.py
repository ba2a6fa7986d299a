"""OpenAI's encodings from the rank files in this package: offline, and the right ones."""

from __future__ import annotations

import base64
import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from unift.errors import UniftError

# How the encodings cut text into words before merging: constants of the encodings. These, the
# hashes and the special tokens are those of tiktoken_ext/openai_public.py of tiktoken 0.14.0.
_O200K_WORDS = "|".join(
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
_CL100K_WORDS = "|".join(
    (
        r"'(?i:[sdmt]|ll|ve|re)",
        r"[^\r\n\p{L}\p{N}]?+\p{L}++",
        r"\p{N}{1,3}+",
        r" ?[^\s\p{L}\p{N}]++[\r\n]*+",
        r"\s++$",
        r"\s*[\r\n]",
        r"\s+(?!\S)",
        r"\s",
    )
)


# For counting. A look ahead makes the library leave its fast automaton for a slower one, in which
# threads wait for each other. `_tokens.cut_spaces` cuts texts where it would make a difference.
_LOOK_AHEAD, _COUNTED = r"|\s+(?!\S)|\s+", r"|\s+"


@dataclass(frozen=True, slots=True)
class _Published:
    """What OpenAI published of an encoding, beside its ranks."""

    sha256: str
    words: str
    special: dict[str, int]


PUBLISHED = {
    "o200k_base": _Published(
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        _O200K_WORDS,
        {"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    ),
    "cl100k_base": _Published(
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        _CL100K_WORDS,
        {
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
}


@cache
def encoding(name: str, *, counting: bool = False) -> Any:
    """The `tiktoken.Encoding` of that name, built from the rank file in this package.

    Args:
        counting: Without its look ahead for white space, if it has just that one.

    Raises:
        ImportError: tiktoken is not installed.
        UniftError: The rank file is not the one that OpenAI published.
    """
    import tiktoken

    published = PUBLISHED[name]
    file = Path(__file__).parent / "ranks" / f"{name}.tiktoken.gz"
    data = gzip.decompress(file.read_bytes())
    if hashlib.sha256(data).hexdigest() != published.sha256:
        raise UniftError(
            f"The token ranks of {name} are damaged.",
            code="bad_ranks",
            where=str(file),
            fix="reinstall unift",
        )
    ranks = {
        base64.b64decode(token): int(rank)
        for token, rank in (line.split() for line in data.splitlines())
    }
    made = tiktoken.Encoding(
        name,
        pat_str=published.words.replace(_LOOK_AHEAD, _COUNTED) if counting else published.words,
        mergeable_ranks=ranks,
        special_tokens=published.special,
    )
    # The library has its copy; as Python objects, kept for pickling, they take 25 MiB.
    ranks.clear()
    return made
