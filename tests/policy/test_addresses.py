from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.policy.addresses import HostError, forbidden, normalise_host, parse_authority, read_number


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("example.org", "example.org"),
        ("Example.ORG", "example.org"),
        ("example.org.", "example.org"),
        ("a_b.c-d.e", "a_b.c-d.e"),
        ("r3---sn-x.example", "r3---sn-x.example"),
        ("intranet", "intranet"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("xn--fa-hia.de", "xn--fa-hia.de"),
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.3.4.", "1.2.3.4"),
        ("1.example", "1.example"),
        ("0x7f.example", "0x7f.example"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_a_host_has_one_spelling(text: str, name: str) -> None:
    host = normalise_host(text)
    assert (host.name, str(host)) == (name, name)
    assert (host.address is not None) == (name == "1.2.3.4")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty host"),
        (".", "empty host"),
        ("a..b", "empty label"),
        (".a", "empty label"),
        ("a" * 64, "too long"),
        (("a" * 60 + ".") * 5, "too long"),
        ("a" * 2000, "too long"),
        ("-a.b", "the label '-a'"),
        ("a-.b", "the label 'a-'"),
        ("a*.b", "a '\\*'"),
        ("*.b", "a '\\*'"),
        ("a!b", "the label 'a!b'"),
        # userinfo, ports, paths, schemes
        ("allowed.example@evil.example", "a user in it"),
        ("evil.example:443", "has a port"),
        ("https://a.example", "a scheme"),
        ("a.example/x", "a path"),
        ("a.example?x", "a path"),
        ("a.example#x", "a path"),
        ("a.example\\x", "a path"),
        # escapes, controls, invisible characters
        ("a.example%00.evil.example", "a percent sign"),
        ("a.example\0.evil.example", "invisible"),
        ("a.example\r\nHost: x", "invisible"),
        ("a example", "a space"),
        ("a\u00adb.example", "invisible"),
        ("a\u200bb.example", "invisible"),
        ("a\u202eb.example", "invisible"),
        ("\ud800.example", "invisible"),
        # international names are A-labels, and only sound ones
        ("bücher.example", "beyond ASCII"),
        ("\u0430pple.example", "beyond ASCII"),
        ("a\u3002example", "beyond ASCII"),
        ("xn--a.example", "not an A-label"),
        ("xn--abc.example", "not an A-label"),
        ("xn--i-7iq.ws", "not an A-label"),
        ("xn--" + "B\u00fccher".encode("punycode").decode().lower() + "0", "not an A-label"),
        # spellings of addresses
        ("127.1", "spelling of the address 127.0.0.1"),
        ("127.0.1", "spelling of the address 127.0.0.1"),
        ("2130706433", "spelling of the address 127.0.0.1"),
        ("2852039166", "spelling of the address 169.254.169.254"),
        ("0xa9fea9fe", "spelling of the address 169.254.169.254"),
        ("0xA9.0xFE.0xA9.0xFE", "spelling of the address 169.254.169.254"),
        ("0251.0376.0251.0376", "spelling of the address 169.254.169.254"),
        ("0177.0.0.1", "spelling of the address 127.0.0.1"),
        ("0x7f.1", "spelling of the address 127.0.0.1"),
        ("0", "spelling of the address 0.0.0.0"),
        ("0x", "spelling of the address 0.0.0.0"),
        ("1.2.3.04", "spelling of the address 1.2.3.4"),
        ("256.1.1.1", "no IPv4 address"),
        ("4294967296", "ends in a number"),
        ("1.2.3.4.5", "ends in a number"),
        ("a.1", "ends in a number"),
        ("a.0x1", "ends in a number"),
        ("08", "ends in a number"),
        ("[::1]", "an IPv6 address"),
        ("::1", "an IPv6 address"),
        ("[::ffff:169.254.169.254]", "an IPv6 address"),
        ("fd00:ec2::254", "an IPv6 address"),
        ("fe80::1%eth0", "a percent sign"),
    ],
)
def test_what_is_no_host_is_refused(text: str, says: str) -> None:
    with pytest.raises(HostError, match=says):
        normalise_host(text)


def test_an_international_name_is_suggested_as_it_would_be_written() -> None:
    with pytest.raises(HostError) as caught:
        normalise_host("Bücher.Example")
    assert "'xn--bcher-kva.example'" in caught.value.next_step
    assert normalise_host("xn--bcher-kva.example")


@given(st.text(max_size=40) | st.from_regex(r"[0-9a-fxX.:@%\[\]-]{1,20}", fullmatch=True))
def test_normalising_is_idempotent_or_refuses(text: str) -> None:
    try:
        host = normalise_host(text)
    except HostError:
        return
    assert normalise_host(host.name) == host
    assert host.name.isascii()
    assert host.name == host.name.lower()
    assert host.name.rpartition(".")[2]


