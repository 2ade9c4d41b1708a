from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule.policy.request import parse_request
from capsule.sandbox.access import Access, Decision, Rule, Variables, Want
from capsule.sandbox.plan import PlanOrigin, decode_plan
from tests.sandbox.plans import VARIABLES, access_of

POLICY = """
filesystem:
  read: [/usr, ./vendor, /etc, ~/.cargo, /home/u/.ssh/known_hosts]
  write: [., /usr/share/w]
  execute: [/usr/bin, /tmp, ./bin]
  private: [/tmp]
  hide: ['~', /usr/hidden]
  deny: ['**/.env', ~/.ssh/id, ./secret]
  protect: [.git/hooks, '**/*.lock']
"""


@pytest.mark.parametrize(
    ("path", "read", "write", "execute"),
    [
        ("/usr/lib/x", "granted", "not_granted", "not_granted"),
        ("/usr/bin/x", "granted", "not_granted", "granted"),
        ("/usr", "granted", "not_granted", "not_granted"),
        ("/usrx", "not_granted", "not_granted", "not_granted"),
        ("/", "not_granted", "not_granted", "not_granted"),
        ("/usr/share/w/x", "granted", "granted", "not_granted"),
        ("/usr/hidden/x", "hidden", "hidden", "hidden"),
        ("/w/a", "granted", "granted", "not_granted"),
        ("/w/bin/a", "granted", "granted", "granted"),
        ("/w/vendor/a", "granted", "not_granted", "not_granted"),
        ("/w/.env", "denied", "denied", "denied"),
        ("/w/a/.env/b", "denied", "denied", "denied"),
        ("/w/secret/x", "denied", "denied", "denied"),
        ("/w/.git/hooks/x", "granted", "protected", "not_granted"),
        ("/w/a/uv.lock", "granted", "protected", "not_granted"),
        ("/w/.git/hooksx", "granted", "granted", "not_granted"),
        ("/tmp/x", "granted", "granted", "granted"),
        ("/home/u", "hidden", "hidden", "hidden"),
        ("/home/u/x", "hidden", "hidden", "hidden"),
        ("/home/u/.cargo/x", "granted", "not_granted", "not_granted"),
        ("/home/u/.ssh/known_hosts", "granted", "not_granted", "not_granted"),
        ("/home/u/.ssh/id", "denied", "denied", "denied"),
        ("relative", "not_granted", "not_granted", "not_granted"),
        ("/usr/../etc/x", "not_granted", "not_granted", "not_granted"),
        ("/usr/./x", "not_granted", "not_granted", "not_granted"),
    ],
)
def test_paths(path: str, read: str, write: str, execute: str) -> None:
    access = access_of(POLICY)
    wants: tuple[Want, ...] = ("read", "write", "execute")
    assert [access.path(path, want).kind for want in wants] == [read, write, execute]


@pytest.mark.parametrize("name", ["w[1", "w?[a-]", "[!", "w*"])
def test_a_workspace_with_signs_of_globs_in_its_name(name: str) -> None:
    at = Variables(f"/{name}", "/home/u", f"/{name}")
    access = Access(access_of(POLICY).plan, at)
    wants = {"/.env": "denied", "/a/.env": "denied", "/.git/hooks/x": "protected", "/a": "granted"}
    assert {path: access.path(f"/{name}{path}", "write").kind for path in wants} == wants


