"""Secrets of one session: a placeholder becomes the value on its way to the right host, at the right place, over TLS.

Pure; times are milliseconds since the epoch. Everything is decided before anything is replaced: a placeholder at any
other place, in any spelling, is a `Sighting` and the request goes nowhere (`by: secret`). Refuses values that would end
a header line, and never shows a value: not in a repr, not in an error.

    secrets = Secrets([SecretSpec("github", ("api.forge.example",), "header", field="authorization")])
    secrets.put("github", value="ghp_…", placeholder="capsule-secret-github-…", expires=None)
    filled = secrets.fill(Outgoing("GET", "api.forge.example", True, b"/user", headers), now_ms)
    filled.elsewhere or filled.expired or send(filled.target, filled.headers)
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from capsule.egress.echoes import SHORTEST, Echo, Echoes
from capsule.egress.placeholders import Placeholders, Scanner, percent_decoded

Place = Literal["header", "basic", "query", "body"]
Headers = Sequence[tuple[bytes, bytes]]
BODY = 1 << 20
"""The largest body that a secret is put into."""
PAST = 3
"""Values of a secret that was renewed which may still come back."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
BASIC = re.compile(rb"(basic +)([A-Za-z0-9+/]+=*) *", re.IGNORECASE)


class SecretError(ValueError):
    """A secret cannot be used; the text never holds its value."""


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """What the policy says of one secret.

    Attributes:
        name: its name.
        to: host names, `*.suffix`, IPv4 addresses.
        place: the policy's `as`.
        field: of `header` and `query`.
        user: of `basic`; None for any.
    """

    name: str
    to: tuple[str, ...]
    place: Place
    field: str | None = None
    user: str | None = None

    def covers(self, host: str) -> bool:
        """Whether the host (lower case) is one that this secret is for."""
        return any(host.endswith(to[1:]) if to.startswith("*.") else host == to for to in self.to)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A placeholder where it must not be.

    Attributes:
        name: the secret's.
        where: `method`, `path`, `query`, `header x-token`, `header name`, `body`.
        reason: one clause.
    """

    name: str
    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request's head as the program sent it.

    Attributes:
        method: as sent.
        host: the host that was decided, lower case.
        encrypted: whether it goes out over TLS.
        target: path and query.
        headers: in order; names in any case.
    """

    method: str
    host: str
    encrypted: bool
    target: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class Filled:
    """The head with values in place of placeholders; as it was when `elsewhere` or `expired` is not empty.

    Attributes:
        target: path and query.
        headers: in order.
        used: names of the secrets in it.
        elsewhere: why it must not be sent.
        expired: fresh values are needed first.
    """

    target: bytes = field(repr=False)
    headers: Headers = field(repr=False)
    used: tuple[str, ...]
    elsewhere: tuple[Sighting, ...]
    expired: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FilledBody:
    """As `Filled`, of a whole body."""

    body: bytes = field(repr=False)
    used: tuple[str, ...]
    elsewhere: tuple[Sighting, ...]
    expired: tuple[str, ...]


class _Value:
    """A value that cannot be shown or stored by accident."""

    __slots__ = ("expires_ms", "placeholder", "reveal")

    def __init__(self, value: bytes, placeholder: bytes, expires_ms: int | None) -> None:
        self.reveal: Callable[[], bytes] = lambda: value
        self.placeholder = placeholder
        self.expires_ms = expires_ms

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> str:
        raise TypeError("a secret's value is not stored")


