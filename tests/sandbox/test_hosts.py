from __future__ import annotations

import pytest

from capsule.errors import PolicyError
from capsule.policy.grants import Grants, Refusal
from capsule.policy.merge import with_tool
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.hosts import compile_hosts, relied_on
from capsule.sandbox.plan import Plan, PlanEgress, decode_plan, encode_plan
from tests.policy.documents import resolve_text

SECRET = "{name: key, from: {env: T}, to: [a.example], as: header, field: X-Key, env: KEY}"


def plan_of(text: str, files: dict[str, str] | None = None, tool: str | None = None) -> Plan:
    policy = resolve_text(f"version: 1\n{text}", files)
    plan = compile_policy(policy if tool is None else with_tool(policy, tool))
    assert decode_plan(encode_plan(plan)) == plan
    return plan


def egress_of(text: str, files: dict[str, str] | None = None) -> PlanEgress:
    found = plan_of(text, files).network
    assert found.mode == "hosts"
    assert found.egress is not None
    return found.egress


def refused(text: str, files: dict[str, str] | None = None) -> str:
    with pytest.raises(PolicyError) as caught:
        plan_of(text, files)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("", "none"),
        ("network: {ports: [1]}", "none"),
        ("network: {hosts: []}", "none"),
        ("network: {mode: none}", "none"),
        ("network: {unlisted: deny}", "none"),
        ("network: {budget: {requests: 1}}", "none"),
        ("network: {hosts: [a.example]}", "hosts"),
        ("extends: [strict]\nnetwork: {hosts: [a.example]}", "hosts"),
        ("network: {mode: hosts}", "hosts"),
        ("network: {unlisted: ask}", "hosts"),
        ("network: {mode: none, unlisted: ask}", "none"),
        ("rules: [./r.yaml]", "hosts"),
        ("detect: [agents]", "hosts"),
        ("network: {mode: none}\ndetect: [agents]", "hosts"),
        ("network: {mode: open}", "open"),
    ],
)
def test_what_turns_it_on(text: str, mode: str) -> None:
    network = plan_of(text).network
    assert network.mode == mode
    assert (network.egress is not None) == (mode == "hosts")


def test_an_empty_list_is_closed() -> None:
    """Nothing listed never means everything."""
    egress = egress_of("network: {mode: hosts}")
    assert egress.hosts == ()
    assert egress.unlisted == "deny"
    assert isinstance(Grants(egress).request("a.example", 443, "GET", "/"), Refusal)


def test_none_closes_what_is_inherited_by_files_and_by_tools() -> None:
    files = {"./team.yaml": f"version: 1\nnetwork: {{hosts: [a.example]}}\nsecrets: [{SECRET}]"}
    assert plan_of("extends: [./team.yaml]", files).network.mode == "hosts"
    assert plan_of("extends: [./team.yaml]\nnetwork: {mode: none}", files).network.mode == "none"
    # A preset's `none` says what is so without hosts; the order in which documents are named does not matter.
    assert plan_of("extends: [./team.yaml, workspace]", files).network.mode == "hosts"
    tools = "extends: [./team.yaml]\ntools: {t: {network: {mode: none}}}"
    assert plan_of(tools, files).network.mode == "hosts"
    assert plan_of(tools, files, "t").network.mode == "none"


def test_hosts_of_several_documents_are_alternatives() -> None:
    files = {"./team.yaml": "version: 1\nnetwork: {hosts: [a.example, {host: b.example, methods: [GET]}]}"}
    egress = egress_of(
        "extends: [./team.yaml]\nnetwork: {hosts: [{host: b.example, methods: [PUT]}, A.Example]}", files
    )
    assert [(entry.host, entry.methods, entry.origin.file) for entry in egress.hosts] == [
        ("b.example", ("GET",), "/w/team.yaml"),
        ("b.example", ("PUT",), "/w/capsule.yaml"),
        ("a.example", None, "/w/capsule.yaml"),
    ]
    narrowed = egress_of(
        "extends: [./team.yaml]\nnetwork: {hosts: {remove: [b.example], add: [{host: b.example, paths: [/x]}]}}",
        files,
    )
    assert [(entry.host, entry.paths) for entry in narrowed.hosts] == [
        ("a.example", None),
        ("b.example", ("/x",)),
    ]
    assert "removed, but nothing before it added it" in refused("network: {hosts: {remove: [c.example]}}")


def test_the_last_of_one_name_stands() -> None:
    later = SECRET.replace("{env: T}", "{file: ~/.t}")
    upstreams = (
        "upstreams: [{host: a.example, address: '127.0.0.1:1'}, {host: a.example, address: '127.0.0.1:2'}]"
    )
    egress = egress_of(f"network: {{hosts: [a.example], {upstreams}}}\nsecrets: [{SECRET}, {later}]")
    assert [secret.source.kind for secret in egress.secrets] == ["file"]
    assert [upstream.address for upstream in egress.upstreams] == ["127.0.0.1:2"]


def test_budget_and_proxy_of_the_last_document() -> None:
    files = {"./team.yaml": "version: 1\nnetwork: {budget: {requests: 1, dollars: '2'}, proxy: 'http://p:1'}"}
    egress = egress_of(
        "extends: [./team.yaml]\nnetwork: {hosts: [a], budget: {dollars: '0.1', tokens: 7}, proxy: null}",
        files,
    )
    budget = egress.budget
    assert (budget.requests, budget.bytes, budget.tokens, budget.microdollars) == (1, None, 7, 100_000)
    assert egress.proxy is None


