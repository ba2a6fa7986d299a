"""Tools: their declarations, their calls, and the answers to the calls."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from unift._text import nearest
from unift.data._finding import Path
from unift.data._parse import Note, strictly
from unift.data._schema import mismatches, schema_fault

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
Schemas = Mapping[str, dict[str, Any]]


def check_tools(tools: object, note: Note) -> None:
    """Faults of the declarations."""
    if not isinstance(tools, list):
        note("UD307", ("tools",), "`tools` is not a list.")
        return
    names: set[str] = set()
    for index, tool in enumerate(cast("list[Any]", tools)):
        path: Path = ("tools", index)
        whole = cast("dict[str, Any]", tool) if isinstance(tool, dict) else {}
        function = whole.get("function")
        if not isinstance(function, dict) or whole.get("type") != "function":
            note("UD307", path, 'The tool is not {"type": "function", "function": {...}}.')
            continue
        fields = cast("dict[str, Any]", function)
        path = (*path, "function")
        name = fields.get("name")
        if not isinstance(name, str):
            note("UD307", path, "The tool has no name.")
        elif not _NAME.fullmatch(name):
            note("UD308", (*path, "name"), f"The tool name {name[:70]!r} is not accepted.")
        elif name in names:
            note("UD310", (*path, "name"), f"The tool {name!r} is declared twice.")
        else:
            names.add(name)
        if "description" in fields and not isinstance(fields["description"], str):
            note("UD307", (*path, "description"), "The description is not a string.")
        parameters = fields.get("parameters")
        if parameters is not None and not _is_object_schema(parameters):
            note("UD309", (*path, "parameters"), "`parameters` is not the schema of an object.")
        elif parameters is not None:
            fault = schema_fault(cast("dict[str, Any]", parameters))
            if fault is not None:
                inside, message = fault
                note("UD315", (*path, "parameters", *inside), message)


def _is_object_schema(schema: object) -> bool:
    if not isinstance(schema, dict):
        return False
    fields = cast("dict[str, Any]", schema)
    # A tool without arguments may be declared with an empty schema.
    return not fields or (
        fields.get("type") == "object" and isinstance(fields.get("properties", {}), dict)
    )


def declared(tools: object) -> Schemas | None:
    """Name -> parameters of the declared tools; None if the row declares none."""
    if not isinstance(tools, list):
        return None
    found: dict[str, dict[str, Any]] = {}
    for tool in cast("list[Any]", tools):
        function = cast("dict[str, Any]", tool).get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict):
            fields = cast("dict[str, Any]", function)
            parameters = fields.get("parameters")
            found[str(fields.get("name"))] = (
                cast("dict[str, Any]", parameters) if isinstance(parameters, dict) else {}
            )
    return found


def check_calls(messages: list[dict[str, Any]], schemas: Schemas | None, note: Note) -> None:
    """Faults of the calls and of the messages that answer them, over a whole row."""
    waiting: dict[str, int] = {}  # id of a call -> index of its message
    for index, message in enumerate(messages):
        path: Path = ("messages", index)
        role = message.get("role")
        if role == "tool":
            _check_answer(message, waiting, path, note)
            continue
        if waiting:
            first = next(iter(waiting))
            note(
                "UD305",
                ("messages", waiting[first], "tool_calls"),
                f"The call {first[:40]!r} is not answered before message {index + 1}.",
            )
            waiting = {}
        calls = message.get("tool_calls")
        if calls is None:
            continue
        if role != "assistant":
            note("UD303", (*path, "tool_calls"), f"A {role} message has tool calls.")
        waiting = _check_list(calls, index, schemas, note)


def _check_answer(message: dict[str, Any], waiting: dict[str, int], path: Path, note: Note) -> None:
    answered = message.get("tool_call_id")
    if not isinstance(answered, str):
        note("UD304", path, "The tool message has no tool_call_id.")
    elif answered not in waiting:
        ids = ", ".join(repr(known[:40]) for known in waiting) or "none"
        note(
            "UD304",
            (*path, "tool_call_id"),
            f"No call with the id {answered[:40]!r} waits for an answer (waiting: {ids}).",
        )
    else:
        del waiting[answered]


def _check_list(calls: object, index: int, schemas: Schemas | None, note: Note) -> dict[str, int]:
    """Check the calls of one message; answers the ids that now wait for an answer."""
    path: Path = ("messages", index, "tool_calls")
    if not isinstance(calls, list) or not calls:
        note("UD300", path, "`tool_calls` is not a list with calls in it.")
        return {}
    waiting: dict[str, int] = {}
    for number, call in enumerate(cast("list[Any]", calls)):
        here = (*path, number)
        fields = cast("dict[str, Any]", call) if isinstance(call, dict) else {}
        function = fields.get("function")
        if fields.get("type") != "function" or not isinstance(function, dict):
            note("UD300", here, 'The call is not {"id", "type": "function", "function": {...}}.')
            continue
        known = fields.get("id")
        if not isinstance(known, str) or not known:
            note("UD300", here, "The call has no id.")
        elif known in waiting:
            note("UD306", (*here, "id"), f"The id {known[:40]!r} is used twice.")
        else:
            waiting[known] = index
        _check_function(cast("dict[str, Any]", function), schemas, (*here, "function"), note)
    return waiting


def _check_function(
    function: dict[str, Any], schemas: Schemas | None, path: Path, note: Note
) -> None:
    name = function.get("name")
    if not isinstance(name, str) or not name:
        note("UD300", path, "The call names no function.")
    elif not _NAME.fullmatch(name):
        note("UD308", (*path, "name"), f"The tool name {name[:70]!r} is not accepted.")
    elif schemas is None:
        note("UD311", (*path, "name"), f"The row calls {name!r} but declares no tools.")
    elif name not in schemas:
        close = nearest(name, schemas)
        hint = f"did you mean '{close}'?" if close else None
        note("UD311", (*path, "name"), f"The tool {name!r} is not declared.", hint)
    here = (*path, "arguments")
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        state = "missing" if arguments is None else "not a string"
        note("UD301", here if "arguments" in function else path, f"`arguments` is {state}.")
        return
    try:
        value = strictly(arguments)
    except (ValueError, RecursionError) as error:
        note("UD302", here, f"The arguments are not JSON: {error}.")
        return
    if not isinstance(value, dict):
        note("UD302", here, "The arguments are JSON, but not an object.")
    elif schemas is not None and isinstance(name, str) and name in schemas:
        for inside, fault in mismatches(cast("dict[str, Any]", value), schemas[name]):
            note("UD312", (*here, *inside), fault)
