"""The core is light: these limits are part of what users were promised."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import unift

HEAVY = {"torch", "transformers", "peft", "trl", "openai", "google", "numpy", "scipy", "httpx2"}


def _seconds(command: list[str]) -> float:
    """Processor seconds of a command, the least of five: a busy machine makes wall time longer."""
    times: list[float] = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True, env=dict(os.environ))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def test_public_names_are_these_and_no_others() -> None:
    assert sorted(unift.__all__) == [
        "Run",
        "TrainSpec",
        "UniftError",
        "convert",
        "doctor",
        "estimate",
        "evaluate",
        "load",
        "migrate",
        "plan",
        "providers",
        "reconcile",
        "run",
        "runs",
        "start",
        "train",
        "validate",
    ]
    assert all(callable(getattr(unift, name)) for name in unift.__all__)


def test_import_pulls_in_nothing_heavy() -> None:
    script = "import sys, unift; print(' '.join(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not HEAVY & set(done.stdout.split())


def test_import_takes_under_150_ms() -> None:
    bare = _seconds([sys.executable, "-c", "pass"])
    assert _seconds([sys.executable, "-c", "import unift"]) - bare < 0.150


def test_help_takes_under_400_ms() -> None:
    assert _seconds([sys.executable, "-m", "unift", "--help"]) < 0.400


def test_a_name_shared_with_a_folder_stays_the_function() -> None:
    script = "from unift.evaluate import metrics; import unift.runs, unift; print(unift.evaluate)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("<function evaluate")
