"""Reading ``migration.yaml``: errors name the line, and unknown keys the nearest known one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from unift.errors import UsageError
from unift.migrate._spec import MigrationSpec, relative_to, spec_error

_PATHS = (
    ("data", ("train", "validation", "test")),
    ("source", ("successor_prompt",)),
    ("record", ("prompts",)),
    ("cutover", ("env_file",)),
)


def read_yaml(path: str | Path) -> MigrationSpec:
    """The migration in a file. Paths in it are relative to its folder.

    Raises:
        UsageError: No such file, no YAML, an unknown or doubled key, an impossible value; `where`
            is ``file:line``.
    """
    file = Path(path).expanduser()
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The migration cannot be read: {getattr(error, 'strerror', None) or error}.",
            code="bad_migration_file",
            where=str(file),
            fix="unift migrate plan writes one",
        ) from error
    document, lines = _parse(text, str(file))
    if not isinstance(document, dict):
        raise UsageError(
            "A migration is a mapping of keys to values.",
            code="bad_migration_file",
            where=f"{file}:1",
            fix="start with 'name: ...' and 'source:'; unift migrate plan writes a whole one",
        )
    # An empty section (`sweep:` with nothing below) means its defaults.
    whole = {
        key: value for key, value in cast("dict[str, Any]", document).items() if value is not None
    }

    def line_of(loc: Sequence[Any]) -> int | None:
        known = [lines[tuple(loc[:n])] for n in range(len(loc), 0, -1) if tuple(loc[:n]) in lines]
        return known[0] if known else 1

    try:
        spec = MigrationSpec.model_validate(whole)
    except ValidationError as error:
        raise spec_error(error, str(file), line_of) from None
    return absolute(spec, file.absolute().parent)


def _parse(text: str, where: str) -> tuple[Any, dict[tuple[Any, ...], int]]:
    """The document, and the line of every key in it."""
    import yaml

    try:
        node: Any = yaml.compose(text, Loader=yaml.SafeLoader)  # pyright: ignore[reportUnknownMemberType]  # untyped there
        lines: dict[tuple[Any, ...], int] = {}
        _walk(node, (), lines, where)
        return yaml.safe_load(text), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UsageError(
            f"The file is no YAML: {problem}.",
            code="bad_migration_file",
            where=f"{where}{line}",
            fix="mend that line; indent with spaces, and quote texts that contain ': ' or '#'",
        ) from None


def _walk(node: Any, path: tuple[Any, ...], lines: dict[tuple[Any, ...], int], where: str) -> None:
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in cast("list[tuple[Any, Any]]", node.value):
            here = (*path, key.value)
            if here in lines:
                raise UsageError(
                    f"'{'.'.join(map(str, here))}' is there twice.",
                    code="bad_migration_file",
                    where=f"{where}:{key.start_mark.line + 1}",
                    fix=f"keep one; the other is in line {lines[here]}",
                )
            lines[here] = int(key.start_mark.line) + 1
            _walk(value, here, lines, where)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(cast("list[Any]", node.value)):
            lines[(*path, index)] = int(value.start_mark.line) + 1
            _walk(value, (*path, index), lines, where)


def absolute(spec: MigrationSpec, base: Path) -> MigrationSpec:
    """The same with every path made absolute."""
    document = spec.model_dump()
    for section, keys in _PATHS:
        for key in keys:
            value = document[section][key]
            if isinstance(value, str):
                document[section][key] = relative_to(base, value)
            elif value:
                document[section][key] = tuple(relative_to(base, one) for one in value)
    return MigrationSpec.model_validate(document)