def test_a_decision_names_its_line_and_the_line_that_would_change_it() -> None:
    access = access_of(POLICY)
    granted = access.path("/usr/bin/x", "execute")
    assert granted.rule is not None
    assert (granted.rule.text, granted.rule.origin.line) == ('filesystem: execute: ["/usr/bin"]', 6)
    assert granted.allow is None
    denied = access.path("/w/.env", "read")
    assert denied.rule is not None
    assert (denied.rule.text, denied.rule.origin.line) == ('filesystem: deny: ["./**/.env"]', 9)
    assert denied.allow == 'take "./**/.env" out of filesystem: deny at /w/capsule.yaml:9'
    hidden = access.path("/home/u/x", "read")
    assert hidden.rule is not None
    assert (hidden.rule.origin.line, hidden.allow) == (8, 'filesystem: read: ["~/x"]')
    assert access.path("/w/x", "execute").allow == 'filesystem: execute: ["./x"]'
    assert access.path("/srv/x", "write").allow == 'filesystem: write: ["/srv/x"]'


def test_what_egress_relies_on_is_kept_by_its_own_line_which_nothing_takes_out() -> None:
    access = access_of(
        "filesystem: {read: ['.'], write: ['.']}\nnetwork: {hosts: [a.example]}\nrules: [./r.yaml]\nsecrets:\n"
        "  - {name: key, from: {file: ./token}, to: [a.example], as: header, field: X-Key, env: KEY}\n"
    )
    for path, want, text in (
        ("/w/token", "read", 'secrets: ["./token"]'),
        ("/w/r.yaml", "write", 'rules: ["./r.yaml"]'),
    ):
        decision = access.path(path, "read" if want == "read" else "write")
        assert decision.rule is not None
        assert (decision.granted, decision.rule.text, decision.allow) == (False, text, None)


def test_lines_about_repositories_hold_everywhere_but_in_private_places() -> None:
    access = access_of(
        "filesystem:\n  write: [., /srv]\n  private: [/tmp]\n  protect: [/**/.git/hooks, /**/.git/config, ./.husky]\n"
    )
    for path in ("/w/.git/hooks/x", "/w/a/b/.git/config", "/srv/p/.git/hooks"):
        assert access.path(path, "write").kind == "protected", path
        assert access.keeps_repositories(path)
    for path in ("/tmp/p/.git/hooks/x", "/w/a/.git/index", "/w/a/hooks"):
        assert access.path(path, "write").granted, path
    assert not access.keeps_repositories("/tmp/p/.git")
    allow = access.about_repositories().allow or ""
    assert 'take "/**/.git/hooks" out of filesystem: protect at /w/capsule.yaml:5' in allow
    assert ' and take "' in allow
    assert "husky" not in allow


def test_programs_narrow_what_may_be_executed() -> None:
    listed = "process: {programs: [/usr/bin/git, /usr/lib/git-core]}"
    access = access_of("filesystem: {execute: [/usr]}\n" + listed)
    assert access.path("/usr/bin/git", "execute").granted
    assert access.path("/usr/lib/git-core/git-add", "execute").granted
    refused = access.path("/usr/bin/env", "execute")
    assert (refused.kind, refused.allow) == ("not_granted", 'process: programs: ["/usr/bin/env"]')
    assert refused.rule is not None
    text = 'process: programs: ["/usr/bin/git", "/usr/lib/git-core"]'
    assert (refused.rule.text, refused.rule.origin.line) == (text, 3), (
        "the list keeps it out, not a grant to read"
    )
    assert access.path("/opt/x", "execute").allow == 'filesystem: execute: ["/opt/x"]'
    many = access_of("filesystem: {execute: [/usr]}\nprocess: {programs: [/a, /b, /c, /d]}")
    assert (many.path("/usr/x", "execute").rule or refused.rule).text.endswith('"/c", …]')
    none = access_of("filesystem: {execute: [/usr]}\nprocess: {programs: []}")
    assert not none.path("/usr/bin/git", "execute").granted


