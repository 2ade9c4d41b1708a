"""A value goes to the right host, at the right place, over TLS, and is shown to nobody."""

from __future__ import annotations

import base64
import json
import pickle
import traceback
from urllib.parse import parse_qs, parse_qsl, quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.egress.secrets import BODY, Filled, SecretError, Secrets, SecretSpec
from tests.egress.secret_session import HOLD, PLACEHOLDERS, SPECS, VALUES, outgoing, session

NOW = 1_800_000_000_000


def basic(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def untouched(filled: Filled) -> bool:
    return not any(
        value.encode() in filled.target + repr(filled.headers).encode() for value in VALUES.values()
    )


def test_a_header() -> None:
    sent = outgoing("api.forge.example", (b"Accept", b"*/*"), (b"authorization", b"Bearer " + HOLD["github"]))
    filled = session().fill(sent, NOW)
    assert (filled.used, filled.elsewhere, filled.expired) == (("github",), (), ())
    assert filled.target == b"/"
    assert list(filled.headers) == [
        (b"Accept", b"*/*"),
        (b"authorization", b"Bearer " + VALUES["github"].encode()),
    ]


@pytest.mark.parametrize("host", ["x.git.example", "a.b.git.example", "api.forge.example"])
def test_hosts_that_the_secret_is_for(host: str) -> None:
    assert session().fill(outgoing(host, (b"AUTHORIZATION", b"token " + HOLD["github"])), NOW).used == (
        "github",
    )


def test_a_basic_credential() -> None:
    sent = outgoing("upload.example", (b"authorization", basic("__token__", PLACEHOLDERS["pypi"])))
    filled = session().fill(sent, NOW)
    assert filled.used == ("pypi",)
    assert filled.headers[0][1] == basic("__token__", VALUES["pypi"])


def test_a_basic_credential_as_password_or_as_user() -> None:
    for user, password in (("me", PLACEHOLDERS["any"]), (PLACEHOLDERS["any"], "x-oauth-basic")):
        filled = session().fill(outgoing("any.example", (b"authorization", basic(user, password))), NOW)
        assert filled.headers[0][1] == basic(
            user.replace(PLACEHOLDERS["any"], VALUES["any"]),
            password.replace(PLACEHOLDERS["any"], VALUES["any"]),
        )


def test_a_value_with_a_colon_is_never_a_user() -> None:
    secrets = Secrets([SecretSpec("any", ("any.example",), "basic")])
    secrets.put("any", value="a:b", placeholder=PLACEHOLDERS["any"], expires=None)
    filled = secrets.fill(outgoing("any.example", (b"authorization", basic(PLACEHOLDERS["any"], "x"))), NOW)
    assert [sighting.name for sighting in filled.elsewhere] == ["any"]


def test_a_parameter() -> None:
    target = b"/geo?q=1%2B1+x&api%20key=" + HOLD["maps"] + b"&empty&z="
    filled = session().fill(outgoing("maps.example", target=target), NOW)
    assert filled.used == ("maps",)
    assert parse_qsl(filled.target.partition(b"?")[2].decode(), keep_blank_values=True) == [
        ("q", "1+1 x"), ("api key", VALUES["maps"]), ("empty", ""), ("z", ""),
    ]  # fmt: skip
    assert filled.target.startswith(b"/geo?q=1%2B1+x&api%20key="), "the rest is as it was sent"
    assert session().fill(outgoing("10.1.2.3", target=target.replace(b"%20", b"+")), NOW).used == ("maps",)


PLACEMENTS = {
    "method": lambda hold: outgoing("api.forge.example", method=hold.decode()),
    "host": lambda hold: outgoing(hold.decode() + ".git.example"),
    "path": lambda hold: outgoing("api.forge.example", target=b"/a/" + hold + b"?x=1"),
    "path, escaped": lambda hold: outgoing(
        "api.forge.example", target=b"/" + b"".join(b"%%%02x" % b for b in hold)
    ),
    "query": lambda hold: outgoing("api.forge.example", target=b"/?x=" + hold),
    "query name": lambda hold: outgoing("api.forge.example", target=b"/?" + hold + b"=1"),
    "header": lambda hold: outgoing("api.forge.example", (b"x-token", hold)),
    "header name": lambda hold: outgoing("api.forge.example", (hold, b"1")),
    "cookie": lambda hold: outgoing("api.forge.example", (b"cookie", b"a=" + hold)),
    "user agent": lambda hold: outgoing("api.forge.example", (b"user-agent", base64.b64encode(b"x" + hold))),
    "basic": lambda hold: outgoing("api.forge.example", (b"authorization", basic("me", hold.decode()))),
    "other host": lambda hold: outgoing("evil.example", (b"authorization", hold)),
    "host that ends like it": lambda hold: outgoing("xapi.forge.example", (b"authorization", hold)),
    "host below it": lambda hold: outgoing("x.api.forge.example", (b"authorization", hold)),
    "suffix itself": lambda hold: outgoing("git.example", (b"authorization", hold)),
    "in the clear": lambda hold: outgoing("api.forge.example", (b"authorization", hold), encrypted=False),
    "right and wrong": lambda hold: outgoing(
        "api.forge.example", (b"authorization", hold), (b"x-copy", hold), target=b"/"
    ),
    "spelled": lambda hold: outgoing("api.forge.example", (b"authorization", base64.b64encode(hold))),
    "right and spelled": lambda hold: outgoing(
        "api.forge.example", (b"authorization", hold + b" " + base64.b64encode(hold))
    ),
}


@pytest.mark.parametrize("place", PLACEMENTS)
def test_anywhere_else_it_is_seen_and_nothing_is_filled(place: str) -> None:
    sent = PLACEMENTS[place](HOLD["github"])
    filled = session().fill(sent, NOW)
    assert {sighting.name for sighting in filled.elsewhere} == {"github"}
    assert filled.used == ()
    assert (filled.target, list(filled.headers)) == (sent.target, list(sent.headers))
    assert untouched(filled)


@pytest.mark.parametrize(
    ("place", "where", "reason"),
    [
        (
            "other host",
            "header authorization",
            "is for api.forge.example, *.git.example, not for evil.example",
        ),
        ("in the clear", "header authorization", "over TLS only"),
        ("header", "header x-token", "belongs in header Authorization only"),
        ("path", "path", "belongs in header Authorization only"),
        ("query name", "query", "belongs in header"),
        ("method", "method", "belongs in header"),
        ("header name", "header name", "belongs in header"),
    ],
)
def test_a_sighting_says_where_and_why(place: str, where: str, reason: str) -> None:
    found = session().fill(PLACEMENTS[place](HOLD["github"]), NOW).elsewhere[0]
    assert found.where == where
    assert reason in found.reason


def test_another_user_or_another_parameter_is_elsewhere() -> None:
    secrets = session()
    wrong_user = secrets.fill(
        outgoing("upload.example", (b"authorization", basic("me", PLACEHOLDERS["pypi"]))), NOW
    )
    assert "of user __token__ only" in wrong_user.elsewhere[0].reason
    other = secrets.fill(outgoing("maps.example", target=b"/?key=" + HOLD["maps"]), NOW)
    assert "query api key" in other.elsewhere[0].reason


def test_one_right_and_another_wrong() -> None:
    sent = outgoing("api.forge.example", (b"authorization", HOLD["github"] + b"," + HOLD["oauth"]))
    filled = session().fill(sent, NOW)
    assert [sighting.name for sighting in filled.elsewhere] == ["oauth"]
    assert untouched(filled)


def test_a_request_without_any_is_as_it_was() -> None:
    sent = outgoing("evil.example", (b"authorization", basic("a", "b")), target=b"/%2f?x=%zz&&=")
    filled = session().fill(sent, NOW)
    assert (filled.target, list(filled.headers)) == (sent.target, list(sent.headers))
    assert (filled.used, filled.elsewhere, filled.expired) == ((), (), ())


def test_a_value_that_looks_like_a_placeholder_is_not_filled_again() -> None:
    secrets = session()
    secrets.put("github", value=PLACEHOLDERS["oauth"], placeholder=PLACEHOLDERS["github"], expires=None)
    filled = secrets.fill(outgoing("api.forge.example", (b"authorization", HOLD["github"])), NOW)
    assert filled.headers[0][1] == HOLD["oauth"]
    assert not filled.elsewhere


def test_json_bodies() -> None:
    document = {
        "grant": "x",
        "secret": PLACEHOLDERS["oauth"],
        "nested": [f"a{PLACEHOLDERS['oauth']}b"],
        "n": 1.50,
    }
    for kind in ("application/json", "application/vnd.api+json; charset=utf-8", "APPLICATION/JSON"):
        body = json.dumps(document).encode()
        filled = session().fill_body(body, kind, host="login.example", encrypted=True, now_ms=NOW)
        assert filled.used == ("oauth",)
        assert json.loads(filled.body) == {
            **document, "secret": VALUES["oauth"], "nested": [f"a{VALUES['oauth']}b"],
        }  # fmt: skip
        assert b"1.5" in filled.body, "numbers are as they were written"


def test_form_bodies() -> None:
    body = urlencode({"grant_type": "a b", "client_secret": PLACEHOLDERS["oauth"]}).encode()
    filled = session().fill_body(
        body, "application/x-www-form-urlencoded", host="login.example", encrypted=True, now_ms=NOW
    )
    assert parse_qs(filled.body.decode()) == {"grant_type": ["a b"], "client_secret": [VALUES["oauth"]]}


@pytest.mark.parametrize(
    ("body", "kind", "host", "encrypted", "reason"),
    [
        (b'{"a": "%s"}', "application/json", "evil.example", True, "not for evil.example"),
        (b'{"a": "%s"}', "application/json", "login.example", False, "over TLS only"),
        (b'{"a": "%s"', "application/json", "login.example", True, "belongs in body"),
        (b'{"a": "%s"}', "text/plain", "login.example", True, "belongs in body"),
        (b'{"a": "%s"}', "", "login.example", True, "belongs in body"),
        (b"%s=1", "application/x-www-form-urlencoded", "login.example", True, "belongs in body"),
        (b"[" * 100_000 + b'"%s"', "application/json", "login.example", True, "belongs in body"),
    ],
)
def test_bodies_that_get_none(body: bytes, kind: str, host: str, encrypted: bool, reason: str) -> None:
    whole = body.replace(b"%s", HOLD["oauth"])
    filled = session().fill_body(whole, kind, host=host, encrypted=encrypted, now_ms=NOW)
    assert filled.body == whole
    assert reason in filled.elsewhere[0].reason


def test_another_secret_in_a_body_is_elsewhere_and_escapes_are_too() -> None:
    secrets = session()
    body = b'{"a": "%s", "b": "%s"}' % (HOLD["oauth"], HOLD["github"])
    filled = secrets.fill_body(body, "application/json", host="login.example", encrypted=True, now_ms=NOW)
    assert [sighting.name for sighting in filled.elsewhere] == ["github"]
    assert filled.body == body
    body = b'{"a": "\\u0063' + HOLD["oauth"][1:] + b'"}'
    filled = secrets.fill_body(body, "application/json", host="login.example", encrypted=True, now_ms=NOW)
    assert "spelled as it is" in filled.elsewhere[0].reason


def test_which_bodies_are_held_back() -> None:
    secrets = session()
    assert secrets.wants_body("login.example")
    assert not secrets.wants_body("api.forge.example")
    with pytest.raises(SecretError, match=f"at most {BODY}"):
        secrets.fill_body(bytes(BODY + 1), "", host="login.example", encrypted=True, now_ms=NOW)


def test_an_expired_one_is_asked_for_and_a_fresh_one_used() -> None:
    secrets = session("2027-01-15T08:00:00Z")
    sent = outgoing("api.forge.example", (b"authorization", HOLD["github"]))
    assert secrets.fill(sent, 1_799_999_999_999).used == ("github",)
    filled = secrets.fill(sent, 1_800_000_000_000)
    assert (filled.used, filled.expired) == ((), ("github",))
    assert untouched(filled)
    secrets.put(
        "github", value="fresh", placeholder=PLACEHOLDERS["github"], expires="2027-01-15T10:00:00+01:00"
    )
    assert secrets.fill(sent, NOW).headers[0][1] == b"fresh"
    body = urlencode({"a": PLACEHOLDERS["oauth"]}).encode()
    late = secrets.fill_body(
        body, "application/x-www-form-urlencoded", host="login.example", encrypted=True, now_ms=NOW
    )
    assert (late.body, late.expired, late.used) == (body, ("oauth",), ())


@pytest.mark.parametrize(
    ("name", "value", "expires"),
    [
        ("other", "v", None),
        ("github", "", None),
        ("github", "VALUE\r\nx: y", None),
        ("github", "VALUE\x00", None),
        ("github", "VALUE\udc80", None),
        ("github", "VALUE", "tomorrow"),
        ("github", "VALUE", "2027-01-15T08:00:00"),
    ],
)
def test_values_that_cannot_be_used_are_refused_without_being_shown(
    name: str, value: str, expires: str | None
) -> None:
    with pytest.raises(SecretError) as raised:
        session().put(name, value=value, placeholder=PLACEHOLDERS["github"], expires=expires)
    shown = "".join(traceback.format_exception(raised.value)) + repr(raised.value.__dict__)
    assert "VALUE" not in shown.replace('value="VALUE', "")
    assert raised.value.__cause__ is None


def test_two_secrets_never_share_a_placeholder() -> None:
    with pytest.raises(SecretError, match="is not capsule-secret-oauth-"):
        session().put("oauth", value="v", placeholder=PLACEHOLDERS["github"], expires=None)


def test_values_are_shown_nowhere() -> None:
    secrets = session()
    filled = secrets.fill(outgoing("api.forge.example", (b"authorization", HOLD["github"])), NOW)
    body = secrets.fill_body(
        b'"%s"' % HOLD["oauth"], "application/json", host="login.example", encrypted=True, now_ms=NOW
    )
    shown = repr([secrets, secrets._values, secrets._specs, filled, body, secrets.scanner(), vars(secrets)])
    assert "<secret>" in shown
    assert "VALUE" not in shown
    for held in secrets._values.values():
        assert f"{held} {held!r}" == "<secret> <secret>"
        with pytest.raises(TypeError, match="not stored"):
            pickle.dumps(held)


def test_masking_for_records() -> None:
    secrets = session()
    for name, value in VALUES.items():
        text = f"a {value} b {quote(value, safe='')} c {json.dumps(value)}".encode()
        masked = secrets.mask(text)
        assert masked.count(HOLD[name]) == 3
        assert b"VALUE" not in masked


@given(
    st.sampled_from([spec.name for spec in SPECS]),
    st.sampled_from(
        ["api.forge.example", "x.git.example", "upload.example", "maps.example", "login.example", "e.example"]
    ),
    st.sampled_from([b"authorization", b"x-api-key", b"cookie"]),
    st.binary(max_size=20),
    st.booleans(),
)
def test_a_value_leaves_only_for_its_host(
    name: str, host: str, header: bytes, noise: bytes, encrypted: bool
) -> None:
    secrets = session()
    sent = outgoing(
        host,
        (header, noise + HOLD[name]),
        target=b"/?api+key=" + HOLD[name] + b"&" + noise,
        encrypted=encrypted,
    )
    filled = secrets.fill(sent, NOW)
    assert filled.elsewhere, "one of the two places is always wrong"
    assert untouched(filled)
    single = secrets.fill(outgoing(host, (header, HOLD[name]), encrypted=encrypted), NOW)
    spec = next(spec for spec in SPECS if spec.name == name)
    right = encrypted and spec.covers(host) and spec.place == "header" and header == b"authorization"
    assert bool(single.used) is right
    assert bool(single.elsewhere) is not right
