from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.policy.paths import PathError
from capsule.policy.urlpath import (
    PathGlob,
    PathRefused,
    certain_path,
    check_glob,
    normalised,
    path_segments,
    plain_path,
    readings,
    target_of,
)


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        ("/", ()),
        ("/?q=/../", ()),
        ("/a", (b"a",)),
        ("/a/", (b"a",)),
        ("/a/b?x=%2f", (b"a", b"b")),
        ("/a%20b/%C3%A9", (b"a b", "é".encode())),
        ("/a%3Fb", (b"a?b",)),
        ("/a.b/...", (b"a.b", b"...")),
        ("/a;v=1/b", (b"a;v=1", b"b")),
        ("/é", ("é".encode(),)),
        ("/\uff57ide\uff0etxt/…", ("\uff57ide\uff0etxt".encode(), "…".encode())),
        ("/%ff", (b"\xff",)),
        ("/%C0-la-carte", (b"\xc0-la-carte",)),
        ("/%41", (b"A",)),
    ],
)
def test_a_path_is_read_decoded(path: str, segments: tuple[bytes, ...]) -> None:
    assert path_segments(path) == segments


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "does not begin"),
        ("*", "does not begin"),
        ("a/b", "does not begin"),
        ("http://a/b", "does not begin"),
        ("/a%2fb", "encoded"),
        ("/a/%c0%ae%C0%AE/b", "more bytes"),
        ("/a%c0%afb", "more bytes"),
        ("/a%e0%80%afb", "more bytes"),
        ("/a%f0%80%80%aeb", "more bytes"),
        ("/v1/\uff0e\uff0e/admin", "some servers read"),
        ("/v1/%EF%BC%8E%EF%BC%8E/admin", "some servers read"),
        ("/v1/.%EF%BC%8E;x/admin", "some servers read"),
        ("/v1/a%EF%BC%8F..%EF%BC%8Fadmin", "some servers read"),
        ("/v1/\u2025/admin", "some servers read"),
        ("/v1/a\uff3cb", "some servers read"),
        ("/a%2Fb", "encoded"),
        ("/a%5cb", "encoded"),
        ("/a%5Cb", "encoded"),
        ("/a%00b", "encoded"),
        ("/%2e%2e/b", "encoded"),
        ("/.%2E/b", "encoded"),
        ("/a%2e", "encoded"),
        ("/a%252fb", "twice"),
        ("/a%252e%252e/b", "twice"),
        ("/a%2500", "twice"),
        ("/a\\b", "backslash"),
        ("/a#b", "backslash or a '#'"),
        ("/a%", "broken escape"),
        ("/a%zz", "broken escape"),
        ("/a%2", "broken escape"),
        ("/a%0a", "control"),
        ("/a\tb", "control"),
        ("/a%7f", "control"),
        ("/a/./b", "'.' or '..'"),
        ("/a/../b", "'.' or '..'"),
        ("/..", "'.' or '..'"),
        ("/a/..;x=1/b", "'.' or '..'"),
        ("/a/.;/b", "'.' or '..'"),
        ("/a/..%20/b", "'.' or '..'"),
        ("/a//b", "empty segment"),
        ("//a", "empty segment"),
        ("//", "empty segment"),
        ("/a//", "empty segment"),
        ("/" + "a" * 20000, "longer"),
        ("/a" * 300, "segments"),
    ],
)
def test_a_path_that_servers_read_differently_is_refused(path: str, says: str) -> None:
    with pytest.raises(PathRefused, match=says):
        path_segments(path)


@pytest.mark.parametrize(
    ("glob", "path", "fits"),
    [
        ("/", "/", True),
        ("/", "/a", False),
        ("/a", "/a", True),
        ("/a", "/a/", True),
        ("/a", "/a/b", False),
        ("/a", "/ab", False),
        ("/a", "/A", False),
        ("/a/*", "/a", False),
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/c", False),
        ("/a/**", "/a", True),
        ("/a/**", "/a/b/c", True),
        ("/**", "/", True),
        ("/**/x", "/x", True),
        ("/**/x", "/a/b/x", True),
        ("/**/x", "/a/b/xy", False),
        ("/a/**/b/*", "/a/1/2/b/3", True),
        ("/a/**/b/*", "/a/1/2/b", False),
        ("/repos/acme/**", "/repos/acme-evil/x", False),
        ("/*.git/info/refs", "/x.git/info/refs?service=git-upload-pack", True),
        ("/v1/model[s]", "/v1/models", True),
        ("/a b", "/a%20b", True),
        ("/é", "/%C3%A9", True),
        ("/@scope/*", "/%40scope/x", True),
    ],
)
def test_a_glob_names_whole_paths(glob: str, path: str, fits: bool) -> None:
    assert PathGlob.parse(check_glob(glob)).matches(path_segments(path)) is fits


@pytest.mark.parametrize(
    ("glob", "says"),
    [
        ("a", "does not begin with '/'"),
        ("", "does not begin with '/'"),
        ("/a?b", "a '\\?' or '#'"),
        ("/a%20b", "percent"),
        ("/a\\b", "backslash"),
        ("/a//b", "empty segment"),
        ("/a/../b", "'..' segment"),
        ("/./b", "'.' segment"),
        ("/a**", "inside a segment"),
        ("/[a", "malformed bracket"),
        ("/a\n", "control"),
        ("/" + "a/" * 61, "60 segments"),
        ("/" + "a/" * 2500, "too long"),
    ],
)
def test_a_glob_that_could_not_match_is_refused(glob: str, says: str) -> None:
    with pytest.raises(PathError, match=says):
        check_glob(glob)


