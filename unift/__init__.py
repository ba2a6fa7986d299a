"""One call to fine-tune a language model, on GPUs you own or through a vendor's API.

run = unift.train(provider="local-lora", model="demo", data="demo:train")
run.wait()
result = unift.evaluate(run.model, data="demo:test", against=["base", "base+few-shot:5"])
print(result.verdict)
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from unift._lazy import loader

if TYPE_CHECKING:
    from unift._doctor import doctor
    from unift._train import plan, start, train
    from unift.data import convert, validate
    from unift.errors import UniftError
    from unift.estimate import estimate
    from unift.evaluate import evaluate
    from unift.migrate import migrate
    from unift.provider import providers
    from unift.reference import load
    from unift.runs import Run, reconcile, run, runs
    from unift.spec import TrainSpec

__version__ = "0.1.0"

# Each name is loaded on first use, so that `import unift` costs next to nothing.
_HOMES = {
    "Run": "runs",
    "TrainSpec": "spec",
    "UniftError": "errors",
    "convert": "data",
    "doctor": "_doctor",
    "estimate": "estimate",
    "evaluate": "evaluate",
    "load": "reference",
    "migrate": "migrate",
    "plan": "_train",
    "providers": "provider",
    "reconcile": "runs",
    "run": "runs",
    "runs": "runs",
    "start": "_train",
    "train": "_train",
    "validate": "data",
}

__all__ = [
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


class _Package(ModuleType):
    """`unift.evaluate` is the function, whoever imports the folder of that name first."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


__getattr__ = loader(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