def test_what_egress_relies_on_is_kept_from_the_command() -> None:
    plan = plan_of(
        "filesystem: {write: ['.'], protect: [./r.yaml]}\n"
        "network: {hosts: ['*.example'], authorities: [./ca.pem]}\n"
        "rules: [./r.yaml]\ndetect: [agents, ./sigma]\n"
        "secrets:\n"
        f"  - {SECRET.replace('{env: T}', '{file: ./token}')}\n"
        f"  - {SECRET.replace('{env: T}', '{command: [/opt/token, x]}').replace('key', 'two').replace('KEY', 'TWO')}\n"
    )
    assert [entry.pattern for entry in plan.filesystem.protect] == [
        "${workspace}/r.yaml", "${workspace}/ca.pem", "${workspace}/sigma", "/opt/token",
    ]  # fmt: skip
    assert [entry.pattern for entry in plan.filesystem.deny] == ["${workspace}/token"]
    assert [entry.origin.line for entry in plan.filesystem.deny] == [7]
    relied = relied_on(plan.network.egress)
    # What a person protected is that line, whatever else is relied on.
    assert [relied.get((entry.pattern, entry.origin)) for entry in plan.filesystem.protect] == [
        None, "network: authorities", "detect", "secrets",
    ]  # fmt: skip
    assert [relied[entry.pattern, entry.origin] for entry in plan.filesystem.deny] == ["secrets"]
    assert relied_on(None) == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"network: {{hosts: [b.example]}}\nsecrets: [{SECRET}]", "goes to a.example, which no entry of network.hosts covers; add it"),  # noqa: E501
        (f"secrets: [{SECRET}]", "which no entry of network.hosts covers"),
        (f"network: {{hosts: [{{host: a.example, inspect: never}}]}}\nsecrets: [{SECRET}]", "a.example, which is never inspected (/w/capsule.yaml:2)"),  # noqa: E501
        (f"network: {{hosts: [{{host: '*.example', inspect: never}}]}}\nsecrets: [{SECRET}]", "*.example, which is never inspected"),  # noqa: E501
        ("network: {hosts: ['*.example', {host: b.example, inspect: never}]}\nsecrets: [" + SECRET.replace("a.example", "'*.example'") + "]", "b.example, which is never inspected"),  # noqa: E501
        (f"network: {{hosts: [a.example]}}\nsecrets: [{SECRET}, {SECRET.replace('key', 'two')}]", "the placeholders of 'key' and 'two'"),  # noqa: E501
        (f"network: {{hosts: [a.example]}}\nenv: {{set: {{KEY: x}}}}\nsecrets: [{SECRET}]", "but env.set sets it (/w/capsule.yaml:3)"),  # noqa: E501
        ("network: {hosts: [{host: a.example, credential: kee}]}\nsecrets: []", "the credential 'kee' of a.example is no secret of this policy"),  # noqa: E501
        (f"network: {{hosts: [a.example, {{host: b.example, credential: kee}}]}}\nsecrets: [{SECRET}]", "did you mean 'key'?"),  # noqa: E501
        (f"network: {{hosts: [a.example, {{host: b.example, credential: key}}]}}\nsecrets: [{SECRET}]", "the credential 'key' does not go to b.example"),  # noqa: E501
        ("network: {hosts: [{host: a, inspect: never}, {host: a, methods: [GET]}]}", "another entry of it (/w/capsule.yaml:2) needs a look"),  # noqa: E501
        ("network: {hosts: [{host: a, inspect: never}, {host: a, inspect: always}]}", "needs a look"),
        (f"network: {{mode: open}}\nsecrets: [{SECRET}]", "this secret would not be enforced: network.mode is 'open'"),
        ("network: {mode: open}\nrules: [./r.yaml]", "this rule file would not be enforced"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(text: str, says: str) -> None:
    assert says in refused(text)


def test_hosts_beside_an_inherited_open_are_refused() -> None:
    files = {"./team.yaml": "version: 1\nnetwork: {mode: open}"}
    says = refused("extends: [./team.yaml]\nnetwork: {hosts: [a.example]}", files)
    assert "this host entry would not be enforced: network.mode is 'open' (/w/team.yaml:2)" in says
    assert plan_of("extends: [./team.yaml]\nnetwork: {mode: hosts}", files).network.mode == "hosts"


def test_what_holds_side_by_side() -> None:
    egress_of(f"network: {{hosts: [{{host: '*.example', inspect: never}}, a.example]}}\nsecrets: [{SECRET}]")
    egress_of(
        "network: {hosts: [{host: a, inspect: never, ports: [1]}, {host: a, methods: [GET], ports: [2]}]}"
    )
    egress_of(f"network: {{hosts: [{{host: a.example, credential: key}}]}}\nsecrets: [{SECRET}]")


def test_every_port_is_a_listener_and_they_are_bounded() -> None:
    ports = [f"{{host: h{n}.example, ports: [{n + 1000}]}}" for n in range(241)]
    assert "more than 240 different ports" in refused(f"network: {{hosts: [{', '.join(ports)}]}}")
    most = ", ".join(ports[:240])
    assert len(egress_of(f"network: {{hosts: [{most}]}}").hosts) == 240
    assert "more than 240 different ports" in refused(f"network: {{unlisted: ask, hosts: [{most}]}}")


def test_a_policy_without_hosts_has_nothing_to_keep_from_the_command() -> None:
    found = compile_hosts(resolve_text("version: 1\nnetwork: {authorities: [./ca.pem]}"))
    assert (found.mode, found.egress, found.protect, found.deny) == ("none", None, (), ())
