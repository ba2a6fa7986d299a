"""Arguments of tool calls against the JSON schema that the tool declares (jsonschema-rs).

The whole of JSON schema, draft 2020-12 unless `$schema` says otherwise. References go to the schema
itself only: nothing is fetched. Patterns are matched in linear time or given up.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

from unift._text import nearest
from unift.data._finding import Path

# With one of these, names may be taken that `properties` does not list.
_OPEN = frozenset(
    {
        "additionalProperties", "patternProperties", "unevaluatedProperties", "propertyNames",
        "allOf", "anyOf", "oneOf", "if", "$ref", "dependentSchemas",
    }
)  # fmt: skip
_LONGEST = 200


def schema_fault(schema: dict[str, Any]) -> tuple[Path, str] | None:
    """(path inside the schema, message) if it is no JSON schema."""
    found = _validator(json.dumps(schema, sort_keys=True))
    return cast("tuple[Path, str]", found) if isinstance(found, tuple) else None


def mismatches(arguments: dict[str, Any], schema: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """(path inside the arguments, message) of everything that does not fit."""
    found = _validator(json.dumps(schema, sort_keys=True))
    if isinstance(found, tuple):
        return  # said of the declaration
    try:
        errors = list(found.iter_errors(arguments))
    except ValueError:  # half a character, or deeper than the library goes: told elsewhere
        return
    for error in errors:
        yield tuple(error.instance_path), _sentence(str(error.message))
    properties = schema.get("properties")
    known = cast("dict[str, Any]", properties) if isinstance(properties, dict) else {}
    if known and not _OPEN & schema.keys():
        for name in arguments:
            if name not in known:
                close = nearest(name, known)
                hint = f" (did you mean {close!r}?)" if close else ""
                yield (), f"The tool does not declare the argument {name[:40]!r}{hint}."


@lru_cache(256)
def _validator(schema: str) -> Any:
    """A validator, or the fault of the schema."""
    import jsonschema_rs

    # The canonical text is decoded again: values that a schema cannot have are gone from it.
    try:
        return jsonschema_rs.validator_for(json.loads(schema), offline=True)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        path: Path = tuple(getattr(error, "instance_path", ()))
        return path, _sentence(str(getattr(error, "message", error)))
    except ValueError as error:  # numbers and nesting beyond what the library takes
        return (), _sentence(str(error))


def _sentence(text: str) -> str:
    line = " ".join(text.split())
    return (line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…").rstrip(".") + "."
