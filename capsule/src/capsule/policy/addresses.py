"""Hosts as people and programs spell them, and addresses that no name may lead to unless the policy says so.

Pure. A host is a name in lower-case A-labels or an IPv4 address in its one canonical spelling. Refused: IPv6 in every
spelling, numbers that some resolver takes for an address (`2130706433`, `0x7f.1`, `0177.0.0.1`, `127.1`), userinfo,
ports, schemes, percent signs, control characters, names that are not of RFC 1123 (2.1) and RFC 5890 (A-labels).

    normalise_host("Example.ORG.").name           # 'example.org'
    forbidden("::ffff:169.254.169.254")           # 'a metadata service (169.254.169.254)'
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

MAX_NAME = 253
MAX_LABEL = 63

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_QUAD = re.compile(r"(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}")
# What inet_aton(3) reads as a part of an address: decimal, octal and hexadecimal.
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
# RFC 5892, appendix A: characters that are allowed in some places although they are neither letters nor digits.
_IN_CONTEXT = frozenset("\u00b7\u0375\u05f3\u05f4\u200c\u200d\u30fb")
_LETTERS = frozenset({"Ll", "Lo", "Lm", "Mn", "Mc", "Nd"})
_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")


class HostError(ValueError):
    """A text that is not a host. `expected` and `next_step` continue the sentence."""

    def __init__(self, what: str, expected: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class Host:
    """A host in its one spelling.

    Attributes:
        name: lower-case A-labels without a trailing dot, or a dotted quad.
        address: the address, when the name is one.
    """

    name: str
    address: IPv4Address | None = None

    def __str__(self) -> str:
        return self.name


def normalise_host(untrusted_text: str) -> Host:
    """The host that a text names, and nothing but a host.

    Args:
        untrusted_text: of a Host field, a TLS server name, a DNS question, a policy.

    Raises:
        HostError: when it is not exactly a name or a canonical IPv4 address.
    """
    text = untrusted_text
    if not text or text == ".":
        raise HostError("an empty host", _EXPECTED)
    if len(text) > 4 * MAX_NAME:
        raise HostError("a host that is too long", f"at most {MAX_NAME} characters")
    shown = repr(text[:80])
    _refuse_more_than_a_host(text, shown)
    name = text.removesuffix(".")
    if not name.isascii():
        raise HostError(
            f"the host {shown} has letters beyond ASCII",
            "its A-label (IDNA 2008)",
            f"write {_a_labels(name)!r} if that is the name you mean",
        )
    name = name.lower()
    if len(name) > MAX_NAME:
        raise HostError("a host that is too long", f"at most {MAX_NAME} characters")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _address(name, labels, shown)
    for label in labels:
        _check_label(label, shown)
    return Host(name)


_EXPECTED = "a name such as api.example.org, or an IPv4 address"


def _refuse_more_than_a_host(text: str, shown: str) -> None:
    if any(ord(char) <= 0x20 or ord(char) == 0x7F for char in text) or any(
        unicodedata.category(char) in {"Cc", "Cf", "Zs", "Zl", "Zp", "Cs", "Cn", "Co"} for char in text
    ):
        raise HostError(f"the host {shown} has a space or an invisible character", _EXPECTED)
    if "%" in text:
        raise HostError(
            f"the host {shown} has a percent sign", _EXPECTED, "neither escapes nor zones are part of a host"
        )
    if "://" in text:
        raise HostError(f"the host {shown} has a scheme", _EXPECTED, "write what stands after '://' alone")
    if "@" in text:
        raise HostError(
            f"the host {shown} has a user in it", _EXPECTED, "what counts is the name after the '@'"
        )
    if text.startswith("[") or text.count(":") > 1:
        raise HostError(
            f"the host {shown} is an IPv6 address", _EXPECTED, "only IPv4 leads out of the sandbox"
        )
    if ":" in text:
        raise HostError(f"the host {shown} has a port", _EXPECTED, "ports stand beside the host, in 'ports'")
    if any(char in text for char in "/?#\\"):
        raise HostError(f"the host {shown} has a path", _EXPECTED, "paths stand beside the host, in 'paths'")


def _address(name: str, labels: list[str], shown: str) -> Host:
    if _QUAD.fullmatch(name):
        try:
            address = IPv4Address(name)
        except ValueError:
            raise HostError(f"the host {shown} is no IPv4 address", "numbers from 0 to 255") from None
        return Host(str(address), address)
    meant = read_number(labels)
    raise HostError(
        f"the host {shown} ends in a number"
        + (f" and is a spelling of the address {meant}" if meant is not None else ""),
        "four decimal numbers without leading zeros, for an address",
    )


def read_number(labels: list[str]) -> IPv4Address | None:
    """The address that inet_aton(3) reads in one to four numbers, the last one filling the rest; None: none."""
    if len(labels) > 4 or not all(_NUMBER.fullmatch(label) for label in labels):
        return None
    try:
        parts = [
            int(label[2:] or "0", 16)
            if label[:2] in {"0x", "0X"}
            else int(label, 8 if label.startswith("0") else 10)
            for label in labels
        ]
    except ValueError:
        return None  # 08: not octal after all
    *first, last = parts
    if any(part > 255 for part in first) or last >= 1 << 8 * (5 - len(parts)):
        return None
    return IPv4Address(sum(part << 8 * (3 - place) for place, part in enumerate(first)) + last)


def _check_label(label: str, shown: str) -> None:
    if not label:
        raise HostError(f"the host {shown} has an empty label", _EXPECTED, "write one '.' between labels")
    if len(label) > MAX_LABEL:
        raise HostError(f"the host {shown} has a label that is too long", f"at most {MAX_LABEL} characters")
    if "*" in label:
        raise HostError(
            f"the host {shown} has a '*'", "'*.' and a name, in a policy", "a '*' stands for whole labels"
        )
    if not _LABEL.fullmatch(label):
        raise HostError(
            f"the host {shown} has the label {label!r}",
            "letters, digits, '-' and '_', not beginning or ending with '-'",
        )
    if label.startswith("xn--") and not _is_a_label(label):
        raise HostError(f"the host {shown} has {label!r}, which is not an A-label (RFC 5890)", _EXPECTED)


def _is_a_label(label: str) -> bool:
    try:
        unicode = label[4:].encode().decode("punycode")
        back = unicode.encode("punycode").decode()
    except (UnicodeError, ValueError, OverflowError):
        return False
    # A label that says the same in ASCII, in capitals or decomposed would be a second spelling of another name.
    return (
        not unicode.isascii()
        and back == label[4:]
        and unicode == unicodedata.normalize("NFC", unicode.lower())
        and not unicodedata.category(unicode[0]).startswith("M")
        and all(
            char == "-" or char in _IN_CONTEXT or unicodedata.category(char) in _LETTERS for char in unicode
        )
    )


def _a_labels(name: str) -> str:
    """The A-labels of a name, for a suggestion that a person judges."""
    labels = unicodedata.normalize("NFC", name.translate(_DOTS).lower()).split(".")
    return ".".join(
        label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in labels
    )[:MAX_NAME]


def parse_authority(untrusted_text: str) -> tuple[Host, int | None]:
    """A Host field or the target of CONNECT: the host, and the port when there is one (RFC 9110 7.2).

    Raises:
        HostError: when it is not `host` or `host:port`; userinfo is refused.
    """
    host, colon, port = untrusted_text.rpartition(":")
    if not colon or untrusted_text.startswith("[") or untrusted_text.count(":") > 1:
        return normalise_host(untrusted_text), None
    if not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65535:
        raise HostError(
            f"the authority {untrusted_text[:80]!r} has no sound port", "a number from 1 to 65535"
        )
    return normalise_host(host), int(port)


# Where clouds hand out credentials. One of them has a public address; all win over the wider rows below.
_METADATA = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16", "192.0.0.192",
            "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254",
        ),
    )
)  # fmt: skip

# RFC 6890 and the IANA registries of special-purpose addresses. Written out, because what a Python's `ipaddress` calls
# private depends on its version.
_IPV4 = tuple(
    (IPv4Network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a shared address"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "an address for documentation"),
        ("192.88.99.0/24", "a reserved address"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "an address for benchmarks"),
        ("198.51.100.0/24", "an address for documentation"),
        ("203.0.113.0/24", "an address for documentation"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)
_IPV6 = tuple(
    (IPv6Network(network), what)
    for network, what in (
        ("::1/128", "a loopback address"),
        ("::/128", "this host"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a private address"),
        ("ff00::/8", "a multicast address"),
        ("2001:db8::/32", "an address for documentation"),
        ("3fff::/20", "an address for documentation"),
        ("2001::/23", "a reserved address"),
    )
)
_GLOBAL = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


def forbidden(address: str | IPv4Address | IPv6Address) -> str | None:
    """Why an address is not dialled without `private: true`; None when it is a public one.

    IPv4 inside IPv6 (mapped, RFC 4291; NAT64, RFC 6052; 6to4, RFC 3056) is judged as the IPv4 address it leads to.

    Args:
        address: as a resolver or getpeername(2) gives it; a zone after `%` is ignored.

    Raises:
        ValueError: when a text is no address.
    """
    found = ip_address(address.partition("%")[0]) if isinstance(address, str) else address
    if isinstance(found, IPv6Address):
        # A zone says which link, not which address.
        found = IPv6Address(int(found))
        inner = _inside(found)
        if inner is not None:
            return forbidden(inner)
    if found in _METADATA:
        return f"a metadata service ({found})"
    for network, what in _IPV4 if isinstance(found, IPv4Address) else _IPV6:
        if found in network:
            return f"{what} ({network})"
    if isinstance(found, IPv6Address) and found not in _GLOBAL:
        return f"a reserved address (outside {_GLOBAL})"
    return None


def _inside(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour
