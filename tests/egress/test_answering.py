"""Answers under rules: redacted, refused, edited, and not passed on when they cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.egress.supervisor import host
from tests.egress.test_deciding import rules
from tests.egress.test_layers import to
from tests.egress.upstream import Upstream

pytestmark = pytest.mark.needs("userns", "unshare", "curl")


ANSWERS = """\
  - id: less
    on: http_response
    when: http.path.startsWith("/mirror")
    action: rewrite
    rewrite:
      - {remove_header: x-was}
      - {set_header: {x-now: "1"}}
      - {set_json: {"$.headers.authorization": "-"}}
      - {remove_json: "$.args"}
      - {redact: "1[.]1", with: "2.2"}
"""


def test_an_answer_is_redacted_line_by_line(session: Any, upstream: Upstream) -> None:
    redact = """\
  - id: cards
    on: http
    when: "true"
    action: rewrite
    rewrite: [{redact: "[0-9]{16}", with: "[card]", in: response}]
"""
    inside = session(host("a.example", 443), **to(upstream), **rules(redact))
    body = "data: 1234567812345678\ndata: ok"
    for version in ("--http1.1", "--http2"):
        done = inside.curl(version, "--data-binary", body, "https://a.example/echo")
        assert done.out == "data: [card]\ndata: ok", done


def test_an_answer_is_refused(session: Any, upstream: Upstream) -> None:
    refuse = """\
  - id: no-streams
    on: http_response
    when: has(http.response.content_type) && http.response.content_type == "text/event-stream"
    action: block
    reason: no streams here
"""
    inside = session(host("a.example", 443), **to(upstream), **rules(refuse))
    for version in ("--http1.1", "--http2"):
        done = inside.curl(
            version,
            "-w",
            " %{http_code}",
            "https://a.example/sse" if version == "--http1.1" else "https://a.example/x",
        )
        assert done.out.endswith("403" if version == "--http1.1" else "200"), done
        assert "data:" not in done.out


@pytest.mark.parametrize("form", ["plain", "pieces", "gzip", "events"])
def test_answers_are_edited_as_json_whatever_their_form(session: Any, plain: Upstream, form: str) -> None:
    inside = session(host("a.example", 80), **to(plain), **rules(ANSWERS))
    done = inside.curl("-i", "-H", "Authorization: me", f"http://a.example/mirror/{form}")
    head, _, body = done.out.partition("\r\n\r\n")
    assert "x-was" not in head
    assert "x-now: 1" in head
    line = next(line for line in body.splitlines() if "{" in line).removeprefix("data: ")
    assert json.loads(line) == {"headers": {"authorization": "-"}, "n": 2.2}
    if form == "events":
        assert body.startswith("event: x\n")
        assert body.endswith("data: [DONE]\n\n")
    if form == "plain":
        assert f"content-length: {len(body)}" in head


def test_an_answer_that_is_no_json_is_not_passed_on_unedited(session: Any, plain: Upstream) -> None:
    edit = ANSWERS.replace("/mirror", "/hello")
    inside = session(host("a.example", 80), **to(plain), **rules(edit))
    done = inside.curl("http://a.example/hello")
    assert "hello /hello" not in done.out
    assert "not JSON" in done.out
