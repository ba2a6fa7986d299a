"""Content in parts: text and images (OpenAI's vision fine-tuning guide, read 2026-11)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Any, cast

from unift.data._finding import Path
from unift.data._parse import Note

MAX_IMAGE_BYTES = 10_000_000
_DATA = re.compile(r"data:image/(png|jpeg|jpg|webp);base64,", re.IGNORECASE)
_URL = re.compile(r"https?://[^\s/?#]+\.?[^\s]*", re.IGNORECASE)
# An image of another kind, by its data URI or the end of its address.
_OTHER_KIND = re.compile(
    r"data:image/([\w.+-]+)[;,]|https?://[^\s?#]+/[^\s/?#]*\.(gif|svg|bmp|tiff?|heic|avif|pdf)(?:[?#]|$)",
    re.IGNORECASE,
)
# First bytes of the three kinds of image that are accepted.
_SIGNATURES = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF"}
_IMAGE_FIX = 'write {"type": "image_url", "image_url": {"url": ...}}'
# Parts of OpenAI's Responses API and of Anthropic's messages, and what they are here.
_FOREIGN = {
    "input_text": 'write "type": "text"',
    "output_text": 'write "type": "text"',
    "input_image": _IMAGE_FIX,
    "image": _IMAGE_FIX,
    "image_base64": _IMAGE_FIX,
    "tool_use": "write it as tool_calls of the message",
    "tool_result": "write it as a message of the role tool",
    "thinking": "remove it; reasoning has no part of its own",
}
_UNTRAINABLE = ("input_audio", "audio", "file", "input_file", "video", "video_url", "document")


def check_parts(parts: list[Any], role: object, path: Path, note: Note) -> None:
    """Faults of a `content` list."""
    for index, part in enumerate(parts):
        here = (*path, index)
        if not isinstance(part, dict):
            note("UD400", here, "The content part is not an object.")
            continue
        fields = cast("dict[str, Any]", part)
        match fields.get("type"):
            case "text" | "refusal" as which:
                if not isinstance(fields.get(which), str):
                    note("UD400", here, f"The part has no `{which}` string.")
            case "image_url":
                if role != "user":
                    whose = f"an {role}" if role == "assistant" else f"a {role}"
                    note("UD402", here, f"There is an image in {whose} message.")
                _check_image(fields.get("image_url"), (*here, "image_url"), note)
            case str() as which if which in _UNTRAINABLE:
                note("UD401", here, f"Parts of type {which!r} cannot be trained on.")
            case None:
                note("UD400", here, "The content part has no `type`.")
            case which:
                said = f"There is no content part of type {str(which)[:40]!r}."
                note("UD400", here, said, _FOREIGN.get(str(which)))


def _check_image(image: object, path: Path, note: Note) -> None:
    fields = cast("dict[str, Any]", image) if isinstance(image, dict) else None
    url = fields.get("url") if fields is not None else None
    if fields is None or not isinstance(url, str):
        note("UD400", path, '`image_url` is not {"url": ...}.', _IMAGE_FIX)
        return
    detail = fields.get("detail")
    if detail is not None and detail not in ("auto", "low", "high"):
        note("UD407", (*path, "detail"), f"There is no detail {str(detail)[:40]!r}.")
    here = (*path, "url")
    start = _DATA.match(url)
    if start is None:
        other = _OTHER_KIND.match(url)
        if url.startswith("gs://"):
            note("UD408", here, f"{url[:60]!r} is in Google's storage.")
        elif other:
            kind = (other[1] or other[2]).lower()
            note("UD404", here, f"The image is {kind!r}; PNG, JPEG and WEBP are taken.")
        elif not _URL.fullmatch(url):
            note("UD404", here, f"{url[:60]!r} is neither a URL nor the data URI of an image.")
        return
    size = (len(url) - start.end()) // 4 * 3
    if size > MAX_IMAGE_BYTES + 3:  # unpacked, it would be there three times
        note("UD406", here, f"The image has {size / 1e6:.1f} MB.")
        return
    try:
        data = base64.b64decode(url[start.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        note("UD405", here, f"The image is not base64: {error}.")
        return
    claimed = start[1].lower().replace("jpg", "jpeg")
    if not data.startswith(_SIGNATURES[claimed]):
        note("UD405", here, f"The data is not a {claimed.upper()} image.")
    if len(data) > MAX_IMAGE_BYTES:
        note("UD406", here, f"The image has {len(data) / 1e6:.1f} MB.")


def text_of_parts(parts: Iterable[Any]) -> str:
    """All text of a `content` list, a line each."""
    texts: list[str] = []
    for part in parts:
        if isinstance(part, dict):
            text = cast("dict[str, Any]", part).get("text")
            if isinstance(text, str):
                texts.append(text)
    return "\n".join(texts)


def images_in(messages: Iterable[Any]) -> int:
    """How many images a row has."""
    count = 0
    for message in messages:
        content = cast("dict[str, Any]", message).get("content") if isinstance(message, dict) else 0
        if isinstance(content, list):
            for part in cast("list[Any]", content):
                if isinstance(part, dict):
                    count += cast("dict[str, Any]", part).get("type") == "image_url"
    return count
