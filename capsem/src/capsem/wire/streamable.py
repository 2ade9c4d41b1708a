"""MCP over HTTP as its client says it and reads it: the headers of a request, and what an answer is.

Pure, after the streamable HTTP transport of the Model Context Protocol (2025-03-26 to 2025-11-25). Everything of a
server is hostile: a session's id and a version that would not fit a header are refused, redirects are never followed,
and an answer is what its status and type say it is, or an error that says what came.

    fields = Speaking(session="…", version="2025-06-18").fields(posts=True)
    content(200, {"content-type": "text/event-stream"})         # "events"
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from capsem.vm.remote import Address, parse_address
from capsule.egress.verdict import BLOCKED

_SESSION = re.compile(r"[\x21-\x7e]{1,1024}")
_VERSION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EVENT = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,1022}[\x21-\x7e])?")
SAID = 200
"""Characters of a server's text that an error repeats."""


class AnswerError(Exception):
    """What came is no answer of MCP; the text says what it is.

    Attributes:
        over: the server knows the session no more.
    """

    def __init__(self, reason: str, *, over: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.over = reason, over


@dataclass(frozen=True, slots=True)
class Speaking:
    """What is known of a conversation, and goes into the head of each of its requests.

    Attributes:
        session: as the server named it; None: it has none.
        version: that both agreed on; None: not yet.
    """

    session: str | None = None
    version: str | None = None

    def fields(self, *, posts: bool, last: str = "") -> dict[str, str]:
        """The headers of a request.

        Args:
            posts: a message goes with it.
            last: the id of the last event of a stream that is taken up again.
        """
        both = "application/json, text/event-stream"
        found = {"accept": both if posts else "text/event-stream", "accept-encoding": "identity"}
        if posts:
            found["content-type"] = "application/json"
        if self.session is not None:
            found["mcp-session-id"] = self.session
        if self.version is not None:
            found["mcp-protocol-version"] = self.version
        if last and _EVENT.fullmatch(last):
            found["last-event-id"] = last
        return found


def begun(fields: Mapping[str, str], untrusted_answer: Mapping[str, Any]) -> Speaking:
    """What an answer to `initialize` begins; an error begins nothing.

    Raises:
        AnswerError: an id or a version that is none.
    """
    session = fields.get("mcp-session-id")
    if session is not None and _SESSION.fullmatch(session) is None:
        raise AnswerError("a session's id that is not 1 to 1024 visible characters of ASCII")
    result = untrusted_answer.get("result")
    if not isinstance(result, dict):
        return Speaking()
    version = result.get("protocolVersion")
    if not isinstance(version, str) or _VERSION.fullmatch(version) is None:
        raise AnswerError("a version of the protocol that is no date")
    return Speaking(session, version)


def content(
    status: int, fields: Mapping[str, str], *, known: bool = False
) -> Literal["message", "events", "nothing"]:
    """What the body of an answer is.

    Args:
        status: of it.
        fields: its headers, lower case.
        known: the request was of a session.

    Raises:
        AnswerError: it is nothing of MCP.
    """
    if 300 <= status < 400:
        where = printable(fields.get("location", "nowhere"))
        raise AnswerError(f"a redirect to {where}, which is not followed: write the server's own address")
    if status == 404 and known:
        raise AnswerError("it knows the session no more: begin a new one", over=True)
    if status == 401:
        raise AnswerError("401: it wants a credential, or another: `headers` with a secret of the policy")
    if not 200 <= status < 300:
        raise AnswerError(f"status {status}")
    if status in (202, 204):
        return "nothing"
    if fields.get("content-encoding", "identity").lower() != "identity":
        raise AnswerError("a content coding that nobody asked for")
    kind = fields.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return "message"
    if kind == "text/event-stream":
        return "events"
    raise AnswerError(f"the type {printable(kind) or 'none'}, which is neither JSON nor events")


def told(status: int, fields: Mapping[str, str], untrusted_body: bytes) -> str:
    """What the body of an error says, in a few words; empty: nothing."""
    text = untrusted_body.decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        kind = fields.get("content-type", "").partition(";")[0].strip().lower()
        return printable(text) if kind == "text/plain" else ""
    body = body if isinstance(body, dict) else {}
    if status == 403 and BLOCKED in fields:
        words = [body.get(name) for name in ("reason", "place", "allow")]
        return printable("; ".join(word for word in words if isinstance(word, str)), 3 * SAID)
    error = body.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return printable(message) if isinstance(message, str) else ""


def printable(untrusted_text: str, most: int = SAID) -> str:
    """A text for an error: on one line, without what drives a terminal, cut."""
    plain = "".join(one if one.isprintable() else " " for one in untrusted_text[: 4 * most])
    plain = " ".join(plain.split())
    return plain if len(plain) <= most else plain[:most] + "…"


def resolved(origin: Address, untrusted_endpoint: str) -> Address:
    """Where a server of the older transport wants its messages (2024-11-05): at its own origin, or nowhere.

    Raises:
        AnswerError: it is elsewhere.
    """
    try:
        found = urlsplit(untrusted_endpoint)
        if found.scheme or found.netloc:
            address = parse_address(untrusted_endpoint)
        else:
            where = untrusted_endpoint if untrusted_endpoint.startswith("/") else ""
            scheme = "https" if origin.secure else "http"
            address = parse_address(f"{scheme}://{origin.host}:{origin.port}{where}")
            if not where:
                raise ValueError("a path that does not begin with /")
    except ValueError as error:
        raise AnswerError(f"an endpoint that is none: {error}") from None
    if (address.secure, address.host, address.port) != (origin.secure, origin.host, origin.port):
        raise AnswerError(f"an endpoint at another place: {printable(untrusted_endpoint)}")
    return address
