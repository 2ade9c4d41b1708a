"""Handing traces and logs to a collector: OTLP over HTTP with JSON (opentelemetry-specification, OTLP/HTTP). I/O.

It refuses redirects and addresses that are not http or https, and says what the collector did not take. What the
specification calls retryable (429, 502, 503, 504) is tried again, a few times, as long as the collector asks.

    with Collector("http://127.0.0.1:4318", {}) as collector:
        collector.send("traces", {"resourceSpans": []})
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

from capsule.errors import CapsuleError, Fault, UsageError

TIMEOUT = 10.0
TRIES = 4
LONGEST_WAIT = 10.0
MAX_ANSWER = 64 * 1024
_AGAIN = frozenset({429, 502, 503, 504})


class CollectorError(CapsuleError):
    """The collector did not take what was sent."""

    fault = Fault.HOST
    exit_code = 125


class Collector:
    """One connection to a collector.

    Attributes:
        rejected: how many spans and records it said it did not take.
    """

    def __init__(self, endpoint: str, headers: Mapping[str, str]) -> None:
        """Where it is, and headers it wants (a token, say).

        Raises:
            UsageError: the endpoint is no http or https address.
        """
        parts = urlsplit(endpoint)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or port == -1
            or parts.query
            or parts.fragment
        ):
            raise UsageError(
                f"{endpoint!r} is no endpoint", next_step="write http://HOST:4318 or https://HOST:4318"
            )
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, port, timeout=TIMEOUT)
        self._base = parts.path.rstrip("/")
        self._endpoint = endpoint
        self._headers = {"Content-Type": "application/json", **headers}
        self.rejected = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, signal: str, data: Mapping[str, Any]) -> None:
        """Hand over one request's worth.

        Args:
            signal: `traces` or `logs`.
            data: the message, in its JSON encoding.

        Raises:
            CollectorError: it cannot be reached, or refuses.
        """
        body = json.dumps(data, separators=(",", ":")).encode()
        for attempt in range(TRIES):
            status, answer, pause = self._post(f"{self._base}/v1/{signal}", body)
            if status in _AGAIN and attempt + 1 < TRIES:
                time.sleep(min(LONGEST_WAIT, 0.2 * 2**attempt if pause is None else pause))
                continue
            if status != 200:
                said = answer[:200].decode("utf-8", "backslashreplace").strip()
                raise CollectorError(
                    f"{self._endpoint} answers {status} to {signal}{f': {said}' if said else ''}",
                    next_step="check the endpoint and its --header",
                )
            self._count(answer)
            return

    def _post(self, path: str, body: bytes) -> tuple[int, bytes, float | None]:
        try:
            self._connection.request("POST", path, body, self._headers)
            answer = self._connection.getresponse()
            data = answer.read(MAX_ANSWER)
            if not answer.isclosed():
                self._connection.close()  # a longer answer is not worth reading; the next request begins anew
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise CollectorError(
                f"{self._endpoint} cannot be reached: {error or type(error).__name__}",
                next_step="check that a collector listens there for OTLP over HTTP",
            ) from error
        pause = answer.getheader("Retry-After") or ""
        return answer.status, data, float(pause) if pause.isascii() and pause.isdigit() else None

    def _count(self, answer: bytes) -> None:
        try:
            said = json.loads(answer or b"{}").get("partialSuccess") or {}
            self.rejected += int(said.get("rejectedSpans") or said.get("rejectedLogRecords") or 0)
        except (ValueError, AttributeError, TypeError):
            return  # the answer's form is the collector's business; 200 says it was taken
