from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule.errors import PlanError
from capsule.policy.glob import Pattern
from capsule.policy.presets import NAMES
from capsule.sandbox.access import Access, Variables, Want
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.plan import Plan
from capsule.sandbox.seatbelt import compile_seatbelt, pattern_regex
from tests.policy.documents import resolve_text
from tests.sandbox.plans import VARIABLES, plan_of, preset_plan

MAC = Variables("/Users/u/w", "/Users/u", "/Users/u/w")
Expression = Any


def read_expressions(text: str) -> list[Expression]:
    """A small reader of S-expressions: lists, words, strings with backslash escapes. Anything else is an error."""
    tokens = re.findall(r'"(?:[^"\\]|\\["\\])*"|[()]|[^\s()"]+', text)
    assert re.sub(r"\s", "", "".join(tokens)) == re.sub(r"\s", "", text), "something that is not a token"
    stack: list[list[Expression]] = [[]]
    for token in tokens:
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            is_text = token.startswith('"')
            stack[-1].append(("text", re.sub(r"\\(.)", r"\1", token[1:-1])) if is_text else token)
    assert len(stack) == 1, "unbalanced"
    return stack[0]


def allows(profile: list[Expression], operation: str, path: str) -> bool:
    """What the last matching rule says: SBPL's own order."""
    verdict = False
    for rule in profile[2:]:
        operations = [word for word in rule[1:] if isinstance(word, str)]
        filters = [word for word in rule[1:] if isinstance(word, list)]
        if not any(re.fullmatch(word.replace("*", ".*"), operation) for word in operations):
            continue
        for kind, (_, text) in (item for item in filters if item[0] in {"subpath", "regex"}):
            inside = (
                path == text or path.startswith(text.rstrip("/") + "/")
                if kind == "subpath"
                else re.search(text, path)
            )
            if inside:
                verdict = rule[0] == "allow"
    return verdict


OPERATION: dict[Want, str] = {"read": "file-read-data", "write": "file-write-data", "execute": "process-exec"}


CLOSED = [name for name in NAMES if preset_plan(name).network.mode == "none"]


@pytest.mark.parametrize("name", CLOSED)
def test_every_preset_without_hosts_is_a_well_formed_profile(name: str) -> None:
    profile = read_expressions(compile_seatbelt(preset_plan(name), MAC))
    assert profile[0] == ["version", "1"]
    assert profile[1] == ["deny", "default"]
    assert all(rule[0] in {"allow", "deny"} for rule in profile[2:])


def test_deny_comes_after_every_grant_and_beats_it() -> None:
    text = "filesystem:\n  deny: ['**/.env', ./secret]\n  protect: [.git/hooks]\n  write: [., ./secret/deep]\n  execute: [.]\n"  # noqa: E501
    profile = read_expressions(compile_seatbelt(plan_of(text), MAC))
    verdicts = [
        rule[0]
        for rule in profile
        if any(isinstance(word, list) and word[0] in {"subpath", "regex"} for word in rule)
    ]
    last_allow = max(i for i, verdict in enumerate(verdicts) if verdict == "allow")
    assert set(verdicts[last_allow + 1 :]) == {"deny"}
    w = MAC.workspace
    for operation in OPERATION.values():
        assert not allows(profile, operation, f"{w}/a/.env")
        assert not allows(profile, operation, f"{w}/secret/deep/x")
        assert allows(profile, operation, f"{w}/a/b")
    assert allows(profile, "file-read-data", f"{w}/.git/hooks/x")
    assert not allows(profile, "file-write-data", f"{w}/.git/hooks/x")


_names = st.sampled_from(["/w", "/w/a", "/w/a/b", "/home/u", "/w/.env", "/opt", "/w/**/x", "/w/a*"])
_plain = _names.filter(lambda name: "*" not in name)
_wants: st.SearchStrategy[Want] = st.sampled_from(["read", "write", "execute"])


@settings(max_examples=60)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            **{
                name: st.lists(_plain, max_size=2) for name in ("read", "write", "execute", "hide", "private")
            },
            **{name: st.lists(_names, max_size=2) for name in ("deny", "protect")},
        },
    ),
    _plain,
    st.sampled_from(["", "/x", "/a", "/q/x"]),
    _wants,
)
def test_the_profile_decides_as_the_plan_does(
    lists: dict[str, list[str]], place: str, below: str, want: Want
) -> None:
    policy = resolve_text("version: 1\nfilesystem: " + str(lists).replace("'", '"'))
    plan = compile_policy(policy)
    profile = read_expressions(compile_seatbelt(plan, VARIABLES))
    path = place + below
    assert allows(profile, OPERATION[want], path) == Access(plan, VARIABLES).path(path, want).granted


def test_nothing_runs_in_a_private_directory_of_one_that_may() -> None:
    profile = read_expressions(compile_seatbelt(plan_of("filesystem: {execute: [/w], private: [/w/a]}"), MAC))
    assert allows(profile, "process-exec", "/w/b")
    assert not allows(profile, "process-exec", "/w/a/b")


