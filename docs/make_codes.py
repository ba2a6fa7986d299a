"""Write a page for every finding code, from the table that the validator itself uses.

Run by `make docs` through make_reference.py; what it writes is not committed.
"""

from __future__ import annotations

from pathlib import Path

from unift.data import Code, codes

_THEMES = {
    "0": "The file and its bytes",
    "1": "The line as JSON",
    "2": "The row and its messages",
    "3": "Tools",
    "4": "Images and other parts",
    "5": "What the model is told to say",
    "6": "The rows together",
    "7": "Limits",
    "8": "Secrets and people",
    "9": "Other formats",
}


def write_codes(folder: Path) -> None:
    """Write ``index.md`` and a page for each code into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["# What the validator finds", ""]
    theme = ""
    for code in codes().values():
        if code.code[2] != theme:
            theme = code.code[2]
            lines += [
                "",
                f"## {_THEMES[theme]}",
                "",
                "| code | | severity |",
                "| --- | --- | --- |",
            ]
        lines.append(f"| [{code.code}]({code.code}.md) | {code.title} | {_severity(code)} |")
        (folder / f"{code.code}.md").write_text(page(code), encoding="utf-8")
    (folder / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def page(code: Code) -> str:
    """One page: what it is, why it matters, an example, the way out."""
    return "\n".join(
        (
            f"# {code.code}: {code.title}",
            "",
            f"*{_severity(code)}*",
            "",
            code.reason,
            "",
            "## Example",
            "",
            "```text",
            code.example.strip(),
            "```",
            "",
            "## What to do",
            "",
            f"{code.fix[0].upper()}{code.fix[1:].strip()}.",
            "",
            _mended(code),
            "",
            "[All codes](index.md)",
            "",
        )
    )


def _mended(code: Code) -> str:
    stays = "the row is left out of the copy" if code.severity == "error" else "it stays as it is"
    if code.mended:
        return f"`--fix` mends it where that needs no decision; else {stays}."
    if code.severity == "error":
        return "`--fix` does not mend it: it leaves the row out of the copy and lists that."
    return "`--fix` leaves it as it is: what to do takes a decision."


def _severity(code: Code) -> str:
    refused = f"; error for {', '.join(code.refused_by)}" if code.refused_by else ""
    return f"{code.severity}{refused}"


if __name__ == "__main__":
    write_codes(Path(__file__).parent / "codes")
