"""One call to fine-tune a language model, on GPUs you own or through a vendor's API.

run = unift.train(provider="local-lora", model="demo", data="demo:train")
run.wait()
result = unift.evaluate(run.model, data="demo:test", against=["base", "base+few-shot:5"])
print(result.verdict)
"""

from unift._doctor import doctor
from unift._train import plan, start, train
from unift.data import convert, validate
from unift.errors import UniftError
from unift.estimate import estimate
from unift.evaluate import evaluate
from unift.provider import providers
from unift.reference import load
from unift.runs import Run, reconcile, run, runs
from unift.spec import TrainSpec

__version__ = "0.1.0"

__all__ = [
    "Run",
    "TrainSpec",
    "UniftError",
    "convert",
    "doctor",
    "estimate",
    "evaluate",
    "load",
    "plan",
    "providers",
    "reconcile",
    "run",
    "runs",
    "start",
    "train",
    "validate",
]
