from __future__ import annotations

import fnmatch
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.policy.glob import Pattern, matches_name
from capsule.sandbox.access import Variables


def test_the_shared_vectors(repository: Path) -> None:
    rows = json.loads((repository / "tests/vectors/plan/patterns.json").read_text())
    variables = Variables("/w", "/home/u", "/w/c")
    wrong = [
        (pattern, name)
        for pattern, name, covered in rows
        if variables.pattern(pattern).covers(name) != covered
    ]
    assert len(rows) > 20
    assert not wrong


@pytest.mark.parametrize(
    ("pattern", "other", "included"),
    [
        ("/w/x", "/w/x", True),
        ("/w/x", "/w/x/y", True),
        ("/w/x", "/w/x/*.pem", True),
        ("/w/x", "/w/x/**/y", True),
        ("/w/x", "/w/[x]", False),
        ("/w/[x]", "/w/x", True),
        ("/w/x/y", "/w/x", False),
        ("/w/**/.env", "/w/.env", True),
        ("/w/**/.env", "/w/a/.env", True),
        ("/w/**/.env", "/w/**/a/.env", True),
        ("/w/**/.env", "/w/**/.env*", False),
        ("/w/**/.env", "/v/.env", False),
        ("/w/*.pem", "/w/a.pem", True),
        ("/w/*.pem", "/w/a/b.pem", False),
        ("/w/*", "/w/*.pem", True),
        ("/w/*.pem", "/w/*", False),
        ("/**/a/**/b", "/a/**/c/b", True),
        ("/*/x", "/**/x", False),
        ("/*/x", "/${workspace}/x", False),
        ("/**/x", "/${workspace}/x", True),
        ("/${workspace}/x", "/${workspace}/x/y", True),
        ("/${workspace}/x", "/**/x", False),
    ],
)
def test_includes(pattern: str, other: str, included: bool) -> None:
    assert Pattern.parse(pattern).includes(Pattern.parse(other)) is included


SEGMENTS = st.sampled_from(["a", "b", "ab", "*", "a*", "?", "[ab]", "**"])


@given(
    st.lists(SEGMENTS, min_size=1, max_size=4),
    st.lists(SEGMENTS, min_size=1, max_size=4),
    st.lists(st.sampled_from(["a", "b", "ab", "c"]), max_size=5),
)
def test_what_is_included_is_covered(pattern: list[str], other: list[str], path: list[str]) -> None:
    wide, narrow = Pattern.parse("/" + "/".join(pattern)), Pattern.parse("/" + "/".join(other))
    name = "/" + "/".join(path)
    if wide.includes(narrow) and narrow.covers(name):
        assert wide.covers(name)


@pytest.mark.parametrize("name", ["w[1", "w*x", "w?[a-]", "[!", "w[ab]"])
def test_a_directory_with_signs_of_globs_in_its_name_is_a_name(name: str) -> None:
    pattern = Variables(f"/d/{name}", "/home/u", "/c").pattern("${workspace}/**/.env")
    assert pattern.covers(f"/d/{name}/a/.env")
    assert not any(pattern.covers(f"/d/{other}/.env") for other in ("wax", "wba", "wa", "w1", "w"))


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("/w/**/.env", "/w/.env", True),
        ("/w/**/.env", "/w/a/b/.env/c", True),
        ("/w/**/.env", "/w/.envrc", False),
        ("/w/**/.env", "/v/.env", False),
        ("/**/x/**/y", "/x/y", True),
        ("/**/x/**/y", "/a/x/b/c/y/z", True),
        ("/**/x/**/y", "/a/x/b/c", False),
        ("/a/*/c", "/a/b", False),
        ("/a/[!b]", "/a/b", False),
        ("/a/[!b]", "/a/c", True),
        ("/a/[x-z]1", "/a/y1", True),
        ("/a/[]x]", "/a/]", True),
        ("/a/[a-]", "/a/-", True),
        ("/a/?", "/a/é", False),
        ("/a/??", "/a/é", True),
    ],
)
def test_covers(pattern: str, path: str, covered: bool) -> None:
    assert Pattern.parse(pattern).covers(path) is covered


_text = st.text("ab.*?", max_size=8)


@given(_text, st.text("ab.", max_size=10))
def test_one_segment_matches_as_a_shell_would(pattern: str, name: str) -> None:
    expected = re.fullmatch(fnmatch.translate(pattern), name) is not None
    assert matches_name(pattern, name) is expected


@given(
    st.lists(st.sampled_from(["**", "*", "a", "b", "[ab]", "a*"]), min_size=1, max_size=5),
    st.lists(st.sampled_from(["a", "b", "ab"]), max_size=6),
)
def test_whole_patterns_agree_with_a_regular_expression(segments: list[str], names: list[str]) -> None:
    regex = "".join(
        "(/[^/]+)*" if segment == "**" else "/" + segment.replace("*", "[^/]*") for segment in segments
    )
    path = "/" + "/".join(names)
    expected = re.fullmatch(regex + "(/.*)?", "" if path == "/" else path) is not None
    assert Pattern.parse("/" + "/".join(segments)).covers(path) is expected


def test_what_is_covered_stays_covered_beneath() -> None:
    pattern = Pattern.parse("/w/**/*.pem")
    assert pattern.covers("/w/a.pem")
    assert pattern.covers("/w/a.pem/b/c")


def test_hostile_patterns_take_no_time() -> None:
    name = "a" * 255
    started = time.monotonic()
    assert not matches_name("*a" * 120 + "*b", name)
    assert not Pattern.parse("/" + "/".join(["**", "a*"] * 30) + "/b").covers("/" + "/".join(["a"] * 500))
    assert time.monotonic() - started < 5
