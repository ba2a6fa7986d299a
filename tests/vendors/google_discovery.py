"""Google's own description of its APIs, as a judge of every request that the tests send.

The documents are those that google-api-python-client carries (aiplatform v1beta1, storage v1).
`BAD` gathers what does not fit over the whole test run, `SEEN` counts what was judged.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

BAD: list[str] = []
SEEN: Counter[str] = Counter()
_V1BETA1 = "GoogleCloudAiplatformV1beta1"
# Upload and download have addresses of their own, and parameters that no method lists.
_MEDIA = {"alt", "uploadType", "upload_id"}


@dataclass(frozen=True)
class Method:
    id: str
    verb: str
    path: re.Pattern[str]
    query: frozenset[str]
    request: str | None


class Api:
    """One discovery document."""

    def __init__(self, name: str) -> None:
        spec = find_spec("googleapiclient")
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent / "discovery_cache" / "documents"
        self._document = json.loads((folder / f"{name}.json").read_bytes())
        self.schemas: dict[str, Any] = self._document["schemas"]
        self._common = frozenset(self._document["parameters"]) | _MEDIA
        self._methods = list(self._walk(self._document["resources"]))
        self._found: dict[tuple[str, str], Method | None] = {}

    def _walk(self, resources: dict[str, Any]) -> Any:
        for resource in resources.values():
            for method in resource.get("methods", {}).values():
                yield from self._entries(method)
            yield from self._walk(resource.get("resources", {}))

    def _entries(self, method: dict[str, Any]) -> Any:
        query = frozenset(
            name for name, one in method.get("parameters", {}).items() if one["location"] == "query"
        )
        paths = [self._document["servicePath"] + method["path"]]
        for protocol in method.get("mediaUpload", {}).get("protocols", {}).values():
            paths.append(protocol["path"].lstrip("/"))
        if method.get("useMediaDownloadService"):
            paths.append("download/" + paths[0])
        for path in paths:
            pattern = re.sub(
                r"\{(\+?)([^}]+)\}",
                lambda found, method=method: _part(method, found[1], found[2]),
                path,
            )
            yield Method(
                method["id"],
                method["httpMethod"],
                re.compile(pattern),
                query | self._common,
                method.get("request", {}).get("$ref"),
            )

    def method(self, verb: str, path: str) -> Method | None:
        # Ids differ from job to job; the words of the path do not.
        shape = re.sub(r"(?<=/)[^/:]*\d[^/:]*", "1", path)
        if (verb, shape) not in self._found:
            fitting = [m for m in self._methods if m.verb == verb and m.path.fullmatch(path)]
            # `.../x:read` fits the pattern of `.../{name}` as well; the longer one is meant.
            found = max(fitting, key=lambda one: len(one.path.pattern), default=None)
            self._found[verb, shape] = found
        return self._found[verb, shape]

    def fits(self, name: str, value: Any) -> list[str]:
        """What is wrong with a value of a schema."""
        wrong: list[str] = []
        self._check({"$ref": name}, value, name.removeprefix(_V1BETA1), wrong)
        return wrong

    def _check(self, schema: dict[str, Any], value: Any, at: str, wrong: list[str]) -> None:
        schema = self.schemas[schema["$ref"]] if "$ref" in schema else schema
        kind = schema.get("type", "any")
        if not _OF[kind](value) and not _whole_number(schema, value):
            wrong.append(f"{at} is {value!r:.60}, not {kind}")
        elif "enum" in schema and value not in schema["enum"]:
            wrong.append(f"{at} is {value!r:.60}, none of {schema['enum']}")
        elif kind == "array":
            for number, item in enumerate(value):
                self._check(schema["items"], item, f"{at}[{number}]", wrong)
        elif kind == "object":
            known = schema.get("properties", {})
            other = schema.get("additionalProperties")
            for given, item in value.items():
                # JSON of Protocol Buffers takes the names of the fields in snake case as well.
                key = re.sub("_([a-z])", lambda found: found[1].upper(), given)
                key = key if key in known else given
                if key in known and known[key].get("readOnly"):
                    wrong.append(f"{at}.{key} is read only")
                elif key in known or other:
                    self._check(known.get(key) or other, item, f"{at}.{key}", wrong)
                else:
                    wrong.append(f"{at}.{key} does not exist")


def _part(method: dict[str, Any], many: str, name: str) -> str:
    pattern = method["parameters"][name].get("pattern")
    if many and pattern:
        return pattern.strip("^$")
    return ".+" if many else "[^/]+"


def _whole_number(schema: dict[str, Any], value: Any) -> bool:
    """JSON of Protocol Buffers takes 64-bit integers as numbers, too."""
    return schema.get("format") in ("int64", "uint64") and type(value) is int


_OF = {
    "any": lambda value: True,
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
}


@cache
def api(name: str) -> Api:
    return Api(name)


def judge(verb: str, path: str, query: dict[str, str], body: Any) -> list[str]:
    """Hold one request against the description; what is wrong is kept in `BAD`, too."""
    platform = path.startswith("v1beta1/")
    described = api("aiplatform.v1beta1" if platform else "storage.v1")
    method = described.method(verb, path)
    if method is None:
        wrong = [f"there is no {verb} {path}"]
    else:
        SEEN[method.id] += 1
        unknown = sorted(set(query) - method.query)
        wrong = [f"{method.id} has no parameter {name}" for name in unknown]
        # GoogleApiHttpBody is any HTTP body.
        if body is not None and method.request not in (None, "GoogleApiHttpBody"):
            wrong += described.fits(method.request, body)
    BAD.extend(wrong)
    return wrong


def judge_rows(kind: str, content: bytes) -> list[str]:
    """Hold training rows against ``GeminiExample`` or ``GeminiPreferenceExample``."""
    described = api("aiplatform.v1beta1")
    name = f"{_V1BETA1}{kind}"
    wrong = [w for line in content.splitlines() for w in described.fits(name, json.loads(line))]
    SEEN[kind] += 1
    BAD.extend(wrong)
    return wrong
