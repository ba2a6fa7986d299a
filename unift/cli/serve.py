"""unift serve: the OpenAI API over this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from unift.cli._output import Json, emit, err, out
from unift.errors import MissingDependency, UsageError


def command(
    model: Annotated[str, typer.Option(help="Base model: demo, a folder or a hub id.")] = "demo",
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.", min=1, max=65535)] = 8000,
    key_file: Annotated[Path | None, typer.Option(help="Keys, hashed; see --add-key.")] = None,
    insecure_loopback: Annotated[
        bool, typer.Option("--insecure-loopback", help="No keys, this machine only.")
    ] = False,
    engine: Annotated[
        Literal["local", "vllm"], typer.Option(help="Who answers: this process, or vLLM.")
    ] = "local",
    max_adapters: Annotated[int, typer.Option(help="Adapters kept loaded.", min=1)] = 16,
    jobs: Annotated[int, typer.Option(help="Trainings at once; a GPU each.", min=1)] = 1,
    adapter: Annotated[
        list[str] | None,
        typer.Option(help="NAME=run:ID or NAME=FOLDER, served under that name; repeatable."),
    ] = None,
    four_bit: Annotated[
        bool, typer.Option("--four-bit", help="Base in 4 bits, for adapters of local-qlora.")
    ] = False,
    vllm_python: Annotated[
        str, typer.Option(help="Python of the environment that has vllm.")
    ] = sys.executable,
    add_key: Annotated[
        str | None, typer.Option(help="Make a key of that name, show it once, and stop.")
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What the new key may do: read, train, chat (all three by default), or admin, "
            "which sees and changes what belongs to others; repeatable."
        ),
    ] = None,
    sees: Annotated[
        list[str] | None,
        typer.Option(help="Another key whose files, jobs and models it may use; repeatable."),
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Limit of the new key.", min=1)
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(help="Limit of the new key, prompts and answers.", min=1)
    ] = None,
    json: Json = False,
) -> None:
    """Serve training and answers to anything that speaks the OpenAI API."""
    try:
        from unift.serve import Settings, serve
        from unift.serve._keys import add_key as make_key
        from unift.serve._keys import scopes_of
    except ImportError as error:
        raise MissingDependency(
            f"The server needs packages that are not installed: {error}.",
            where="unift serve",
            fix="pip install 'unift[serve,local]'",
        ) from error
    if add_key is not None:
        path = key_file or Path("keys.json")
        key = make_key(
            path,
            add_key,
            scopes_of(scope),
            sees=sees or (),
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )
        if json:
            emit({"name": add_key, "key": key, "key_file": str(path)})
        else:
            out.print(key)
            err.print(f"added to {path}; it is shown only now, the file holds its hash")
        return
    settings = Settings(
        model=model,
        host=host,
        port=port,
        key_file=key_file,
        insecure_loopback=insecure_loopback,
        engine=engine,
        max_adapters=max_adapters,
        jobs=jobs,
        vllm_python=vllm_python,
        adapters=parse_adapters(adapter or []),
        four_bit=four_bit,
    )
    err.print(f"unift serve: loading {settings.base} ...", style="dim")
    serve(
        settings,
        on_start=lambda: err.print(
            f"unift serve: http://{host}:{port}/v1, base model {settings.base}"
        ),
    )


def parse_adapters(given: list[str]) -> dict[str, str]:
    """``["tickets=run:ID"]`` -> ``{"tickets": "run:ID"}``."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, reference = text.partition("=")
        if not (name and equals and reference):
            raise UsageError(
                f"'{text}' is not NAME=REFERENCE.",
                where="--adapter",
                fix="for example --adapter tickets=run:abc123",
            )
        found[name] = reference
    return found
