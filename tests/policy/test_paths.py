from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.policy.paths import PathError, parse_path, shown
from tests.policy.documents import paths, patterns


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("/", "/"),
        ("/usr", "/usr"),
        ("/usr/", "/usr"),
        ("~", "${home}"),
        ("~/", "${home}"),
        ("~/.cargo/bin", "${home}/.cargo/bin"),
        (".", "${workspace}"),
        ("./", "${workspace}"),
        ("./src/", "${workspace}/src"),
        ("src", "${workspace}/src"),
        (".git/hooks", "${workspace}/.git/hooks"),
        ("..x/y", "${workspace}/..x/y"),
        ("a$", "${workspace}/a$"),
        ("a b", "${workspace}/a b"),
        ("{x}", "${workspace}/{x}"),
    ],
)
def test_what_a_person_writes(text: str, plan: str) -> None:
    assert parse_path(text, globs=False) == plan
    assert parse_path(text, globs=True) == plan


@pytest.mark.parametrize(
    "text", ["**/.env", "/a/*.pem", "a?b", "[abc]", "[!abc]x", "[a-z]", "[0-9a-f]x", "/**"]
)
def test_globs_only_where_they_have_a_meaning(text: str) -> None:
    assert parse_path(text, globs=True).endswith(text.lstrip("/"))
    with pytest.raises(PathError, match="glob") as caught:
        parse_path(text, globs=False)
    assert "'deny' and 'protect'" in caught.value.next_step


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty path"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("a\x7f", "control character"),
        (" a", "space"),
        ("a ", "space"),
        ("a\\b", "backslash"),
        ("$HOME/x", "variable"),
        ("${home}/x", "variable"),
        ("/a/$(id)", "variable"),
        ("x{a,b}", "braces"),
        ("~root/x", "another user's home"),
        ("~~", "another user's home"),
        ("../x", "'..'"),
        ("a/../b", "'..'"),
        ("/..", "'..'"),
        ("a/./b", "'.' segment"),
        ("././a", "'.' segment"),
        ("a//b", "empty segment"),
        ("//a", "empty segment"),
        ("a//", "empty segment"),
        ("/" + "x" * 256, "segment that is too long"),
        ("/" + "é" * 128, "segment that is too long"),
        ("/".join(["x" * 200] * 25), "path that is too long"),
    ],
)
def test_what_is_not_a_path(text: str, says: str) -> None:
    for globs in (False, True):
        with pytest.raises(PathError) as caught:
            parse_path(text, globs=globs)
        assert says in caught.value.what


@pytest.mark.parametrize(
    "text", ["a**", "**b/c", "[", "[]", "[!]", "[a", "a]", "[[a]", "[^a]", "[z-a]", "x[a/b]", "[é]"]
)
def test_what_is_not_a_pattern(text: str) -> None:
    with pytest.raises(PathError):
        parse_path(text, globs=True)


def test_a_pattern_has_at_most_sixty_segments_after_the_first_glob() -> None:
    assert parse_path("/a/b/" + "/".join(["*"] * 60), globs=True)
    with pytest.raises(PathError, match="60 segments"):
        parse_path("/a/b/*" + "/c" * 60, globs=True)


@given(paths)
def test_plan_form_is_clean_and_shown_reads_back(text: str) -> None:
    plan = parse_path(text, globs=False)
    assert plan.startswith(("/", "${home}", "${workspace}"))
    assert "//" not in plan
    assert not plan.endswith("/")
    assert {".", "..", ""}.isdisjoint(plan.split("/")[1:])
    assert parse_path(shown(plan), globs=False) == plan


@given(patterns)
def test_shown_reads_back_for_patterns(text: str) -> None:
    plan = parse_path(text, globs=True)
    assert parse_path(shown(plan), globs=True) == plan


@given(st.text(max_size=40), st.booleans())
def test_any_text_is_a_path_or_a_path_error(text: str, globs: bool) -> None:
    try:
        plan = parse_path(text, globs=globs)
    except PathError:
        return
    assert "\n" not in plan
    assert "\0" not in plan


def test_shown_leaves_other_paths_alone() -> None:
    assert shown("/usr") == "/usr"
    assert shown("${cwd}/x") == "./x"
    assert shown("${homer}/x") == "${homer}/x"
