"""Write the pages that come from the code: the command reference and the home page.

Run by `make docs`; what it writes is not committed.
"""

from __future__ import annotations

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
    (DOCS / "index.md").write_text(readme.replace("](docs/", "]("))


if __name__ == "__main__":
    main()
