"""Edits of messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.rules.rewrite import (
    EVERY,
    MAX_LINE,
    Edit,
    LineRedactor,
    RewriteError,
    changes_body,
    edit_body,
    edit_headers,
    edit_query,
    json_path,
    problem_of,
    redacts,
)


def test_headers() -> None:
    sent = [("Host", "a"), ("X-Id", "1"), ("x-id", "2"), ("Accept", "*/*")]
    assert edit_headers([Edit("remove_header", "X-ID")], sent, "request") == [
        ("Host", "a"),
        ("Accept", "*/*"),
    ]
    assert edit_headers([Edit("set_header", "x-id", "9")], sent, "request") == [
        ("Host", "a"),
        ("x-id", "9"),
        ("Accept", "*/*"),
    ]
    assert edit_headers([Edit("set_header", "new", "9")], sent, "request")[-1] == ("new", "9")
    assert edit_headers([Edit("remove_header", "host")], sent, "response") == sent


def test_headers_under_a_name_that_gateways_take_for_theirs() -> None:
    """The attack: a header that a rule takes out goes on as `x_client_id`, which the server reads as `x-client-id`."""
    sent = [("X_Client_Id", "7"), ("x.client-id", "8"), ("x-client-ids", "9")]
    assert edit_headers([Edit("remove_header", "x-client-id")], sent, "request") == sent[2:]
    assert edit_headers([Edit("set_header", "x-client-id", "1")], sent, "request") == [
        ("x-client-id", "1"),
        ("x-client-ids", "9"),
    ]


@pytest.mark.parametrize(
    ("edit", "query", "after"),
    [
        (Edit("set_query", "utm", "0"), "a=1&utm=x&b=2&utm=y", "a=1&utm=0&b=2"),
        (Edit("set_query", "utm", "a b&c=é"), "", "utm=a%20b%26c%3D%C3%A9"),
        (Edit("set_query", "x", "1"), "a=%zz&&b", "a=%zz&&b&x=1"),
        (Edit("remove_query", "utm"), "utm=1&a=%20&u%74m=2&utm", "a=%20"),
        (Edit("remove_query", "a b"), "a+b=1&a%20b=2&c", "c"),
        (Edit("remove_header", "utm"), "utm=1", "utm=1"),
    ],
)
def test_queries(edit: Edit, query: str, after: str) -> None:
    assert edit_query([edit], query) == after


@pytest.mark.parametrize(
    ("edit", "body", "after"),
    [
        (Edit("set_json", "$.metadata.user_id", "-"), '{"metadata":{"user_id":"u","x":1},"n":1.10}', '{"metadata":{"user_id":"-","x":1},"n":1.10}'),
        (Edit("set_json", "$.a", {"b": [1]}), "{}", '{"a":{"b":[1]}}'),
        (Edit("set_json", "$.a.b", 1), '{"a": 5, "c": 1}', '{"a": 5, "c": 1}'),
        (Edit("set_json", "$.a.b", 1), '{"c": 1}', '{"c": 1}'),
        (Edit("remove_json", "$.a[*].b"), '{"a":[{"b":1,"c":2},{"b":3},4]}', '{"a":[{"c":2},{},4]}'),
        (Edit("remove_json", "$.a[*]"), '{"a":[1,2,3]}', '{"a":[]}'),
        (Edit("remove_json", "$[1]"), "[1,2,3]", "[1,3]"),
        (Edit("remove_json", "$[9]"), "[1, 2]", "[1, 2]"),
        (Edit("set_json", '$["a b"].c', True), '{"a b":{"c":0}}', '{"a b":{"c":true}}'),
        (Edit("set_json", "$.a", "x"), '{"b":123456789012345678901234567890,"a":""}', '{"b":123456789012345678901234567890,"a":"x"}'),
        (Edit("set_json", "$.a", "x"), "", ""),
    ],
)  # fmt: skip
def test_json_bodies(edit: Edit, body: str, after: str) -> None:
    assert edit_body([edit], body.encode(), "request") == after.encode()
    assert edit_body([edit], body.encode(), "response") == body.encode()


@pytest.mark.parametrize("body", [b"no", b'{"a":NaN}', b'{"a":1', b"\xff", b"[" * 5000])
def test_a_body_that_is_no_json_does_not_go_on(body: bytes) -> None:
    with pytest.raises(RewriteError, match="not JSON"):
        edit_body([Edit("set_json", "$.a", 1)], body, "request")


@pytest.mark.parametrize(
    "body",
    [
        '{"metadata":{"user_id":"u"},"metadata":5}',
        '{"metadata":{"user_id":"u"},"metadata":{}}',
        '{"metadata":{"user_id":"u","user_id":"v"}}',
        '{"Metadata":{"user_id":"u"}}',
        '{"metadata":{"USER_ID":"u","user_id":"v"}}',
        '{"meta\\u0064ata":{"user_id":"u"},"metadata":5}',
    ],
)
@pytest.mark.parametrize(
    "edit", [Edit("set_json", "$.metadata.user_id", "-"), Edit("remove_json", "$.metadata.user_id")]
)
def test_a_key_that_a_server_may_find_elsewhere_does_not_go_on(edit: Edit, body: str) -> None:
    with pytest.raises(RewriteError, match="twice or in another case"):
        edit_body([edit], body.encode(), "request")
    listed = Edit(edit.kind, f"$[*]{edit.name[1:]}", edit.value)
    with pytest.raises(RewriteError, match="twice or in another case"):
        edit_body([listed], f"[1, {body}]".encode(), "request")


def test_keys_beside_the_path_may_stand_twice() -> None:
    edit = Edit("set_json", "$.a.b", 1)
    assert (
        edit_body([edit], b'{"a":{"b":0,"c":1,"C":2},"X":1,"x":2}', "request")
        == b'{"a":{"b":1,"c":1,"C":2},"X":1,"x":2}'
    )
    answer = Edit("set_json", "$.a.b", 1, where="response")
    assert edit_body([answer], b'{"A":1,"a":{"b":0}}', "response") == b'{"A":1,"a":{"b":1}}'


def test_redaction_of_whole_bodies_in_order() -> None:
    edits = [Edit("redact", "[0-9]{4}", r"\1[n]"), Edit("redact", r"\[n\]", "z")]
    assert edit_body(edits, b"a 1234 \xff 5678", "request") == b"a \\1z \xff \\1z"
    assert redacts(edits, "request")
    assert not redacts(edits, "response")
    assert changes_body([Edit("set_json", "$.a", 1)], "request")
    assert not changes_body(edits, "request")


@given(
    st.lists(
        st.sampled_from(["data: 4242", "42", "\n", "\n\n", "x", "\r\n", "4242424242424242"]), max_size=30
    ),
    st.data(),
)
def test_a_stream_in_any_pieces_is_redacted_like_its_lines(parts: list[str], data: Any) -> None:
    edits = [Edit("redact", "[0-9]{4}", "#", "response")]
    whole = "".join(parts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    redactor = LineRedactor(edits, "response")
    out = (
        b"".join(redactor.feed(whole[a:b]) for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True))
        + redactor.end()
    )
    assert out == b"".join(edit_body(edits, line, "response") for line in whole.splitlines(keepends=True))


def test_a_line_without_end_ends_the_stream() -> None:
    redactor = LineRedactor([Edit("redact", "[0-9]{4}", "#", "response")], "response")
    redactor.feed(b"x" * MAX_LINE)
    with pytest.raises(RewriteError, match="more than"):
        redactor.feed(b"y")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (Edit("set_header", "x", "a\r\nb: c"), "line breaks"),
        (Edit("set_header", "x", " a"), "blanks"),
        (Edit("set_header", "x", "é"), "line breaks"),
        (Edit("set_header", "x y", "a"), "not a header's name"),
        (Edit("set_header", "Transfer-Encoding", "a"), "frames the message"),
        (Edit("remove_header", "Host"), "says where it goes"),
        (Edit("remove_header", "content_length"), "frames the message"),
        (Edit("set_header", "Transfer.Encoding", "a"), "frames the message"),
        (Edit("redact", "(?=a)", ""), "not RE2"),
        (Edit("redact", "a*", ""), "matches the empty text"),
        (Edit("redact", "((a{100}){100}){100}", ""), "not RE2"),
        (Edit("set_json", "a.b", 1), "not a path"),
        (Edit("set_json", "$", 1), "not a path"),
        (Edit("set_json", "$.a[01]", 1), "not a path"),
        (Edit("set_header", "x-a", "fine value"), None),
        (Edit("set_query", "any thing", "at all"), None),
    ],
)
def test_edits_that_cannot_be_made(edit: Edit, said: str | None) -> None:
    problem = problem_of(edit)
    assert problem is None if said is None else problem is not None and said in problem


def test_paths() -> None:
    assert json_path('$.a-b[0]["c d"][*].e') == ("a-b", 0, "c d", EVERY, "e")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)))  # fmt: skip
def test_what_no_edit_names_stays(value: object) -> None:
    body = json.dumps({"keep": value, "a": 1}).encode()
    assert json.loads(edit_body([Edit("set_json", "$.a", 2)], body, "request")) == {"keep": value, "a": 2}