def test_one_slash_at_the_end_of_a_glob_says_nothing() -> None:
    assert check_glob("/a/") == "/a"
    assert check_glob("/") == "/"


_SEGMENTS = st.lists(st.sampled_from([b"a", b"b", b"ab", b"c d"]), max_size=5)


def _simple(parts: list[str], segments: list[bytes]) -> bool:
    """The obvious matcher, which takes time without bound."""
    if not parts:
        return not segments
    if parts[0] == "**":
        return any(_simple(parts[1:], segments[count:]) for count in range(len(segments) + 1))
    if not segments:
        return False
    return parts[0] in {"*", segments[0].decode()} and _simple(parts[1:], segments[1:])


@given(st.lists(st.sampled_from(["**", "*", "a", "b", "ab", "c d"]), max_size=6), _SEGMENTS)
def test_matching_is_what_the_obvious_matcher_says(parts: list[str], segments: list[bytes]) -> None:
    glob = PathGlob.parse("/" + "/".join(parts))
    assert glob.matches(tuple(segments)) is _simple(parts, segments)


@given(st.binary(max_size=40))
def test_what_is_read_has_no_segment_that_moves(raw: bytes) -> None:
    try:
        segments = path_segments("/" + raw.decode("latin-1"))
    except PathRefused:
        return
    assert all(segment not in {b"", b".", b".."} and b"/" not in segment for segment in segments)


@pytest.mark.parametrize(
    ("target", "path"),
    [("/", "/"), ("/gists?x=/../", "/gists"), ("/%67ists", "/gists"), ("/a%20b/%C3%A9", "/a b/é"), ("/a/", "/a/"),
     ("/.well-known/x", "/.well-known/x"), ("/a..b", "/a..b"), ("/v1/%6dessages", "/v1/messages")],
)  # fmt: skip
def test_what_everybody_reads_alike_is_certain(target: str, path: str) -> None:
    assert certain_path(target) == plain_path(target) == path


@pytest.mark.parametrize(
    ("target", "path"),
    [("/./gists", "/gists"), ("/x/../gists", "/gists"), ("/a/..", "/"), ("/a/.", "/a/"), ("/../a", "/a"),
     ("//gists", "//gists"), ("/a%2fb", "/a/b"), ("/%2e%2e/b", "/b"), ("/%252fb", "/%2fb"), ("/a;x=1/b", "/a;x=1/b"),
     ("/a%3bb", "/a;b"), ("/%ff", "/\\xff"), ("/a%00", "/a\0"), ("/a\\b", "/a\\b"), ("*", "*")],
)  # fmt: skip
def test_what_servers_read_differently_is_not(target: str, path: str) -> None:
    assert certain_path(target) is None
    assert plain_path(target) == path


@pytest.mark.parametrize(
    ("url", "target"),
    [("https://a.example", "/"), ("https://a.example/x?y=/z", "/x?y=/z"), ("http://a.example:8/a//b", "/a//b"),
     ("https://a.example?x=/y", "/?x=/y")],
)  # fmt: skip
def test_the_target_of_a_url(url: str, target: str) -> None:
    assert target_of(url) == target


SEGMENT = st.text("amzv1", min_size=1, max_size=8)
ESCAPES = st.sampled_from(["plain", "once", "twice"])


def _escape(text: str, how: list[str]) -> str:
    said = {"plain": "{}", "once": "%{:02x}", "twice": "%25{:02x}"}
    return "".join(
        said[one].format(char if one == "plain" else ord(char)) for char, one in zip(text, how, strict=True)
    )


@given(st.lists(SEGMENT, min_size=1, max_size=4), st.data())
def test_another_spelling_is_the_same_path_or_none(segments: list[str], data: st.DataObject) -> None:
    """However letters are escaped and whatever is put in between, no rule takes it for another path."""
    noise = st.sampled_from(["", "/.", "/x/..", "/", "/%2e", "/y/%2e%2e", "/z/..;p=1", ";p"])
    target = ""
    for segment in segments:
        how = data.draw(st.lists(ESCAPES, min_size=len(segment), max_size=len(segment)))
        target += data.draw(noise) + "/" + _escape(segment, how)
    path = "/" + "/".join(segments)
    assert certain_path(target) in {path, None}
    assert path in readings(target), "what looks for it finds it"


@given(st.text(max_size=40))
def test_hostile_targets(target: str) -> None:
    certain = certain_path(target)
    assert certain is None or certain == plain_path(target)
    assert readings(target)


@pytest.mark.parametrize(
    ("sent", "plain"),
    [
        ("a=b", "a=b"),
        ("%61=%7E%2d%2E%5f%5A%39", "a=~-._Z9"),
        ("%2f%26%3D%25%c3%a9", "%2f%26%3D%25%c3%a9"),
        ("%2561%zz%6", "%2561%zz%6"),
        ("https://a.example/%67ists?x=%79", "https://a.example/gists?x=y"),
    ],
)
def test_escapes_that_mean_the_same_to_everybody(sent: str, plain: str) -> None:
    assert normalised(sent) == plain