@given(st.integers(0, 2**32 - 1))
def test_only_the_dotted_quad_of_an_address_is_a_host(number: int) -> None:
    quad = str(IPv4Address(number))
    assert normalise_host(quad).address == IPv4Address(number)
    first, second, third, fourth = quad.split(".")
    tail = (int(third) << 8) + int(fourth)
    for other in (
        str(number),
        hex(number),
        f"{first}.{number & 0xFFFFFF}",
        f"{first}.{second}.{tail}",
        f"{hex(int(first))}.{second}.{third}.{fourth}",
        f"0{int(first):o}.{second}.{third}.{fourth}",
    ):
        with pytest.raises(HostError):
            normalise_host(other)
        assert read_number(other.split(".")) == IPv4Address(number)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("a.example", "a.example", None), ("A.example.:443", "a.example", 443), ("1.2.3.4:80", "1.2.3.4", 80)],
)
def test_an_authority_is_a_host_and_perhaps_a_port(text: str, host: str, port: int | None) -> None:
    found, number = parse_authority(text)
    assert (found.name, number) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        ":80",
        "a:",
        "a:0",
        "a:65536",
        "a:+80",
        "a:8 0",
        "a:080",
        "a:80:80",
        "[::1]:80",
        "u@a:80",
        "u:p@a",
        "a:\u0661",
    ],
)
def test_an_unsound_authority_is_refused(text: str) -> None:
    with pytest.raises(HostError):
        parse_authority(text)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("0.0.0.0", "this host"),
        ("0.1.2.3", "this host"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "shared"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("169.254.1.1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("169.254.170.2", "metadata"),
        ("100.100.100.200", "metadata"),
        ("168.63.129.16", "metadata"),
        ("192.0.0.8", "reserved"),
        ("192.0.2.1", "documentation"),
        ("198.51.100.1", "documentation"),
        ("203.0.113.1", "documentation"),
        ("198.18.0.1", "benchmarks"),
        ("198.19.255.255", "benchmarks"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::", "this host"),
        ("::1", "loopback"),
        ("::7f00:1", "reserved"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:a9fe:a9fe", "metadata"),
        ("::ffff:10.0.0.1", "private"),
        ("64:ff9b::7f00:1", "loopback"),
        ("64:ff9b::a9fe:a9fe", "metadata"),
        ("64:ff9b:1::1", "reserved"),
        ("2002:7f00:1::", "loopback"),
        ("2002:a9fe:a9fe::1", "metadata"),
        ("2002:a00:1::1", "private"),
        ("fc00::1", "private"),
        ("fd00:ec2::254", "metadata"),
        ("fd20:ce::254", "metadata"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fd00:ec2::254%1", "metadata"),
        ("fec0::1", "private"),
        ("ff02::1", "multicast"),
        ("2001::1", "reserved"),
        ("2001:db8::1", "documentation"),
        ("3fff::1", "documentation"),
        ("100::1", "reserved"),
        ("5f00::1", "reserved"),
    ],
)
def test_an_address_that_is_not_public_is_forbidden(address: str, says: str) -> None:
    assert says in (forbidden(address) or "")
    if "%" not in address:
        assert forbidden(ip_address(address)) == forbidden(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
        "128.0.0.0", "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0",
        "198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700::1111", "2a00:1450::1", "2001:4860:4860::8888",
        "64:ff9b::101:101", "2002:101:101::1", "::ffff:1.1.1.1",
    ],
)  # fmt: skip
def test_a_public_address_is_not(address: str) -> None:
    assert forbidden(address) is None


@given(st.ip_addresses())
def test_nothing_that_python_calls_private_is_public_here(address: IPv4Address | IPv6Address) -> None:
    if isinstance(address, IPv6Address) and (address.sixtofour or address.ipv4_mapped):
        return  # judged by the address inside
    if address.is_private or address.is_multicast or address.is_reserved or address.is_loopback:
        assert forbidden(address) is not None or str(address).startswith(("64:ff9b::", "192.0.0."))


@given(st.integers(0, 2**32 - 1))
def test_an_address_inside_another_is_judged_as_itself(number: int) -> None:
    plain = forbidden(IPv4Address(number))
    for wrapped in ((0xFFFF << 32) | number, (0x64FF9B << 96) | number, (0x2002 << 112) | (number << 80)):
        assert forbidden(IPv6Address(wrapped)) == plain


def test_a_text_that_is_no_address_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        forbidden("localhost")
