"""What the fuzzers share: where they write, what an error in words has."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

from unift.errors import UniftError

FOLDER = Path(tempfile.mkdtemp(prefix="unift-fuzz-"))


def deliberate(error: UniftError) -> None:
    """An error in words has a code, and a place or a way out."""
    assert error.code
    assert error.where or error.fix


def main(one: Callable[[bytes], None]) -> None:
    """Fuzz until the time given on the command line is over."""
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
