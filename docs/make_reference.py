"""Write the pages that come from the code: the command reference and the home page.

Run by `make docs`; what it writes is not committed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from make_codes import write_codes

DOCS = Path(__file__).parent


def main() -> None:
    """Generate docs/reference.md, docs/index.md and docs/codes/."""
    command = [sys.executable, "-m", "typer", "unift.cli._app", "utils", "docs", "--name", "unift"]
    reference = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (DOCS / "reference.md").write_text(reference)
    write_codes(DOCS / "codes")
    readme = (DOCS.parent / "README.md").read_text()
    (DOCS / "index.md").write_text(_as_page(readme))


def _as_page(readme: str) -> str:
    """The README for the site: links into docs/ relative, links to files outside it as words."""
    inside = readme.replace("](docs/", "](")
    return re.sub(
        r"(?<!!)\[([^]]+)\]\(([^)]+)\)",
        lambda link: (
            link[0] if "://" in link[2] or (DOCS / link[2].partition("#")[0]).exists() else link[1]
        ),
        inside,
    )


if __name__ == "__main__":
    main()
