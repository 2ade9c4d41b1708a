"""How servers of different habits read the bytes of one connection: where they agree there is nothing to smuggle.

Each reader is lenient in its own way. Example::

    readings(b"GET /a HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n")      # {(("GET", "/a"),)}: all see the same
"""

from __future__ import annotations

import itertools
import re

Seen = tuple[tuple[str, str], ...]
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def readings(data: bytes) -> set[Seen]:
    """What each of the readers takes for the requests on this connection; one element means that all agree."""
    habits = itertools.product(("length", "chunked"), ("first", "last"), (True, False), (True, False))
    return {_read(data, *habit) for habit in habits}


def _read(data: bytes, prefers: str, repeated: str, bare_line_ends: bool, trims: bool) -> Seen:
    seen: list[tuple[str, str]] = []
    while data.strip(b"\r\n"):
        head, data = _head(data.lstrip(b"\r\n"), bare_line_ends)
        if head is None:
            break
        lines = re.split(rb"\r\n|\n|\r" if bare_line_ends else rb"\r\n", head)
        words = lines[0].split()
        seen.append(
            (
                words[0].decode("latin-1") if words else "",
                words[1].decode("latin-1") if len(words) > 1 else "",
            )
        )
        fields: dict[bytes, bytes] = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            name = (name.strip() if trims else name).lower()
            if name not in fields or repeated == "last":
                fields[name] = value.strip(b" \t\x0b\0") if trims else value.strip(b" \t")
        chunked = b"chunked" in fields.get(b"transfer-encoding", b"").lower()
        length = fields.get(b"content-length")
        if chunked and (prefers == "chunked" or length is None):
            data = _after_chunks(data, bare_line_ends)
        elif length is not None:
            digits = re.match(rb"\d+", length)
            data = data[int(digits[0]) if digits else 0 :]
    return tuple(seen)


def _head(data: bytes, bare_line_ends: bool) -> tuple[bytes | None, bytes]:
    found = re.search(rb"\r?\n\r?\n" if bare_line_ends else rb"\r\n\r\n", data)
    return (data[: found.start()], data[found.end() :]) if found else (None, b"")


def _after_chunks(data: bytes, bare_line_ends: bool) -> bytes:
    end = rb"\r?\n" if bare_line_ends else rb"\r\n"
    while True:
        found = re.match(rb"(?:0x)?[+-]?([0-9a-fA-F]+)[^\r\n]*" + end, data)
        if found is None:
            return data
        size, data = int(found[1], 16), data[found.end() :]
        size = size & 0xFFFFFFFFFFFFFFFF if bare_line_ends else size
        if not size and bare_line_ends:
            return data  # and knows no trailers
        if not size:
            _, rest = _head(b"\r\n" + data, bare_line_ends)
            return rest
        data = data[size:]
        if not bare_line_ends and not data.startswith(b"\r\n"):
            return b""  # a strict reader closes
        data = re.sub(rb"^\r?\n", b"", data, count=1)


def faults(data: bytes, host: str) -> list[str]:
    """What a careful reader would object to in the requests on this connection; none for what we send ourselves."""
    found: list[str] = []
    rest = data
    while rest:
        head, mark, rest = rest.partition(b"\r\n\r\n")
        if not mark:
            return [*found, f"an unfinished head {head[:60]!r}"]
        lines = head.split(b"\r\n")
        if not re.fullmatch(_TOKEN.pattern + rb" [/*][!-~]* HTTP/1\.1", lines[0]):
            found.append(f"request line {lines[0][:60]!r}")
        if re.search(rb"[\r\n\0]", b"".join(lines)):
            found.append("a control character in the head")
        names = [line.partition(b":")[0] for line in lines[1:]]
        found += [f"header name {name!r}" for name in names if not _TOKEN.fullmatch(name)]
        hosts = [line.partition(b":")[2].strip() for line in lines[1:] if line.lower().startswith(b"host:")]
        if hosts != [host.encode()]:
            found.append(f"host {hosts}")
        framings = [
            name.lower() for name in names if name.lower() in (b"content-length", b"transfer-encoding")
        ]
        if len(framings) > 1:
            found.append(f"framed by {framings}")
        fields = {line.partition(b":")[0].lower(): line.partition(b":")[2].strip() for line in lines[1:]}
        length = fields.get(b"content-length")
        if length is not None:
            if not re.fullmatch(rb"[0-9]{1,18}", length):
                return [*found, f"content-length {length!r}"]
            rest = rest[int(length) :]
        elif b"transfer-encoding" in fields:
            if not re.match(rb"[0-9a-fA-F]+(;[^\r\n]*)?\r\n", rest) and rest:
                return [*found, f"chunk {rest[:20]!r}"]
            rest = _after_chunks(rest, bare_line_ends=False)
    return found