class Secrets:
    """All secrets of one session; nothing of another one's."""

    def __init__(self, specs: Iterable[SecretSpec]) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._values: dict[str, _Value] = {}
        self._past: dict[str, list[_Value]] = {}
        self._echoes: dict[tuple[str, bool], Echoes] = {}
        self._all: Echoes | None = None
        self.placeholders = Placeholders({})

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self._specs)})"

    def put(self, name: str, *, value: str, placeholder: str, expires: str | None) -> None:
        """A value arrives, the first or a fresh one.

        Args:
            name: of the policy.
            value: text without control characters.
            placeholder: what stands for it inside.
            expires: RFC 3339; None: it does not.

        Raises:
            SecretError: a name that the policy does not have, or a value or placeholder that cannot be used.
        """
        if name not in self._specs:
            raise SecretError(f"the policy has no secret {name!r}")
        encoded = _encoded(value)
        if encoded is None:
            raise SecretError(
                f"the value of secret {name!r} is empty, is not text, or has a line break or another control character"
            )
        known = {other: held.placeholder.decode() for other, held in self._values.items()}
        try:
            self.placeholders = Placeholders({**known, name: placeholder})
        except ValueError as error:
            raise SecretError(str(error)) from None
        before = self._values.get(name)
        self._values[name] = _Value(encoded, placeholder.encode(), _milliseconds(name, expires))
        self._echoes.clear()
        self._all = None
        if before is not None and before.reveal() != encoded:
            self._past[name] = [before, *self._past.get(name, ())][:PAST]

    def scanner(self) -> Scanner:
        """For a body that no secret may be in."""
        return self.placeholders.scanner()

    def wants_body(self, host: str) -> bool:
        """Whether a secret may have to be put into bodies toward this host: then at most `BODY` bytes are held back."""
        return any(spec.place == "body" and spec.covers(host) for spec in self._specs.values())

    def fill(self, untrusted: Outgoing, now_ms: int) -> Filled:
        """The head with values, or what is wrong with it."""
        work = _Work(self, untrusted.host, untrusted.encrypted, now_ms)
        work.refuse_all("host", untrusted.host.encode("utf-8", "surrogateescape"))
        work.refuse_all("method", untrusted.method.encode("utf-8", "surrogateescape"))
        path, mark, query = untrusted.target.partition(b"?")
        work.refuse_all("path", path)
        target = path + mark + work.query(query)
        headers = [(name, work.header(name, value)) for name, value in untrusted.headers]
        if work.elsewhere or work.expired:
            target, headers = untrusted.target, list(untrusted.headers)
            work.used.clear()
        return Filled(target, headers, *work.outcome())

    def fill_body(
        self, untrusted_body: bytes, content_type: str, *, host: str, encrypted: bool, now_ms: int
    ) -> FilledBody:
        """A whole body with values; at most `BODY` bytes.

        Raises:
            SecretError: it is longer.
        """
        if len(untrusted_body) > BODY:
            raise SecretError(f"a body of {len(untrusted_body)} bytes; secrets are put into at most {BODY}")
        work = _Work(self, host, encrypted, now_ms)
        body = work.body(untrusted_body, content_type)
        if work.elsewhere or work.expired:
            body = untrusted_body
            work.used.clear()
        return FilledBody(body, *work.outcome())

    def placeholder(self, name: str) -> bytes | None:
        """What stands for a secret; None while it has no value."""
        held = self._values.get(name)
        return held.placeholder if held is not None else None

    def spec(self, name: str) -> SecretSpec | None:
        """What the policy says of a secret."""
        return self._specs.get(name)

    def echoes(self, host: str) -> Echoes:
        """What may come back from a host: the values of the secrets that are for it, and what they were before."""
        return self._echoes_of(host, lower=False)

    def lower_echoes(self, host: str) -> Echoes:
        """The same in lower case, for names of headers."""
        return self._echoes_of(host, lower=True)

    def _echoes_of(self, host: str, *, lower: bool) -> Echoes:
        known = self._echoes.get((host, lower))
        if known is None:
            specs = [spec for spec in self._specs.values() if spec.covers(host)]
            known = self._echoes[host, lower] = Echoes(self._known(specs, lower=lower))
        return known

    def _known(self, specs: Iterable[SecretSpec], *, lower: bool = False) -> Iterator[Echo]:
        for spec in specs:
            for held in (self._values.get(spec.name), *self._past.get(spec.name, ())):
                if held is not None:
                    value = held.reveal().lower() if lower else held.reveal()
                    yield Echo(value, held.placeholder, spec.user)

    def mask(self, text: bytes) -> bytes:
        """The text with placeholders in place of values, however they are spelled: for records and errors."""
        if self._all is None:
            self._all = Echoes(self._known(self._specs.values()))
        text, _ = self._all.replace(text)
        for held in self._values.values():
            if len(value := held.reveal()) < SHORTEST:
                text = text.replace(value, held.placeholder)
        return text