def test_listed_programs_alone_may_run() -> None:
    text = "filesystem: {execute: [/usr]}\nprocess: {programs: [/usr/bin/git]}"
    profile = read_expressions(compile_seatbelt(plan_of(text), MAC))
    assert allows(profile, "process-exec", "/usr/bin/git")
    assert not allows(profile, "process-exec", "/usr/bin/env")
    assert allows(profile, "file-map-executable", "/usr/lib/x.dylib")


def test_the_network_is_what_the_plan_names() -> None:
    text = compile_seatbelt(plan_of("network: {ports: [5432], unix: [~/pg.sock]}"), MAC)
    assert '(allow network-outbound (remote tcp "localhost:5432"))' in text
    assert '(allow network-outbound (remote unix-socket (subpath "/Users/u/pg.sock")))' in text
    assert "network" not in compile_seatbelt(plan_of(""), MAC)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("network: {hosts: [api.example.org]}", "hosts"),
        ("network: {mode: hosts}", "hosts"),
        ("detect: [agents]", "hosts"),
        ("network: {mode: open}", "open"),
    ],
)
def test_hosts_and_the_whole_network_are_refused(text: str, mode: str) -> None:
    with pytest.raises(
        PlanError,
        match=rf"^/w/capsule.yaml:[12]: network.mode is '{mode}', .*cannot be written in a Seatbelt profile",
    ):
        compile_seatbelt(plan_of(text), MAC)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(CLOSED)))
def test_presets_that_reach_hosts_are_refused(name: str) -> None:
    with pytest.raises(PlanError, match=rf"^preset:{name}:\d+: network.mode is '"):
        compile_seatbelt(preset_plan(name), MAC)


def _with_path(path: str, field: str) -> Plan:
    text = '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return plan_of(f"filesystem: {{{field}: [{text}]}}")


@pytest.mark.parametrize("field", ["read", "write", "execute", "deny", "protect", "private", "hide"])
@pytest.mark.parametrize(
    "name", ['a"b', 'x")) (allow default) ("', "a;b", "a)b(", "#|x|#", "a'b", '"', "a b", "é", "a^b.d+e(f)$"]
)
def test_no_path_becomes_a_rule(field: str, name: str) -> None:
    plan = _with_path("/opt/" + name, field)
    profile = read_expressions(compile_seatbelt(plan, MAC))
    quiet = read_expressions(compile_seatbelt(_with_path("/opt/quiet", field), MAC))
    assert len(profile) == len(quiet)
    texts = [
        word[1][1]
        for rule in profile
        for word in rule
        if isinstance(word, list) and word[0] in {"subpath", "regex"}
    ]
    assert "/opt/" + name in texts
    assert ["allow", "default"] not in profile


_nasty = st.text("ab\"\\()[]^$.;# '*+?{}|", min_size=1, max_size=12)


@settings(max_examples=50)
@given(_nasty, st.sampled_from(["home", "workspace"]))
def test_no_directory_of_the_machine_becomes_a_rule_or_a_pattern(name: str, which: str) -> None:
    """Homes and workspaces are named by the host; their names are text, whatever they hold."""
    where = "/d/" + name.replace("/", "")
    variables = Variables(where, "/h", where) if which == "workspace" else Variables("/v", where, "/v")
    root = "./" if which == "workspace" else "~/"
    plan = plan_of(f"filesystem: {{write: ['{root}x'], deny: ['{root}**/.env']}}")
    profile = read_expressions(compile_seatbelt(plan, variables))
    assert ["allow", "default"] not in profile
    assert allows(profile, "file-write-data", f"{where}/x/y")
    assert not allows(profile, "file-write-data", f"{where}/x/.env")
    assert not allows(profile, "file-write-data", "/d/other/x/y") or where == "/d/other"


@pytest.mark.parametrize("home", ["/h\n(allow default)", "/h\x00", "/h\x7f", "/h\x1b", "/h\ud800"])
def test_what_cannot_be_quoted_without_doubt_is_refused(home: str) -> None:
    with pytest.raises(PlanError, match="cannot be written in a Seatbelt profile"):
        compile_seatbelt(plan_of("filesystem: {read: [~/x]}"), Variables("/w", home, "/w"))


@pytest.mark.parametrize("pattern", ["/a/[]x]", "/a/[!]x]", "/a/[-x]", "/a/[x-]", "/a/[\\]"])
def test_sets_that_engines_read_differently_are_refused(pattern: str) -> None:
    with pytest.raises(PlanError, match="cannot be written"):
        pattern_regex(pattern, MAC)


@given(
    st.lists(
        st.sampled_from(["**", "*", "a", "a.b", "[ab]x", "[!a]", "?", "a+", "(b)"]), min_size=1, max_size=4
    ),
    st.lists(st.sampled_from(["a", "b", "axb", "a.b", "ax", "bx", "(b)", "aa", "a+"]), max_size=5),
)
def test_patterns_mean_the_same_as_regular_expressions(segments: list[str], names: list[str]) -> None:
    pattern, path = "/r/" + "/".join(segments), "/r/" + "/".join(names) if names else "/r"
    assert (re.search(pattern_regex(pattern, MAC), path) is not None) == Pattern.parse(pattern).covers(path)
