"""The section `network`, and `detect`: who may be reached, on which ports, with which requests.

What it refuses: hosts with a scheme, a port, a path or a user; international names that are not A-labels; IPv6 and
addresses in any spelling but the dotted quad; private addresses without `private: true`; `inspect: never` beside
what needs a look.

    network: {hosts: [pypi.example, {host: "*.corp.example", ports: [8443], private: true}], unlisted: ask}
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network, ip_address

from capsule.errors import nearest_name
from capsule.policy.addresses import HostError, forbidden, normalise_host, parse_authority
from capsule.policy.document import Mapping, Node, Scalar
from capsule.policy.model import (
    BUDGET_KINDS,
    DEFAULT_PORTS,
    INSPECTION,
    NETWORK_MODES,
    DetectEntry,
    Edit,
    HostEntry,
    NameEntry,
    Network,
    Setting,
    UpstreamEntry,
)
from capsule.policy.paths import PathError
from capsule.policy.reader import NodeReader
from capsule.policy.urlpath import check_glob

NETWORK_KEYS = ("mode", "ports", "unix", "hosts", "unlisted", "budget", "upstreams", "authorities", "proxy")
HOST_KEYS = ("host", "ports", "methods", "paths", "inspect", "private", "credential", "reason")
SECRET_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
PACKS = ("agents",)
"""The packs of detection rules that come along; `capsule.rules.detection.packs` has their files."""
PACK_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}")  # RFC 9110 5.6.2
_INSIDE = IPv4Network("198.18.0.0/15")
_LOOPBACK = IPv4Network("127.0.0.0/8")


def read_network(reader: NodeReader, node: Node) -> Network:
    """The section; problems are left with the reader."""
    reserved = {"secrets": "secrets stand beside 'network', not in it"}
    parts = dict(reader.fields(node, "network", NETWORK_KEYS, reserved=reserved))
    has = parts.get
    mode = reader.word(parts["mode"], "network.mode", NETWORK_MODES) if has("mode") else None
    if mode in {"none", "open"} and has("hosts"):
        why = "nothing is reached" if mode == "none" else "everything is reached, and nothing is looked at"
        reader.refuse(
            parts["mode"],
            f"network.mode is {mode!r} beside 'hosts', but then {why}",
            next_step="remove one of the two",
        )
    hosts: Edit[HostEntry] = Edit()
    if has("hosts"):
        hosts = reader.edit(
            parts["hosts"], lambda item, _: _host_entry(reader, item), "network.hosts", _key(reader)
        )
    elif mode == "none" and not reader.file.startswith("preset:"):
        # Written by a person it closes what was inherited; in a preset it only says what is so without hosts.
        hosts = Edit(replace=True)
    unlisted = (
        reader.word(parts["unlisted"], "network.unlisted", ("deny", "ask")) if has("unlisted") else None
    )
    return Network(
        mode=Setting(mode, reader.origin(parts["mode"])) if mode is not None else None,
        ports=_ports(reader, parts["ports"]) if has("ports") else Edit(),
        unix=reader.paths(parts["unix"], "network.unix") if has("unix") else Edit(),
        hosts=hosts,
        unlisted=Setting(unlisted, reader.origin(parts["unlisted"])) if unlisted is not None else None,
        budget=_budget(reader, parts["budget"]) if has("budget") else {},
        upstreams=reader.edit(
            parts["upstreams"], lambda item, _: _upstream(reader, item), "network.upstreams", _key(reader)
        )
        if has("upstreams")
        else Edit(),
        authorities=reader.paths(parts["authorities"], "network.authorities")
        if has("authorities")
        else Edit(),
        proxy=_proxy(reader, parts["proxy"]) if has("proxy") else None,
    )


def _ports(reader: NodeReader, node: Node) -> Edit[NameEntry]:
    def port(item: Node, subject: str) -> NameEntry | None:
        number = reader.integer(item, f"an entry of {subject}", 1, 65535)
        return None if number is None else NameEntry(str(number), reader.origin(item))

    def key(item: Node) -> str:
        return str(reader.integer(item, "an entry of network.ports.remove", 1, 65535) or "")

    return reader.edit(node, port, "network.ports", key)


def read_host(reader: NodeReader, node: Node, subject: str) -> str | None:
    """A name, `*.suffix` or IPv4 address in its one spelling."""
    # No reader of YAML takes four numbers with dots between them for a number, so they need no quotes.
    plain_address = isinstance(node, Scalar) and re.fullmatch(r"[0-9]+(\.[0-9]+){3}", node.text)
    text = (
        plain_address.string
        if plain_address
        else reader.text(node, subject, "a host such as api.example.org or '*.example.org'")
    )
    if text is None:
        return None
    wild = text.startswith("*.")
    try:
        if text == "*":
            raise HostError(
                "the host '*' would be everything",
                "hosts by name",
                "write 'unlisted: ask' to be asked about the others",
            )
        host = normalise_host(text[2:] if wild else text)
        if wild and host.address is not None:
            raise HostError(f"the host {text[:80]!r} is a '*' before an address", "a name after '*.'")
        if host.name == "localhost" or host.name.endswith(".localhost"):
            raise HostError(
                f"the host {text[:80]!r} stays inside the sandbox",
                next_step="a port of the host's loopback is granted by 'network: ports: [PORT]'",
            )
    except HostError as fault:
        reader.refuse(node, fault.what, fault.expected, next_step=fault.next_step)
        return None
    return f"*.{host}" if wild else host.name


def _key(reader: NodeReader) -> Callable[[Node], str]:
    return lambda item: read_host(reader, item, "an entry of 'remove'") or ""


def _host_entry(reader: NodeReader, node: Node) -> HostEntry | None:
    if not isinstance(node, Mapping):
        host = read_host(reader, node, "an entry of network.hosts")
        entry = None if host is None else HostEntry(host, reader.origin(node))
        return _addressed(reader, node, entry)
    parts = dict(reader.fields(node, "an entry of network.hosts", HOST_KEYS))
    if "host" not in parts:
        reader.refuse(node, "an entry of network.hosts has no 'host'", "{host: …}")
        return None
    host = read_host(reader, parts["host"], "host")
    methods = _methods(reader, parts["methods"]) if "methods" in parts else None
    paths = _globs(reader, parts["paths"]) if "paths" in parts else None
    inspect = reader.word(parts["inspect"], "inspect", INSPECTION) if "inspect" in parts else "auto"
    beside = [name for name in ("methods", "paths", "credential") if name in parts]
    if inspect == "never" and beside:
        reader.refuse(
            parts["inspect"],
            f"inspect is 'never' beside {beside[0]!r}, which cannot be checked without a look",
            "'auto' or 'always'",
        )
    ports = _host_ports(reader, parts["ports"]) if "ports" in parts else DEFAULT_PORTS
    if host is None:
        return None
    entry = HostEntry(
        host,
        reader.origin(parts["host"]),
        ports,
        methods,
        paths,
        inspect or "auto",
        reader.flag(parts["private"], "private") if "private" in parts else False,
        secret_name(reader, parts["credential"], "credential") if "credential" in parts else None,
        reader.reason(parts),
    )
    return _addressed(reader, parts["host"], entry)


def _addressed(reader: NodeReader, node: Node, entry: HostEntry | None) -> HostEntry | None:
    """The entry, when its address (if it is one) may be reached at all and says `private` where it is."""
    if entry is None or not re.fullmatch(r"[0-9.]+", entry.host):
        return entry
    address = ip_address(entry.host)
    why = forbidden(address)
    if address in _LOOPBACK or address in _INSIDE:
        what = "the sandbox's own loopback" if address in _LOOPBACK else "where names resolve to inside"
        reader.refuse(
            node,
            f"the address {entry.host} is {what}",
            next_step="a port of the host's loopback is granted by 'network: ports: [PORT]'",
        )
        return None
    if why is not None and not entry.private:
        reader.refuse(
            node,
            f"the address {entry.host} is {why}",
            "'private: true' beside it, if that is what you mean",
        )
        return None
    return entry


def _host_ports(reader: NodeReader, node: Node) -> tuple[int, ...]:
    found: list[int] = []
    for item in _some(reader, node, "ports"):
        number = reader.integer(item, "an entry of ports", 1, 65535)
        if number == 53:
            reader.refuse(item, "port 53 is where names are resolved", next_step="names need no entry")
        elif number in found:
            reader.refuse(item, f"ports names {number} twice", next_step="keep one of them")
        elif number is not None:
            found.append(number)
    return tuple(found)


def _methods(reader: NodeReader, node: Node) -> tuple[str, ...]:
    found: list[str] = []
    for item in _some(reader, node, "methods"):
        text = reader.text(item, "an entry of methods", "an HTTP method such as GET")
        if text is None:
            continue
        upper = text.upper()
        if not _TOKEN.fullmatch(text):
            reader.refuse(item, f"{text[:80]!r} in methods", "an HTTP method such as GET or POST")
        elif text != upper:
            reader.refuse(
                item, f"the method {text!r}", "capital letters: methods are told apart by case", nearest=upper
            )
        elif text in found:
            reader.refuse(item, f"methods names {text} twice", next_step="keep one of them")
        else:
            found.append(text)
    return tuple(found)


def _globs(reader: NodeReader, node: Node) -> tuple[str, ...]:
    found: list[str] = []
    for item in _some(reader, node, "paths"):
        text = reader.text(item, "an entry of paths", "a path such as '/v1/**'")
        if text is None:
            continue
        try:
            glob = check_glob(text)
        except PathError as fault:
            reader.refuse(item, fault.what, fault.expected, next_step=fault.next_step)
            continue
        if glob in found:
            reader.refuse(item, f"paths names {glob!r} twice", next_step="keep one of them")
        else:
            found.append(glob)
    return tuple(found)


def _some(reader: NodeReader, node: Node, subject: str) -> tuple[Node, ...]:
    items = reader.items(node, subject)
    if not items and not isinstance(node, Scalar | Mapping):
        reader.refuse(
            node, f"{subject} is empty, so nothing would fit", next_step=f"remove {subject!r} for any"
        )
    return items


def secret_name(reader: NodeReader, node: Node, subject: str) -> str | None:
    """The name of a secret."""
    name = reader.text(node, subject, "the name of a secret")
    if name is not None and not SECRET_NAME.fullmatch(name):
        reader.refuse(
            node,
            f"{subject} is {name[:80]!r}",
            "at most 32 lower-case letters, digits, '_' and '-', a letter first",
        )
        return None
    return name


def _budget(reader: NodeReader, node: Node) -> dict[str, Setting[int | None]]:
    bounds: dict[str, Setting[int | None]] = {}
    for key, value in reader.fields(node, "network.budget", BUDGET_KINDS):
        if key == "dollars" and isinstance(value, Scalar) and not value.quoted and value.text != "none":
            # Unquoted, 5.10 and 5.1 are one number to many readers of YAML.
            reader.refuse(
                value,
                f"network.budget.dollars is {value.text[:40] or 'no value'} without quotes",
                next_step=f'write "{value.text[:40] or "5.00"}"',
            )
            continue
        bound = reader.quantity(value, f"network.budget.{key}", BUDGET_KINDS[key])
        if bound is not None:
            bounds[key] = bound
    return bounds


def _upstream(reader: NodeReader, node: Node) -> UpstreamEntry | None:
    parts = dict(reader.fields(node, "an entry of network.upstreams", ("host", "address", "reason")))
    if missing := [name for name in ("host", "address") if name not in parts]:
        if isinstance(node, Mapping):
            reader.refuse(node, f"an upstream has no {missing[0]!r}", "{host: …, address: IP:PORT}")
        return None
    host = read_host(reader, parts["host"], "host")
    expected = "an address and a port such as '127.0.0.1:8443' or '[fd00::1]:443'"
    text = reader.text(parts["address"], "address", expected)
    if text is None or host is None:
        return None
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([1-9][0-9]{0,4})", text)
    try:
        if match is None or int(match.group(3)) > 65535:
            raise ValueError(text)
        address = ip_address(match.group(1) or match.group(2))
        if (address.version == 6) != (match.group(1) is not None):
            raise ValueError(text)
    except ValueError:
        reader.refuse(parts["address"], f"address is {text[:80]!r}", expected)
        return None
    shown = f"[{address}]" if address.version == 6 else str(address)
    assert match is not None
    return UpstreamEntry(
        host, f"{shown}:{match.group(3)}", reader.origin(parts["host"]), reader.reason(parts)
    )


def _proxy(reader: NodeReader, node: Node) -> Setting[str | None] | None:
    if isinstance(node, Scalar) and not node.quoted and node.text in {"", "null"}:
        return Setting(None, reader.origin(node))
    expected = "http://HOST:PORT"
    text = reader.text(node, "network.proxy", expected)
    if text is None:
        return None
    try:
        if not text.startswith("http://"):
            raise HostError(f"network.proxy is {text[:80]!r}", expected)
        if "@" in text:
            raise HostError("network.proxy has a user in it", expected, "a policy is no place for a password")
        host, port = parse_authority(text.removeprefix("http://").removesuffix("/"))
        if port is None:
            raise HostError(f"network.proxy {text[:80]!r} has no port", expected)
    except HostError as fault:
        reader.refuse(node, fault.what, fault.expected, next_step=fault.next_step)
        return None
    return Setting(f"http://{host}:{port}", reader.origin(node))


def read_detect(reader: NodeReader, node: Node) -> Edit[DetectEntry]:
    """The list `detect`: packs by name, and directories of rules."""

    def entry(item: Node, _: str) -> DetectEntry | None:
        name = key(item)
        if not name:
            return None
        return DetectEntry(name, not PACK_NAME.fullmatch(name), reader.origin(item))

    def key(item: Node) -> str:
        text = reader.text(item, "an entry of detect", "a pack's name or a directory such as ./sigma")
        if text is None or text in PACKS:
            return text or ""
        if PACK_NAME.fullmatch(text):
            reader.refuse(
                item,
                f"{text!r} in detect is no pack",
                f"a pack that comes along ({', '.join(PACKS)}), or a directory with a '/' such as ./sigma",
                nearest=nearest_name(text, PACKS),
            )
            return ""
        if "/" not in text and not text.startswith((".", "~")):
            reader.refuse(
                item, f"{text[:80]!r} in detect", "a pack's name, or a directory with a '/' such as ./sigma"
            )
            return ""
        return reader.path(item, "detect", globs=False) or ""

    return reader.edit(node, entry, "detect", key)
