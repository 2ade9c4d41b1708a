"""A request stays within the account that the policy's author chose."""

from __future__ import annotations

import base64

import pytest

from capsule.egress.credential import foreign
from capsule.egress.secrets import Secrets, SecretSpec
from tests.egress.secret_session import HOLD, PLACEHOLDERS, outgoing, session

HOST = "api.forge.example"
OWN = (b"authorization", b"Bearer " + HOLD["github"])


def basic(user: bytes, password: bytes) -> bytes:
    return b"Basic " + base64.b64encode(user + b":" + password)


@pytest.mark.parametrize(
    "headers",
    [
        (OWN,),
        (OWN, (b"idempotency-key", b"1"), (b"x-csrf-token", b"2"), (b"accept", b"*/*"), (b"x-monkey", b"1")),
        ((b"Authorization", HOLD["github"]),),
        ((b"authorization", b"token " + HOLD["github"]),),
    ],
)
def test_ones_own_credential(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    sent = outgoing(HOST, *headers, target=b"/a?page_token=1&q=key&monkey=1")
    assert foreign(session(), "github", sent) is None


ACCOUNTS = (
    b"OpenAI-Organization", b"openai-project", b"X-Goog-User-Project", b"anthropic-workspace-id",
    b"OpenAI_Organization", b"x_goog-user_project",
)  # fmt: skip


@pytest.mark.parametrize(
    "headers",
    [
        (),
        *(((b"authorization", HOLD["github"]), (name, b"other")) for name in ACCOUNTS),
        ((b"authorization", b"Bearer sk-foreign"),),
        ((b"authorization", b"Bearer sk-foreign " + HOLD["github"]),),
        ((b"authorization", b"Bearer sk-foreign, " + HOLD["github"]),),
        ((b"authorization", b"Bearer x=sk-foreign," + HOLD["github"]),),
        ((b"authorization", HOLD["github"] + b" sk-foreign"),),
        (OWN, (b"authorization", b"Bearer sk-foreign")),
        ((b"authorization", basic(b"me", HOLD["github"])),),
        *(
            (OWN, (name, b"sk-foreign"))
            for name in (
                b"x-api-key", b"X-Api-Key", b"x-goog-api-key", b"api-key", b"cookie", b"proxy-authorization",
                b"x-auth-token", b"x-amz-security-token", b"private-token", b"ocp-apim-subscription-key",
                b"x-functions-key", b"x_api_key", b"client-secret",
            )
        ),
        (OWN, (b"x-api-key", HOLD["github"])),
    ],
)  # fmt: skip
def test_foreign_headers(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    said = foreign(session(), "github", outgoing(HOST, *headers))
    assert said is not None
    assert "secret github" in said
    assert "sk-foreign" not in said


@pytest.mark.parametrize(
    "query",
    [
        b"key=1",
        b"$userProject=other",
        b"a=1&API_KEY=x",
        b"access_token=x",
        b"a;key=x",
        b"%6bey=x",
        b"X-Amz-Signature=x",
        b"sig=x",
        b"api%5Fkey=x",
    ],
)
def test_foreign_parameters(query: bytes) -> None:
    said = foreign(session(), "github", outgoing(HOST, OWN, target=b"/?" + query))
    assert said is not None
    assert said.startswith("parameter")


def test_a_secret_in_the_query() -> None:
    secrets = Secrets([SecretSpec("maps", ("maps.example",), "query", field="key")])
    secrets.put("maps", value="v", placeholder=PLACEHOLDERS["maps"], expires=None)

    def said(target: bytes, *headers: tuple[bytes, bytes]) -> str | None:
        return foreign(secrets, "maps", outgoing("maps.example", *headers, target=target))

    own = b"/?key=" + HOLD["maps"]
    assert said(own) is None
    assert said(own + b"&key=other") is not None
    assert said(own + b"x") is not None
    assert said(own, (b"authorization", b"Bearer x")) is not None
    assert said(b"/") == "it does not carry secret maps"


def test_a_basic_secret() -> None:
    secrets = session()
    right = outgoing("upload.example", (b"authorization", basic(b"__token__", HOLD["pypi"])))
    assert foreign(secrets, "pypi", right) is None
    for user, password in ((b"me", HOLD["pypi"]), (b"__token__", b"x" + HOLD["pypi"]), (HOLD["pypi"], b"")):
        assert (
            foreign(secrets, "pypi", outgoing("upload.example", (b"authorization", basic(user, password))))
            is not None
        )
    for value in (b"Basic !!!!", b"Basic YQ=", HOLD["pypi"]):
        assert foreign(secrets, "pypi", outgoing("upload.example", (b"authorization", value))) is not None
    assert (
        foreign(secrets, "any", outgoing("any.example", (b"authorization", basic(HOLD["any"], b"x")))) is None
    )


def test_a_secret_in_bodies_is_not_missed_in_the_head() -> None:
    assert foreign(session(), "oauth", outgoing("login.example")) is None
    assert foreign(session(), "oauth", outgoing("login.example", (b"x-api-key", b"y"))) is not None


def test_no_value_no_request() -> None:
    assert foreign(
        Secrets([SecretSpec("github", (HOST,), "header", field="authorization")]),
        "github",
        outgoing(HOST, OWN),
    )
    assert foreign(session(), "unknown", outgoing(HOST, OWN)) == "secret unknown has no value"
