"""An answer's body on its way to the program: decoded if need be, freed of secrets' values, edited by rules.

Pure. Refuses an answer that a rule edits or that may hold a secret's value and that cannot be read: an unknown content
coding, JSON that is none or longer than `BODY`. Memory is bounded by a line of `rewrite.MAX_LINE` or by `BODY`.

    body = Returning(edits, echoes, "text/event-stream", "", length=None)
    body.feed(chunk), body.end(), body.redacted
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from capsule.egress.echoes import Echoes, EchoStream
from capsule.egress.envelope import EnvelopeStream, enveloped
from capsule.rules.rewrite import Edit, LineRedactor, Lines, RewriteError, changes_body, edit_body, redacts

BODY = 1 << 20
"""Bytes of a body that is kept whole."""
_PIECE = 1 << 16
_LINES = ("ndjson", "jsonl", "json-seq", "x-json-stream")


class Returning:
    """One body.

    Args:
        edits: of the rules, for the response.
        echoes: values that may come back.
        content_type: of the answer.
        coding: its content coding; `gzip` and `deflate` can be decoded.
        length: its Content-Length, when it has one.

    Attributes:
        decoded: the coding is taken off.
        whole: the body is short and its length known: it is changed at its end, and goes out with a length.
        keeps_length: what goes out has the length of what came.

    Raises:
        RewriteError: it has a coding that cannot be taken off.
    """

    def __init__(
        self,
        edits: Sequence[Edit],
        echoes: Echoes | None,
        content_type: str,
        coding: str,
        *,
        length: int | None,
    ) -> None:
        coding = coding.strip().lower()
        kind = content_type.partition(";")[0].strip().lower()
        self.decoded = coding in ("gzip", "x-gzip", "deflate")
        if not self.decoded and coding not in ("", "identity"):
            raise RewriteError(
                f"the answer came as {coding[:40]!r}, though it was asked for as it is, so it cannot be looked at",
                next_step="let the upstream answer without a content coding",
            )
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32) if self.decoded else None
        self._edits = tuple(edit for edit in edits if edit.where == "response")
        json_edits = changes_body(self._edits, "response")
        lines: Lines = "text"
        if kind == "text/event-stream":
            lines = "events"
        elif any(mark in kind for mark in _LINES):
            lines = "json"
        self._document: bytearray | None = bytearray() if json_edits and lines == "text" else None
        self._liner: LineRedactor | None = None
        if self._document is None and (json_edits or redacts(self._edits, "response")):
            self._liner = LineRedactor(self._edits, "response", lines=lines)
        edited = self._document is not None or self._liner is not None
        self.whole = length is not None and length <= BODY and not self.decoded
        self.keeps_length = not self.decoded and not edited and not self.whole and length is not None
        self._echo: EchoStream | EnvelopeStream | None = None
        if echoes:
            messages = enveloped(content_type) and not edited
            self._echo = EnvelopeStream(echoes) if messages else echoes.stream(keep_length=self.keeps_length)
        self.idle = not edited and self._echo is None

    @property
    def redacted(self) -> int:
        """How many values became placeholders."""
        return self._echo.count if self._echo is not None else 0

    def feed(self, untrusted_data: bytes) -> bytes:
        """What may go on now.

        Raises:
            RewriteError: the body cannot be changed as it must be; nothing more may go on.
        """
        if self._inflate is None:
            return self._edited(self._replaced(untrusted_data))
        out = []
        try:
            while untrusted_data:
                piece = self._inflate.decompress(untrusted_data, _PIECE)
                untrusted_data = self._inflate.unconsumed_tail
                out.append(self._edited(self._replaced(piece)))
                if self._inflate.eof:
                    break
        except zlib.error as error:
            raise RewriteError(
                f"the answer is not of the coding that it names: {error}",
                next_step="ask the upstream's operator",
            ) from None
        return b"".join(out)

    def end(self) -> bytes:
        """The rest, when the body is over.

        Raises:
            RewriteError: as `feed`.
        """
        rest = self._echo.end() if self._echo is not None else b""
        out = self._edited(rest)
        if self._document is not None:
            return out + edit_body(self._edits, bytes(self._document), "response")
        return out + (self._liner.end() if self._liner is not None else b"")

    def _replaced(self, data: bytes) -> bytes:
        return self._echo.feed(data) if self._echo is not None else data

    def _edited(self, data: bytes) -> bytes:
        if self._document is not None:
            self._document += data
            if len(self._document) > BODY:
                raise RewriteError(
                    f"the answer is longer than {BODY} bytes, and a rule edits JSON in it",
                    next_step="take the rule off this host",
                )
            return b""
        return self._liner.feed(data) if self._liner is not None and data else data
