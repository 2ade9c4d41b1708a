from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.errors import PolicyError
from capsule.policy.addresses import forbidden
from capsule.policy.model import DetectEntry, Edit, HostEntry, NameEntry, Network, Origin, UpstreamEntry
from capsule.policy.parser import parse


def network(text: str, file: str = "p") -> Network:
    return parse(f"version: 1\nnetwork: {text}".encode(), file).sections.network


def refused(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        network(text)
    return str(caught.value)


def at(column: int, line: int = 2) -> Origin:
    return Origin("p", line, column)


def test_hosts_in_their_spellings() -> None:
    found = network(
        "{hosts: [Pypi.Example., {host: '*.B.example', methods: [GET], paths: ['/v1/**'], inspect: always},\n"
        "  {host: 10.1.2.3, ports: [5432], inspect: never, private: true, reason: 'our\n     database'},\n"
        "  {host: a.example, credential: key-1}]}"
    )
    assert found.hosts.add == (
        HostEntry("pypi.example", at(19)),
        HostEntry("*.b.example", at(41), methods=("GET",), paths=("/v1/**",), inspect="always"),
        HostEntry("10.1.2.3", at(10, 3), (5432,), None, None, "never", True, None, "our database"),
        HostEntry("a.example", at(10, 5), credential="key-1"),
    )
    assert found.hosts.add[0].ports == (443, 80)


def test_edits_name_hosts_as_they_are_spelt_anywhere() -> None:
    assert network("{hosts: {remove: [A.Example., '*.B'], add: [c]}}").hosts == Edit(
        (HostEntry("c", at(54)),), (NameEntry("a.example", at(28)), NameEntry("*.b", at(40)))
    )
    assert network("{hosts: {replace: []}}").hosts == Edit(replace=True)


def test_the_rest_of_the_section() -> None:
    found = network(
        "{mode: hosts, unlisted: ask, proxy: 'http://Proxy.example:3128/', authorities: [/etc/ca.pem],"
        " budget: {requests: 5, bytes: 1KiB, tokens: none, dollars: '0.5'},"
        " upstreams: [{host: A.example, address: '127.0.0.1:8443', reason: mirror}, {host: b, address: '[FD00::1]:1'}]}"
    )
    assert found.mode is not None
    assert found.mode.value == "hosts"
    assert found.unlisted is not None
    assert found.unlisted.value == "ask"
    assert found.proxy is not None
    assert found.proxy.value == "http://proxy.example:3128"
    assert found.authorities.add[0].path == "/etc/ca.pem"
    bounds = {key: setting.value for key, setting in found.budget.items()}
    assert bounds == {"requests": 5, "bytes": 1024, "tokens": None, "dollars": 500_000}
    assert [(entry.host, entry.address, entry.reason) for entry in found.upstreams.add] == [
        ("a.example", "127.0.0.1:8443", "mirror"),
        ("b", "[fd00::1]:1", ""),
    ]
    assert isinstance(found.upstreams.add[0], UpstreamEntry)
    assert network("{proxy: null}").proxy is not None


def test_none_in_a_file_closes_what_it_inherits_and_in_a_preset_only_says_so() -> None:
    assert network("{mode: none}").hosts == Edit(replace=True)
    assert network("{mode: none}", "preset:strict").hosts == Edit()
    assert network("{mode: hosts}").hosts == Edit()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{mode: host}", "network.mode is 'host'; expected one of none, hosts, open; did you mean 'hosts'?"),
        ("{mode: none, hosts: [a]}", "network.mode is 'none' beside 'hosts', but then nothing is reached"),
        ("{mode: open, hosts: [a]}", "network.mode is 'open' beside 'hosts'"),
        ("{secrets: []}", "secrets stand beside 'network', not in it; remove 'secrets'"),
        ("{hosts: a.example}", "network.hosts is a single value; expected a list; write [a.example]"),
        ("{hosts: [https://a.example]}", "has a scheme; expected a name such as api.example.org"),
        ("{hosts: ['a.example:443']}", "has a port; expected a name such as api.example.org, or an IPv4 address; ports stand beside the host"),  # noqa: E501
        ("{hosts: [a.example/x]}", "has a path"),
        ("{hosts: [me@a.example]}", "has a user in it"),
        ("{hosts: ['a b']}", "a space or an invisible character"),
        ("{hosts: [a%2eb]}", "a percent sign"),
        ("{hosts: [bücher.example]}", "beyond ASCII; expected its A-label (IDNA 2008); write 'xn--bcher-kva.example'"),
        ("{hosts: [xn--a.example]}", "not an A-label"),
        ("{hosts: [a.*.example]}", "has a '*'"),
        ("{hosts: ['a*.example']}", "has a '*'"),
        ("{hosts: ['*.*.example']}", "has a '*'"),
        ("{hosts: ['*']}", "'*' would be everything; expected hosts by name; write 'unlisted: ask'"),
        ("{hosts: ['*.']}", "an empty host"),
        ("{hosts: ['*.10.0.0.1']}", "a '*' before an address"),
        ("{hosts: ['::1']}", "an IPv6 address"),
        ("{hosts: ['[::1]']}", "an IPv6 address"),
        ("{hosts: ['2130706433']}", "a spelling of the address 127.0.0.1"),
        ("{hosts: [0x7f.1]}", "a spelling of the address 127.0.0.1"),
        ("{hosts: [0177.0.0.1]}", "a spelling of the address 127.0.0.1"),
        ("{hosts: [256.0.0.1]}", "no IPv4 address"),
        ("{hosts: [1.5]}", "1.5, which is not text"),
        ("{hosts: [10.1.2.3]}", "is a private address (10.0.0.0/8); expected 'private: true' beside it"),
        ("{hosts: [169.254.169.254]}", "is a metadata service"),
        ("{hosts: [{host: 10.1.2.3, private: false}]}", "is a private address"),
        ("{hosts: [{host: 127.0.0.1, private: true}]}", "the sandbox's own loopback; a port of the host's loopback"),
        ("{hosts: [{host: 198.18.0.1, private: true}]}", "where names resolve to inside"),
        ("{hosts: [localhost]}", "stays inside the sandbox; a port of the host's loopback is granted by 'network: ports"),  # noqa: E501
        ("{hosts: ['*.localhost']}", "stays inside the sandbox"),
        ("{hosts: [{ports: [443]}]}", "has no 'host'"),
        ("{hosts: [{hots: a}]}", "did you mean 'host'?"),
        ("{hosts: [[a]]}", "is a list"),
        ("{hosts: [{host: a, ports: []}]}", "ports is empty, so nothing would fit"),
        ("{hosts: [{host: a, ports: 443}]}", "ports is a single value; expected a list; write [443]"),
        ("{hosts: [{host: a, ports: [443, 443]}]}", "ports names 443 twice"),
        ("{hosts: [{host: a, ports: [0]}]}", "from 1 to 65535"),
        ("{hosts: [{host: a, ports: [53]}]}", "port 53 is where names are resolved"),
        ("{hosts: [{host: a, methods: []}]}", "methods is empty"),
        ("{hosts: [{host: a, methods: [get]}]}", "the method 'get'; expected capital letters: methods are told apart by case; did you mean 'GET'?"),  # noqa: E501
        ("{hosts: [{host: a, methods: [GET, GET]}]}", "methods names GET twice"),
        ("{hosts: [{host: a, methods: ['A B']}]}", "'A B' in methods"),
        ("{hosts: [{host: a, methods: [[]]}]}", "an entry of methods is a list"),
        ("{hosts: [{host: a, paths: []}]}", "paths is empty"),
        ("{hosts: [{host: a, paths: [v1]}]}", "does not begin with '/'"),
        ("{hosts: [{host: a, paths: ['/a?b=c']}]}", "rules look at it"),
        ("{hosts: [{host: a, paths: [/a, /a/]}]}", "paths names '/a' twice"),
        ("{hosts: [{host: a, paths: [1]}]}", "which is not text"),
        ("{hosts: [{host: a, inspect: off}]}", "inspect is 'off'; expected one of auto, always, never"),
        ("{hosts: [{host: a, inspect: never, methods: [GET]}]}", "inspect is 'never' beside 'methods'"),
        ("{hosts: [{host: a, inspect: never, paths: [/]}]}", "inspect is 'never' beside 'paths'"),
        ("{hosts: [{host: a, inspect: never, credential: k}]}", "inspect is 'never' beside 'credential'"),
        ("{hosts: [{host: a, private: yes}]}", "private is 'yes'; expected true or false"),
        ("{hosts: [{host: a, credential: K}]}", "credential is 'K'"),
        ("{hosts: {remove: [https://a]}}", "has a scheme"),
        ("{unlisted: allow}", "network.unlisted is 'allow'; expected one of deny, ask"),
        ("{budget: {dollars: 5.00}}", 'without quotes; write "5.00"'),
        ("{budget: {dollars: '$5'}}", "did you mean '5'?"),
        ("{budget: {dollars: '5,50'}}", "did you mean '5.50'?"),
        ("{budget: {dollars: [1]}}", "network.budget.dollars is a list"),
        ("{budget: {requests: 0}}", "network.budget.requests is '0'"),
        ("{budget: {bytes: 5}}", "did you mean '5B'?"),
        ("{budget: {euros: 5}}", "unknown key 'euros'"),
        ("{upstreams: [a]}", "is a single value; expected a mapping with host, address"),
        ("{upstreams: [{host: a}]}", "an upstream has no 'address'"),
        ("{upstreams: [{host: a, address: 'b:80'}]}", "address is 'b:80'; expected an address and a port"),
        ("{upstreams: [{host: a, address: '127.0.0.1'}]}", "expected an address and a port"),
        ("{upstreams: [{host: a, address: '127.0.0.1:0'}]}", "expected an address and a port"),
        ("{upstreams: [{host: a, address: '127.0.0.1:99999'}]}", "expected an address and a port"),
        ("{upstreams: [{host: a, address: '127.1:80'}]}", "expected an address and a port"),
        ("{upstreams: [{host: a, address: '[127.0.0.1]:80'}]}", "expected an address and a port"),
        ("{upstreams: [{host: 'a:1', address: '127.0.0.1:80'}]}", "has a port"),
        ("{proxy: proxy.example}", "network.proxy is 'proxy.example'; expected http://HOST:PORT"),
        ("{proxy: 'http://proxy.example'}", "has no port"),
        ("{proxy: 'http://u:p@proxy.example:1'}", "a policy is no place for a password"),
        ("{proxy: 'http://proxy.example:1/x'}", "no sound port"),
        ("{proxy: []}", "network.proxy is a list"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    assert says in refused(text)


@given(st.ip_addresses(v=4))
def test_an_address_is_granted_when_it_is_public_or_said_to_be_private(address: object) -> None:
    text = f"{{hosts: [{address}]}}"
    if forbidden(str(address)) is None:
        assert network(text).hosts.add[0].host == str(address)
    else:
        refused(text)


def test_detect() -> None:
    found = parse(b"version: 1\ndetect: [agents, ./sigma, /srv/x, ~/y]", "p").sections.detect
    assert found.add == (
        DetectEntry("agents", False, at(10)),
        DetectEntry("${workspace}/sigma", True, at(18)),
        DetectEntry("/srv/x", True, at(27)),
        DetectEntry("${home}/y", True, at(35)),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[sigma.d]", "'sigma.d' in detect"),
        ("[agent]", "p:2:10: 'agent' in detect is no pack"),
        ("[./sigma, agnets]", "did you mean 'agents'?"),
        ("[windows]", "a pack that comes along (agents), or a directory"),
        ("['*/x']", "glob"),
        ("[[]]", "is a list"),
        ("[../x]", "'..' segment"),
    ],
)
def test_what_is_no_detection_is_refused(text: str, says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(f"version: 1\ndetect: {text}".encode(), "p")
    assert says in str(caught.value)
