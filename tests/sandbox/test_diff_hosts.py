from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.sandbox.changes import Risk
from capsule.sandbox.diff import compare_plans
from tests.sandbox.plans import plan_of, preset_plan

SECRET = "{name: key, from: FROM, to: [TO], as: header, field: X-Key, env: KEY}"


def changes(old: str, new: str) -> list[tuple[str, str]]:
    return [(change.risk.name, change.what) for change in compare_plans(plan_of(old), plan_of(new))]


def hosts(text: str) -> str:
    return f"network: {{hosts: {text}}}"


@pytest.mark.parametrize(
    ("old", "new", "risk", "says"),
    [
        ("[]", "[a.example]", "HIGH", "may send to a.example"),
        ("[]", "[{host: a.example, methods: [GET, HEAD]}]", "MEDIUM", "may read from a.example"),
        ("[]", "[{host: a.example, methods: [PUT], paths: [/x], ports: [443]}]", "HIGH", "may send to a.example · port 443 · PUT · /x"),  # noqa: E501
        ("[]", "[github.com]", "HIGH", "may send to github.com (anybody can publish at github.com)"),
        ("[]", "[{host: a.example, private: true, methods: [GET]}]", "HIGH", "may read from a.example · also at private addresses"),  # noqa: E501
        ("[]", "[{host: '*.example', private: true}]", "CRITICAL", "may send to *.example · also at private addresses (*.example covers names of everybody)"),  # noqa: E501
        ("[a.example]", "[{host: a.example, inspect: never}]", "HIGH", "may send to a.example · unseen"),
        ("[a.example]", "[a.example, '*.b.example']", "HIGH", "may send to *.b.example"),
        ("[{host: a.example, methods: [GET]}]", "[{host: a.example, methods: [GET, POST]}]", "HIGH", "may send to a.example · GET, POST"),  # noqa: E501
        ("[{host: a.example, ports: [443]}]", "[{host: a.example, ports: [443, 22]}]", "HIGH", "may send to a.example · port 443, 22"),  # noqa: E501
    ],
)  # fmt: skip
def test_what_is_reached_on_top(old: str, new: str, risk: str, says: str) -> None:
    found = changes(hosts(old), hosts(new))
    assert found[0] == (risk, says)
    back = changes(hosts(new), hosts(old))
    assert ("NARROWER", says.replace("may ", "may no longer ")) in back


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("['*.example']", "[a.example, '*.b.example']"),
        ("[a.example]", "[{host: a.example, methods: [GET]}, {host: a.example, ports: [443], paths: [/x]}]"),
        ("[{host: a.example, private: true}]", "[a.example]"),
    ],
)
def test_what_was_covered_before_is_no_widening(old: str, new: str) -> None:
    assert {risk for risk, _ in changes(hosts(old), hosts(new))} == {"NARROWER"}


def test_open_is_the_worst_and_hides_the_rest() -> None:
    found = changes(hosts("[a.example]"), "network: {mode: open}")
    assert found == [("CRITICAL", "the host's own network: everything may be reached, unseen")]
    assert changes("network: {mode: open}", hosts("[a.example]")) == [
        ("NARROWER", "no longer the host's own network")
    ]
    assert changes("network: {mode: open}", "network: {mode: open}") == []


