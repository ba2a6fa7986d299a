"""`unift.doctor`: what is here, what is missing, what that disables, and what mends it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from unift._home import home
from unift.errors import UniftError
from unift.provider import ProviderInfo, get_provider, providers
from unift.verbs import Check

_LOCAL = "pip install 'unift[local]'"
# package -> (what is lost without it, what installs it)
_PACKAGES = {
    "torch": ("training and inference on this machine", _LOCAL),
    "transformers": ("training and inference on this machine", _LOCAL),
    "peft": ("LoRA and QLoRA", _LOCAL),
    "trl": ("training on this machine", _LOCAL),
    "bitsandbytes": ("QLoRA (4-bit)", _LOCAL),
    "openai": ("the openai provider", "pip install 'unift[openai]'"),
    "google-genai": ("the google provider", "pip install 'unift[google]'"),
    "fastapi": ("unift serve, and the recording proxy", "pip install 'unift[serve]'"),
    "rensa": ("near duplicates (unift validate --deep, data split)", "pip install 'unift[data]'"),
    "scikit-learn": ("F1 of labels, few-shot examples by likeness", "pip install 'unift[eval]'"),
    "genai-prices": ("prices of models outside the catalogue", "pip install 'unift[prices]'"),
}
# variable -> what needs it; values are never read into a message.
_KEYS = {
    "OPENAI_API_KEY": "OpenAI",
    "AZURE_OPENAI_API_KEY": "Azure OpenAI",
    "HF_TOKEN": "gated models of the Hugging Face hub",
}
_LOW_DISK_GIB = 5


def doctor() -> list[Check]:
    """Look at this machine. Quick, no network, imports nothing heavy, starts nothing."""
    import platform

    return [
        Check(name="python", ok=True, detail=f"{platform.python_version()} at {sys.executable}"),
        Check(
            name="machine",
            ok=None,
            detail=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        ),
        _disk(),
        *(_package(name) for name in _PACKAGES),
        _gpu(),
        *(_key(name) for name in _KEYS),
        *_providers(),
    ]


def _disk() -> Check:
    try:
        folder = home()
    except UniftError as error:
        return Check(
            name="data folder", ok=False, detail=error.message, disables="everything", fix=error.fix
        )
    free = shutil.disk_usage(folder).free / 2**30
    low = free < _LOW_DISK_GIB
    return Check(
        name="data folder",
        ok=not low,
        detail=f"{folder}, {free:.0f} GiB free",
        disables="checkpoints of larger models" if low else "",
        fix="free some space, or set UNIFT_HOME to another disk" if low else "",
    )


def _package(name: str) -> Check:
    from importlib.metadata import PackageNotFoundError, version

    disables, fix = _PACKAGES[name]
    try:
        return Check(name=name, ok=True, detail=version(name))
    except PackageNotFoundError:
        return Check(name=name, ok=False, detail="not installed", disables=disables, fix=fix)


def _gpu() -> Check:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return Check(
            name="gpu",
            ok=None,
            detail="no NVIDIA GPU or driver found; training runs on the CPU",
            disables="training models of useful size in useful time",
            fix="unift estimate --model MODEL --data FILE --gpu h100-sxm-80gb",
        )
    from importlib.metadata import PackageNotFoundError, version

    cards = "; ".join(line.strip() for line in found.splitlines() if line.strip())
    try:
        cpu_build = version("torch").endswith("+cpu")
    except PackageNotFoundError:
        cpu_build = False
    if cpu_build:
        return Check(
            name="gpu",
            ok=False,
            detail=f"{cards}, but the installed torch is a CPU build",
            disables="training on the GPU",
            fix="pip install --force-reinstall torch from an index with a CUDA build",
        )
    return Check(name="gpu", ok=True, detail=cards)


def _key(name: str) -> Check:
    is_set = bool(os.environ.get(name))
    return Check(
        name=name,
        ok=True if is_set else None,
        detail="set" if is_set else "not set",
        disables="" if is_set else _KEYS[name],
        fix="" if is_set else f"export {name}=...",
    )


def _providers() -> list[Check]:
    """Each provider, and what it says itself of its set-up (`checks`, an optional verb)."""
    found: list[Check] = []
    for info in providers():
        found.append(_provider(info))
        checks = getattr(get_provider(info.name), "checks", None) if info.available else None
        found += checks() if checks is not None else ()
    return found


def _provider(info: ProviderInfo) -> Check:
    return Check(
        name=f"provider {info.name}",
        ok=info.available,
        detail=info.package if info.available else info.why,
        disables="" if info.available else f"unift train --provider {info.name}",
        fix=info.fix,
    )
