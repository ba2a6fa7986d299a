"""Every command that README and the guides show can be typed as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]
# docs/index.md and docs/reference.md are made from README and from the code.
PAGES = sorted({ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/README.md")})
MADE = {"index.md", "reference.md"}


def commands(page: Path) -> list[str]:
    """Commands in fenced blocks, without pipes and the words of README's second column."""
    found: list[str] = []
    for block in re.findall(r"```\w*\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.split(r"\s{3,}", re.sub(r"^(\w+=\S+ )+", "", line.strip()))[0]
            if line.startswith("unift ") and " | " not in line and "..." not in line:
                found.append(line)
    return found


SHOWN = [(page.name, line) for page in PAGES if page.name not in MADE for line in commands(page)]


def test_there_are_commands_to_check() -> None:
    assert len(SHOWN) > 40


@pytest.mark.parametrize(("page", "line"), SHOWN)
def test_a_shown_command_has_only_flags_that_exist(cli: Cli, page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    # With --help nothing runs, but an unknown command or flag is still refused.
    done = cli(*words, "--help")
    assert done.status == 0, done.err
