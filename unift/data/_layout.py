"""Files that are text but no JSON Lines, told from their first lines."""

from __future__ import annotations


def layout(lines: list[bytes]) -> tuple[str, str] | None:
    """The code and message for a file that is no JSON Lines, from its first lines; or None."""
    filled = [line.strip() for line in lines[:50] if line.strip()]
    if not filled:
        return None
    head = filled[0]
    if head.startswith(b"["):
        inside = head[1:].lstrip() or (filled[1] if len(filled) > 1 else b"")
        if inside.startswith((b"{", b"]")) and not (len(filled) > 1 and filled[1][:1] == b"["):
            return "UD009", "The file is a JSON array, not JSON Lines."
    if head == b"{" or (head.startswith(b'{"') and len(filled) > 1 and not head.endswith(b"}")):
        if len(filled) > 1 and filled[1].startswith(b'"'):
            return "UD010", "The first row spreads over several lines."
    elif not head.startswith((b"{", b"[")) and _is_table(filled):
        return "UD011", f"The file looks like a table with the columns {head[:60].decode()!r}."
    return None


def _is_table(filled: list[bytes]) -> bool:
    """True for a header of plain names, separated alike in the lines below."""
    head = filled[0]
    if head.count(b'"') == 2 and head.endswith(b'"'):
        return False  # one JSON string, commas and all
    for separator in (b",", b"\t", b";"):
        names = head.split(separator)
        if len(names) > 1 and all(
            name.strip().strip(b'"').replace(b"_", b"").replace(b" ", b"").isalpha()
            for name in names
        ):
            return all(separator in line for line in filled[1:3])
    return False