def test_system_calls() -> None:
    kill = "{name: kill, when: [{arg: 1, op: eq, value: 9}, {arg: 0, op: mask, value: 0, mask: 1}]}"
    access = access_of(f"syscalls: {{groups: [files], allow: [ptrace, {kill}], deny: [stat]}}")
    assert access.syscall("openat")[0].granted
    assert access.syscall("ptrace")[1] == ()
    decision, conditions = access.syscall("kill")
    assert decision.granted
    assert conditions == ("arg1 eq 0x9 and arg0 & 0x1 == 0x0",)
    assert access.syscall("stat")[0].kind == "denied"
    refused = access.syscall("clone3")[0]
    assert refused.own is not None
    assert refused.own.startswith("ENOSYS: ")
    missing = access.syscall("mkdir")[0]
    assert (missing.kind, missing.allow) == ("not_granted", "syscalls: allow: [mkdir]")


def test_variables_of_the_environment() -> None:
    access = access_of("env: {pass: ['A*', KEY], scrub: ['*KEY'], set: {MY_KEY: x}}")
    assert access.variable("ABC").granted
    assert access.variable("KEY").kind == "denied"
    assert access.variable("MY_KEY").granted
    assert access.variable("B").allow == "env: pass: [B]"
    rule = access.variable("KEY").rule
    assert rule is not None
    assert rule.origin.line == 2
    assert not Access(access.plan, VARIABLES).variable("ABC").granted


@pytest.mark.parametrize(
    ("address", "kind", "allow"),
    [
        ("tcp:127.0.0.1:5432", "granted", None),
        ("tcp:localhost:5432", "granted", None),
        ("tcp:[::1]:5432", "granted", None),
        ("tcp:127.0.0.1:80", "not_granted", "network: ports: [80]"),
        ("tcp:example.org:5432", "not_granted", "network: hosts: [{host: example.org, ports: [5432]}]"),
        ("unix:/run/pg/s", "granted", None),
        ("unix:/run/x", "not_granted", 'network: unix: ["/run/x"]'),
        ("unix:/w/s", "granted", None),
        ("unix:/w/.env", "not_granted", 'network: unix: ["./.env"]'),
    ],
)
def test_addresses(address: str, kind: str, allow: str | None) -> None:
    decision = access_of(POLICY + "network: {ports: [5432], unix: [/run/pg]}").address(address)
    assert (decision.kind, decision.allow) == (kind, allow)


def test_variables_are_put_in_and_taken_out() -> None:
    root = Variables("/", "/home/u", "/x")
    assert root.path("${workspace}") == "/"
    assert root.path("${workspace}/a") == "/a"
    assert VARIABLES.path("${cwd}/a") == "/w/c/a"
    assert VARIABLES.path("/a") == "/a"
    assert VARIABLES.path("${homer}/a") == "${homer}/a"
    written = {"/w": ".", "/w/a": "./a", "/wx": "/wx", "/home/u/a": "~/a", "/etc": "/etc"}
    assert {path: VARIABLES.written(path) for path in written} == written
    assert root.written("/a") == "./a"


def test_shared_vectors(repository: Path) -> None:
    """The launcher's `Access` answers the same vectors."""
    vectors = sorted((repository / "tests/vectors/access").glob("*.json"))
    assert vectors
    for vector in vectors:
        case = json.loads(vector.read_text())
        access = Access(decode_plan(json.dumps(case["plan"]).encode()), Variables(**case["variables"]))
        assert len(case["cases"]) >= 20
        for path, want, kind, line in case["cases"]:
            decision = access.path(path, want)
            assert decision.kind == kind, (vector.name, path, want)
            if kind in {"denied", "protected"}:
                assert decision.rule is not None
                assert decision.rule.origin.line == line, (vector.name, path, want)


_lists = ("read", "write", "execute", "hide", "private", "deny", "protect")
_names = st.sampled_from(["/w", "/w/a", "/w/a/b", "/home/u", "/home/u/a", "/", "/w/.env"])
_wants: st.SearchStrategy[Want] = st.sampled_from(["read", "write", "execute"])


