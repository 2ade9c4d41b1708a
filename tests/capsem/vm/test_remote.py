"""Addresses of servers, and headers, as they may stand in a file."""

from __future__ import annotations

import pytest

from capsem.vm.remote import Address, field_problem, parse_address


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://mcp.example/mcp", Address(True, "mcp.example", 443, "/mcp")),
        ("https://MCP.Example", Address(True, "mcp.example", 443, "/")),
        ("http://mcp.example:8080/a/b?c=d&e=%20f", Address(False, "mcp.example", 8080, "/a/b?c=d&e=%20f")),
        ("https://192.0.2.7:8443/x", Address(True, "192.0.2.7", 8443, "/x")),
    ],
)
def test_what_an_address_names(url: str, found: Address) -> None:
    assert parse_address(url) == found
    assert parse_address(found.url) == found


@pytest.mark.parametrize(
    "url",
    [
        "", "mcp.example", "//mcp.example/", "HTTPS://mcp.example/", "ftp://mcp.example/", "https:///x", "https://",
        "https://a@mcp.example/", "https://mcp.example/#x", "https://mcp.example?x", "https://mcp.example:/",
        "https://mcp.example:0/", "https://mcp.example:65536/", "https://mcp.example:443x/", "https://[::1]/",
        "https://127.1/", "https://0x7f.0.0.1/", "https://mcp.example/\r\nx: y", "https://mcp.example/a\\b",
        "https://mcp.example/é", "https://mcp.example/" + "a" * 3000, "https://mcp.example\\@evil.example/",
        "https://mcp.example%2eevil/", "https://a b/",
    ],
)  # fmt: skip
def test_what_names_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_address(url)


@pytest.mark.parametrize(
    ("name", "value"),
    [("X-Team", "blue"), ("authorization", "Bearer ${secrets.forge}"), ("X-Api-Key", "${secrets.a-b_1}"), ("a", "b c")],
)  # fmt: skip
def test_headers_that_may_stand_there(name: str, value: str) -> None:
    assert field_problem(name, value) is None


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("", "x", "name"), ("a b", "x", "name"), ("x\r\ny", "x", "name"), ("x" * 65, "x", "name"),
        ("Host", "x", "transport"), ("Content-Length", "1", "transport"), ("MCP-Anything", "x", "transport"),
        ("Transfer-Encoding", "chunked", "transport"), ("x", "", "printable"), ("x", "a\r\nb", "printable"),
        ("x", " a", "printable"), ("x", "é", "printable"), ("x", "a" * 3000, "printable"),
        ("x", "${HOME}", "not"), ("x", "${secrets.A}", "not"), ("x", "${secrets.}", "not"),
        ("authorization", "Bearer abc", "credential"), ("x-api-key", "abc", "credential"),
        ("cookie", "a=b", "credential"), ("x-auth-token", "abc", "credential"),
    ],
)  # fmt: skip
def test_headers_that_may_not(name: str, value: str, why: str) -> None:
    assert why in (field_problem(name, value) or "")