def secret(source: str = "{env: T}", to: str = "a.example", more: str = "") -> str:
    entry = SECRET.replace("FROM", source).replace("TO", to)
    return f"network: {{hosts: [a.example, b.example]}}\nsecrets: [{entry}]{more}"


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (hosts("[a.example, b.example]"), secret(), ("HIGH", "the secret key is used: the variable T, to a.example")),
        (hosts("[a.example, b.example]"), secret("{command: [/bin/t, x]}"), ("CRITICAL", "the secret key is used: what /bin/t x prints, run on the host, to a.example")),  # noqa: E501
        (secret(), secret("{file: /k}"), ("HIGH", "the secret key comes from elsewhere: the file /k, to a.example")),
        (secret(), secret("{keyring: {service: s, user: u}}"), ("HIGH", "the secret key comes from elsewhere: the keyring's s, to a.example")),  # noqa: E501
        (secret(), secret(to="a.example, b.example"), ("CRITICAL", "the secret key goes also to b.example")),
        (secret(to="a.example, b.example"), secret(), ("NARROWER", "the secret key goes to fewer hosts")),
        (secret(), secret().replace("X-Key", "Y-Key"), ("MEDIUM", "the secret key is carried as header")),
        (secret(), hosts("[a.example, b.example]"), ("NARROWER", "the secret key is no longer used")),
        (secret(), secret(), None),
    ],
)  # fmt: skip
def test_secrets(old: str, new: str, found: tuple[str, str] | None) -> None:
    kept = [
        change for change in changes(old, new) if "protected" not in change[1] and "denied" not in change[1]
    ]
    assert kept == ([] if found is None else [found])


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("", "unlisted: ask", ("MEDIUM", "hosts that are not listed are asked about")),
        ("unlisted: ask", "", ("NARROWER", "hosts that are not listed are refused")),
        ("", "proxy: 'http://p:1'", ("HIGH", "everything goes out through http://p:1")),
        ("proxy: 'http://p:1'", "", ("LOW", "nothing goes out through http://p:1 any more")),
        ("", "authorities: [~/ca.pem]", ("HIGH", "trusts the authorities of ~/ca.pem")),
        ("authorities: [~/ca.pem]", "", ("NARROWER", "no longer trusts the authorities of ~/ca.pem")),
        (
            "",
            "upstreams: [{host: a, address: '1.1.1.1:1'}]",
            ("HIGH", "a → 1.1.1.1:1, whatever the name resolves to"),
        ),
        ("upstreams: [{host: a, address: '1.1.1.1:1'}]", "", ("LOW", "no longer a → 1.1.1.1:1")),
        ("budget: {requests: 5}", "budget: {requests: 9}", ("LOW", "budget of requests: 5 → 9")),
        ("budget: {dollars: '5'}", "", ("MEDIUM", "budget of dollars: 5.00 → none")),
        ("", "budget: {bytes: 1KiB}", ("NARROWER", "budget of bytes: none → 1KiB")),
    ],
)
def test_the_rest_of_the_network(old: str, new: str, found: tuple[str, str]) -> None:
    def network(text: str) -> str:
        return f"network: {{hosts: [a]{', ' if text else ''}{text}}}"

    kept = [change for change in changes(network(old), network(new)) if "protected" not in change[1]]
    assert kept == [found]


def test_rules_and_detection_narrow() -> None:
    base, more = hosts("[a]"), hosts("[a]") + "\nrules: [./r.yaml]\ndetect: [agents]"
    assert [change for change in changes(base, more) if "protected" not in change[1]] == [
        ("NARROWER", "the rules of ./r.yaml decide"),
        ("NARROWER", "the detection agents looks on"),
    ]
    assert [change for change in changes(more, base) if "protected" not in change[1]] == [
        ("HIGH", "the rules of ./r.yaml no longer decide"),
        ("HIGH", "the detection agents no longer looks on"),
    ]


def test_a_preset_that_reads_a_registry() -> None:
    found = compare_plans(preset_plan("strict"), preset_plan("pypi"))
    reached = [change for change in found if "may read from" in change.what]
    assert [change.risk for change in reached] == [Risk.MEDIUM, Risk.MEDIUM]
    assert all(change.origin is not None and change.origin.file == "preset:pypi" for change in reached)


_ENTRIES = st.lists(
    st.sampled_from(
        [
            "a.x",
            "'*.x'",
            "{host: a.x, methods: [GET]}",
            "{host: a.x, ports: [443]}",
            "{host: b.x, private: true}",
            "{host: b.x, paths: [/p]}",
        ]
    ),
    max_size=4,
)


@given(_ENTRIES, _ENTRIES)
def test_a_policy_widens_or_narrows_in_one_direction_at_a_time(old: list[str], new: list[str]) -> None:
    """Adding entries never narrows, taking them away never widens, and the same is no difference."""
    one, both = hosts(f"[{', '.join(old)}]"), hosts(f"[{', '.join([*old, *new])}]")
    assert all(risk != "NARROWER" for risk, _ in changes(one, both))
    assert all(risk == "NARROWER" for risk, _ in changes(both, one))
    assert changes(both, both) == []