@settings(max_examples=100)
@given(
    st.dictionaries(st.sampled_from(_lists), st.lists(_names, max_size=3)),
    _names,
    st.sampled_from(["", "/x", "/a"]),
    _wants,
)
def test_deny_and_protect_win_whatever_else_is_written(
    lists: dict[str, list[str]], place: str, below: str, want: Want
) -> None:
    path = (place.rstrip("/") + below) or "/"
    decision = access_of("filesystem: " + json.dumps(lists)).path(path, want)

    def covered(name: str) -> bool:
        return any(path == rule or path.startswith(rule.rstrip("/") + "/") for rule in lists.get(name, []))

    if covered("deny"):
        assert decision.kind == "denied"
    elif want == "write" and covered("protect"):
        assert decision.kind == "protected"
    elif decision.granted:
        sources = {
            "read": ("read", "write", "private"),
            "write": ("write", "private"),
            "execute": ("execute",),
        }
        assert any(covered(name) for name in sources[want])


HOSTS = """
network:
  ports: [5432]
  hosts:
    - a.example
    - {host: "*.b.example", ports: [8443], methods: [GET], paths: ["/v1/**"], inspect: always, private: true}
    - {host: c.example, credential: key}
secrets: [{name: key, from: {env: T}, to: [c.example], as: body, env: KEY}]
"""


def test_an_address_is_granted_when_some_request_to_it_is() -> None:
    access = access_of(HOSTS)
    assert access.address("tcp:a.example:443").granted
    assert access.address("tcp:A.Example.:80").granted
    assert access.address("tcp:x.b.example:8443").granted
    assert access.address("tcp:127.0.0.1:5432").granted
    for address in (
        "tcp:a.example:22",
        "tcp:b.example:8443",
        "tcp:127.1:443",
        "tcp:[::1]:443",
        "tcp:evil.example:443",
    ):
        assert not access.address(address).granted, address
    found = access.address("tcp:evil.example:443")
    assert found.allow == "network: hosts: [evil.example]"


def test_a_request_is_decided_by_a_host_entry() -> None:
    access = access_of(HOSTS)

    def asked(text: str) -> Decision:
        return access.request(parse_request(text))

    granted = asked("GET https://x.b.example:8443/v1/a?b")
    assert granted.granted
    assert granted.rule is not None
    assert granted.rule.origin.line == 7
    assert granted.rule.text == (
        'network: hosts: [{host: "*.b.example", ports: [8443], methods: [GET], paths: ["/v1/**"], inspect: always, '
        "private: true}]"
    )
    assert asked("https://a.example/").rule == Rule(
        "network: hosts: [a.example]", PlanOrigin("/w/capsule.yaml", 6, 7)
    )
    assert "credential: key" in (asked("https://c.example/").rule or granted.rule).text
    refused = asked("POST https://x.b.example:8443/v1/a")
    assert refused.kind == "not_granted"
    assert refused.rule is not None
    assert refused.rule.origin.line == 7
    assert "methods: [POST]" in (refused.allow or "")
    assert asked("https://x.b.example/").allow == "network: hosts: [{host: x.b.example, ports: [443]}]"
    assert asked("https://evil.example/").rule is None


def test_requests_where_nothing_or_everything_is_reached() -> None:
    request = parse_request("https://a.example/")
    none = access_of("network: {mode: none}")
    assert none.request(request) == none.address("tcp:a.example:443")
    assert none.request(request).allow == "network: hosts: [a.example]"
    wide = access_of("network: {mode: open}")
    assert wide.request(request).granted
    assert wide.address("tcp:a.example:22").granted
    assert wide.address("tcp:127.0.0.1:1").granted


def test_a_secrets_variable_holds_its_placeholder() -> None:
    access = access_of(f"{HOSTS}env: {{pass: ['*'], scrub: [KEY, T]}}\n")
    assert access.variable("KEY") == Decision(
        "granted", Rule("secrets: the placeholder of key", PlanOrigin("/w/capsule.yaml", 9, 18))
    )
    assert access.variable("T").kind == "denied"