class _Work:
    """One message: what was replaced, and what was seen elsewhere."""

    def __init__(self, secrets: Secrets, host: str, encrypted: bool, now_ms: int) -> None:
        self._placeholders = secrets.placeholders
        self._specs, self._values = secrets._specs, secrets._values
        self._host, self._encrypted, self._now_ms = host, encrypted, now_ms
        self.used: dict[str, None] = {}
        self.expired: dict[str, None] = {}
        self.elsewhere: list[Sighting] = []

    def outcome(self) -> tuple[tuple[str, ...], tuple[Sighting, ...], tuple[str, ...]]:
        return tuple(self.used), tuple(self.elsewhere), tuple(self.expired)

    def refuse_all(self, where: str, data: bytes) -> None:
        self.elsewhere += [
            Sighting(name, where, self._why(name)) for name in sorted(self._placeholders.seen(data))
        ]

    def query(self, query: bytes) -> bytes:
        if not self._placeholders.seen(query):
            return query
        return b"&".join(self._parameter(part) for part in query.split(b"&"))

    def _parameter(self, part: bytes) -> bytes:
        name, mark, value = part.partition(b"=")
        self.refuse_all("query", name)
        decoded = percent_decoded(name.replace(b"+", b" ")).decode("utf-8", "replace")
        wanted = self._wanted("query", lambda spec: spec.field == decoded)
        return name + mark + self._replace("query", value, wanted, _percent)

    def header(self, name: bytes, value: bytes) -> bytes:
        self.refuse_all("header name", name)
        if not self._placeholders.seen(value):
            return value
        lower = name.decode("latin-1").lower()
        basic = BASIC.fullmatch(value) if lower == "authorization" else None
        if basic is not None:
            return self._basic(basic, value)
        wanted = self._wanted("header", lambda spec: (spec.field or "").lower() == lower)
        return self._replace(f"header {lower}", value, wanted, bytes)

    def _basic(self, found: re.Match[bytes], value: bytes) -> bytes:
        where = "header authorization"
        try:
            user, colon, password = base64.b64decode(found[2], validate=True).partition(b":")
        except binascii.Error:
            self.refuse_all(where, value)
            return value
        wanted = self._wanted("basic", lambda spec: spec.user is None or spec.user.encode() == user)
        as_user = {name for name in wanted if b":" not in self._values[name].reveal()}
        user = self._replace(where, user, as_user, bytes)
        password = self._replace(where, password, wanted, bytes)
        return found[1] + base64.b64encode(user + colon + password)

    def body(self, body: bytes, content_type: str) -> bytes:
        if not self._placeholders.seen(body):
            return body
        kind = content_type.partition(";")[0].strip().lower()
        wanted = self._wanted("body", lambda _: True)
        if kind == "application/x-www-form-urlencoded":
            return b"&".join(self._form_field(part, wanted) for part in body.split(b"&"))
        if (kind == "application/json" or kind.endswith("+json")) and _is_json(body):
            return self._replace("body", body, wanted, _json)
        self.refuse_all("body", body)
        return body

    def _form_field(self, part: bytes, wanted: set[str]) -> bytes:
        name, mark, value = part.partition(b"=")
        self.refuse_all("body", name)
        return name + mark + self._replace("body", value, wanted, _percent)

    def _wanted(self, place: Place, fits: Callable[[SecretSpec], bool]) -> set[str]:
        """The secrets that may stand at this place of this message."""
        return {
            name
            for name, spec in self._specs.items()
            if name in self._values
            and spec.place == place
            and self._encrypted
            and spec.covers(self._host)
            and fits(spec)
        }

    def _replace(self, where: str, data: bytes, wanted: set[str], spell: Callable[[bytes], bytes]) -> bytes:
        """The data with the wanted ones replaced, each once: a value that looks like a placeholder stays a value."""
        pattern = self._placeholders.pattern
        if pattern is None:
            return data

        def value(found: re.Match[bytes]) -> bytes:
            name = self._placeholders.name(found[0])
            if name not in wanted:
                return found[0]
            held = self._values[name]
            if held.expires_ms is not None and held.expires_ms <= self._now_ms:
                self.expired[name] = None
                return found[0]
            self.used[name] = None
            return spell(held.reveal())

        def gap(found: re.Match[bytes]) -> bytes:
            return b"\0" if self._placeholders.name(found[0]) in wanted else found[0]

        self.refuse_all(
            where, pattern.sub(gap, data)
        )  # what is left, without values that may look like anything
        return pattern.sub(value, data)

    def _why(self, name: str) -> str:
        spec = self._specs[name]
        if not spec.covers(self._host):
            return f"secret {name} is for {', '.join(spec.to)}, not for {self._host}"
        if not self._encrypted:
            return f"secret {name} goes out over TLS only"
        place = f"{spec.place} {spec.field}" if spec.field else spec.place
        user = f" of user {spec.user}" if spec.user else ""
        return f"secret {name} belongs in {place}{user} only, spelled as it is"


def _encoded(value: str) -> bytes | None:
    try:
        return value.encode() if value and not _CONTROLS.search(value) else None
    except UnicodeEncodeError:  # not raised on: it holds the value
        return None


def _milliseconds(name: str, expires: str | None) -> int | None:
    if expires is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(expires)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise SecretError(f"when secret {name!r} expires is not a time of RFC 3339: {expires[:40]!r}")
    return int(moment.timestamp() * 1000)


def _percent(value: bytes) -> bytes:
    return b"".join(bytes([byte]) if byte in _UNRESERVED else b"%%%02X" % byte for byte in value)


def _json(value: bytes) -> bytes:
    return json.dumps(value.decode()).encode()[1:-1]


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True
