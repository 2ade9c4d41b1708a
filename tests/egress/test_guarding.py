"""Whatever an upstream says of a secret outside of a body, and we of that: the program reads a placeholder."""

from __future__ import annotations

from typing import Any

import pytest
from mitmproxy.http import Headers, Response

from capsule.egress.filling import Vault
from capsule.egress.frames import SecretPlan, SecretValue
from capsule.egress.guarding import Guard
from tests.egress.supervisor import host
from tests.egress.test_filling import PLACEHOLDER, secret
from tests.egress.test_layers import to
from tests.egress.upstream import Upstream

VALUE = "my-real-token-42"
ANSWERED = ("reason", "name", "name-other-case")
BROKEN = (
    "status-line",
    "status",
    "header-line",
    "header-name",
    "long-name",
    "length",
    "encoding",
    "coding",
    "chunk",
)


def own() -> dict[str, Any]:
    found = secret()
    found["secrets"]["token"]["value"] = VALUE
    return found


def parts(text: str) -> set[str]:
    """The pieces of the value of eight letters that the text holds."""
    return {VALUE[at : at + 8] for at in range(len(VALUE) - 7) if VALUE[at : at + 8] in text.lower()}


@pytest.mark.needs("userns", "unshare", "curl")
@pytest.mark.parametrize("where", [*ANSWERED, *BROKEN])
def test_a_value_in_an_answers_head(session: Any, upstream: Upstream, where: str) -> None:
    inside = session(host("a.example", 443), **to(upstream), **own())
    header = f"Authorization: Bearer {PLACEHOLDER}"
    done = inside.curl("--http1.1", "-i", "-H", header, f"https://a.example/shout/{where}")
    assert upstream.seen[-1][2]["authorization"] == f"Bearer {VALUE}", "the control: it went out"
    assert not parts(done.out + done.err), done
    if where in ANSWERED:
        assert PLACEHOLDER in done.out, done
        assert inside.run.record("egress.http", path=f"/shout/{where}")["http"]["redacted"] == 1
    elif where != "chunk":
        assert "capsule" in done.out, done
    assert not parts(repr(inside.run.frames))


@pytest.mark.needs("userns", "unshare", "curl")
@pytest.mark.parametrize("where", ["reason", "name", "header-line"])
def test_without_a_secret_it_would_be_read(session: Any, upstream: Upstream, where: str) -> None:
    """The control of the attack."""
    inside = session(host("a.example", 443), **to(upstream))
    header = f"Authorization: Bearer {VALUE}"
    done = inside.curl("--http1.1", "-i", "-H", header, f"https://a.example/shout/{where}")
    assert VALUE in done.out


def guard() -> Guard:
    plan = SecretPlan("token", ("a.example",), "header", "Authorization", None)
    vault = Vault([plan], {"token": SecretValue(VALUE, PLACEHOLDER, None)}, lambda _: None)
    return Guard(vault, "a.example")


def test_heads_trailers_and_words() -> None:
    response = Response.make(
        200, b"", Headers([(b"x-" + VALUE.encode(), b"1"), (b"y", b"%6dy-real-token-42")])
    )
    response.data.reason = VALUE.encode()
    assert guard().head(response) == 3
    assert VALUE.encode() not in repr(response.data).encode()
    assert response.data.reason == PLACEHOLDER.encode()
    trailers = Headers([(b"X-MY-REAL-TOKEN-42", VALUE.encode()), (b"grpc-status", b"0")])
    assert guard().fields(trailers) == 2
    assert trailers.fields == ((b"x-" + PLACEHOLDER.encode(), PLACEHOLDER.encode()), (b"grpc-status", b"0"))
    assert guard().text(f"bad line: {VALUE.encode()!r}") == f"bad line: {PLACEHOLDER.encode()!r}"
    assert Guard(None, "a.example").text(VALUE) == VALUE
