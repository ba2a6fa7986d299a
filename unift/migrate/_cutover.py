"""Step 7: how the new model is started, what the application changes, and everything kept."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unift._vllm import allowed_rank, dtype_of, rank_of
from unift.errors import RunError, UsageError
from unift.estimate import local_providers
from unift.migrate._files import write_text
from unift.migrate._spec import MigrationSpec
from unift.migrate._template import TemplateCheck, check_template
from unift.provider import Artifact

# Values of these are never shown, in whatever file they stand.
_SECRET = re.compile(r"key|token|secret|password", re.IGNORECASE)


@dataclass(frozen=True)
class CutOver:
    """What has to be done, ready to be done.

    Attributes:
        commands: Way of serving -> the command that starts it.
        environment: The change of the application's environment, as a diff.
        template: Whether training and serving agree, token by token; None for a hosted model.
        archive: Where everything is packed, and its digest.
        document: Everything, as JSON.
    """

    commands: Mapping[str, str]
    environment: str
    template: TemplateCheck | None
    archive: Mapping[str, Any]
    document: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return dict(self.document)


def served_name(spec: MigrationSpec) -> str:
    """The model name that the application will use."""
    return spec.cutover.name or spec.name


def template_of(
    spec: MigrationSpec, artifact: Artifact, data: str, server: str | None = None
) -> TemplateCheck | None:
    """Compare the tokens of training and serving; None for a model that its vendor serves.

    Raises:
        RunError: They differ: the served model would read other text than it was trained on.
    """
    if artifact.kind == "hosted":
        return None
    base = artifact.base if artifact.kind == "adapter" else artifact.reference
    found = check_template(
        artifact.reference,
        base,
        data,
        limit=spec.cutover.checked_rows,
        server=server,
        name=served_name(spec),
    )
    if found.difference is not None:
        there = found.difference
        raise RunError(
            f"Training and serving differ at token {there['token']} of row {there['row']}: trained "
            f"on {there['trained']!r}, served with {there['served']!r}.",
            code="template_differs",
            where=found.served,
            fix=f"serve with the template that lies beside the model: {artifact.reference}",
        )
    return found


def start_commands(
    spec: MigrationSpec, plan: Mapping[str, Any], run: str, artifact: Artifact
) -> dict[str, str]:
    """How to serve the model, at the precision that it was trained at."""
    wanted = spec.cutover
    name = served_name(spec)
    if artifact.kind == "hosted":
        return {"hosted": f"served by {plan['provider']} as {artifact.reference}"}
    folder = artifact.reference
    four_bit = local_providers().get(plan["provider"]) == "qlora"
    weights = artifact.kind == "weights"
    base = folder if weights else plan_base(plan, artifact)
    place = ["--host", wanted.host, "--port", str(wanted.port)]
    ours = ["unift", "serve", "--model", base]
    if not weights:
        ours += ["--adapter", f"{name}=run:{run}"]
    ours += ["--four-bit"] if four_bit else []
    ours += [*place, "--key-file", "keys.json"]
    # vLLM documentation, "LoRA adapters", "BitsAndBytes" and "OpenAI-compatible server".
    vllm = ["vllm", "serve", folder if weights else artifact.base]
    if weights:
        vllm += ["--served-model-name", name]
    else:
        vllm += ["--enable-lora", "--lora-modules", f"{name}={folder}"]
        vllm += ["--max-lora-rank", str(allowed_rank(rank_of(folder)))]
    vllm += ["--dtype", dtype_of(folder)]
    vllm += ["--quantization", "bitsandbytes"] if four_bit else []
    template = Path(folder) / "chat_template.jinja"
    vllm += ["--chat-template", str(template)] if template.is_file() else []
    return {"unift": shlex.join(ours), "vllm": shlex.join([*vllm, *place])}


def plan_base(plan: Mapping[str, Any], artifact: Artifact) -> str:
    """The base as the user names it: ``demo`` is the same on every machine, its folder is not."""
    return "demo" if plan["model"] == "demo" else artifact.base


def environment(spec: MigrationSpec, plan: Mapping[str, Any], artifact: Artifact) -> str:
    """The change of the application's environment as a unified diff. No secret is in it.

    With ``cutover.env_file`` the user's own lines are changed: whatever holds the old model's
    name, and the address and the key of the API.

    Raises:
        UsageError: That file cannot be read.
    """
    wanted = spec.cutover
    old = plan["old"]
    address = f"http://{wanted.host}:{wanted.port}/v1"
    new = served_name(spec)
    if artifact.kind == "hosted":
        return _diff([f"MODEL={old['id']}"], [f"MODEL={artifact.reference}"], ".env")
    if wanted.env_file is None:
        before = ["OPENAI_API_KEY=(the vendor's)", f"MODEL={old['id']}"]
        after = [f"OPENAI_BASE_URL={address}", "OPENAI_API_KEY=(of keys.json)", f"MODEL={new}"]
        return _diff(before, after, ".env")
    try:
        lines = Path(wanted.env_file).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The environment file cannot be read: {getattr(error, 'strerror', None) or error}.",
            code="bad_env_file",
            where=wanted.env_file,
            fix="give the application's .env in cutover.env_file, or leave it out",
        ) from error
    changed: list[str] = []
    told = False
    for line in lines:
        key = line.removeprefix("export ").partition("=")[0].strip()
        if key == "OPENAI_BASE_URL":
            changed.append(f"{line.partition('=')[0]}={address}")
            told = True
        elif key == "OPENAI_API_KEY":
            changed.append(f"{line.partition('=')[0]}=(of keys.json)")
        else:
            changed.append(line.replace(old["id"], new))
    if not told:
        changed.append(f"OPENAI_BASE_URL={address}")
    return _diff([_masked(line) for line in lines], [_masked(line) for line in changed], ".env")


def write_files(folder: Path, commands: Mapping[str, str], change: str) -> dict[str, str]:
    """Put the start commands and the diff where people find them."""
    written = {"environment": write_text(folder / "environment.diff", change)}
    for way, command in commands.items():
        if way == "hosted":
            continue
        text = (
            "#!/bin/sh\n"
            f"# Starts the new model with {way}. A key for it:\n"
            "#   unift serve --add-key application --key-file keys.json\n"
            f"exec {command}\n"
        )
        path = write_text(folder / f"serve-{way}.sh", text)
        path.chmod(0o755)
        written[f"serve_{way}"] = path
    return {key: str(path) for key, path in written.items()}


def _diff(before: list[str], after: list[str], name: str) -> str:
    lines = difflib.unified_diff(before, after, f"a/{name}", f"b/{name}", lineterm="", n=1)
    return "\n".join(lines) + "\n"


def _masked(line: str) -> str:
    key, equals, value = line.partition("=")
    hidden = equals and _SECRET.search(key) and not value.startswith("(")
    return f"{key}=(hidden)" if hidden else line
