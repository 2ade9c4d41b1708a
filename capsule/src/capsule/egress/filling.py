"""Secrets of a request on its way out: the values go in last, when everything else is decided.

Refuses a placeholder anywhere but in its place toward its host over TLS, a request without the credential that its
host entry binds it to, and a secret that expired and is not renewed within `RENEWAL`. What is recorded was taken
before, so it holds placeholders.

    verdict = filling.fill(flow.request, entry, body)       # None: filled; a Verdict: refused; names: expired
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from capsule.egress.credential import foreign
from capsule.egress.secrets import BODY, Outgoing, Secrets, SecretSpec, Sighting
from capsule.egress.verdict import Verdict

if TYPE_CHECKING:
    from mitmproxy.http import Request

    from capsule.egress.echoes import Echoes
    from capsule.egress.frames import Host, SecretPlan, SecretValue
    from capsule.egress.placeholders import Scanner
    from capsule.egress.story import Place

RENEWAL = 30.0
"""Seconds that a fresh value is waited for."""


class Vault:
    """The secrets of one session, and the asking for fresh ones."""

    def __init__(
        self, plans: Iterable[SecretPlan], values: dict[str, SecretValue], ask: Callable[[str], None]
    ) -> None:
        self.secrets = Secrets(
            SecretSpec(plan.name, plan.to, plan.as_, plan.field, plan.user) for plan in plans
        )
        self._placeholders = {name: value.placeholder for name, value in values.items()}
        for name, value in values.items():
            self.secrets.put(name, value=value.value, placeholder=value.placeholder, expires=value.expires)
        self._ask = ask
        self._waiting: dict[str, asyncio.Event] = {}

    def renew(self, name: str, value: str, expires: str | None) -> None:
        """A fresh value came.

        Raises:
            SecretError: nobody knows the name, or the value cannot be used.
        """
        placeholder = self._placeholders.get(name, "")
        self.secrets.put(name, value=value, placeholder=placeholder, expires=expires)
        waiting = self._waiting.pop(name, None)
        if waiting is not None:
            waiting.set()

    async def fresh(self, names: Iterable[str]) -> bool:
        """Asks for fresh values, once a name, and waits; whether they came."""
        events = []
        for name in names:
            if name not in self._waiting:
                self._waiting[name] = asyncio.Event()
                self._ask(name)
            events.append(self._waiting[name])
        try:
            async with asyncio.timeout(RENEWAL):
                for event in events:
                    await event.wait()
        except TimeoutError:
            for name in names:
                self._waiting.pop(name, None)
            return False
        return True


class Filling:
    """The secrets of one connection's requests."""

    def __init__(self, vault: Vault, place: Place) -> None:
        self._vault = vault
        self._place = place

    def wants_body(self, entry: Host | None) -> bool:
        """Whether a secret may have to go into the body."""
        return self._vault.secrets.wants_body(self._place.name) and (
            entry is None or entry.inspect != "never"
        )

    def echoes(self) -> Echoes:
        """Values that the host may send back."""
        return self._vault.secrets.echoes(self._place.name)

    def scanner(self) -> Scanner:
        """Looks for placeholders in a body that nothing goes into."""
        return self._vault.secrets.scanner()

    async def fresh(self, names: Iterable[str]) -> bool:
        """As the vault's."""
        return await self._vault.fresh(names)

    def carried(self, request: Request) -> list[str]:
        """The names of the secrets whose placeholders stand in the request's head."""
        return sorted(self._vault.secrets.placeholders.seen(_head(request)))

    def fill(
        self, request: Request, entry: Host | None, body: bytes | None
    ) -> Verdict | tuple[str, ...] | None:
        """Puts values in; a verdict when it must not go, names when they expired, None when it is done."""
        secrets, place = self._vault.secrets, self._place
        now_ms = time.time_ns() // 1_000_000
        headers = request.headers.fields
        # As it was sent: `request.method` has it in capitals.
        method = request.data.method.decode("utf-8", "surrogateescape")
        outgoing = Outgoing(method, place.name, place.hello is not None, request.data.path, headers)
        credential = entry.credential if entry is not None else None
        if credential is not None and (why := foreign(secrets, credential, outgoing)) is not None:
            allow = "use the credential that the policy gives; it is in the environment as a placeholder"
            return Verdict("block", "secret", f"foreign credential: {why}", allow=allow)
        if strangers := secrets.placeholders.strangers(_head(request)):
            names = ", ".join(sorted(strangers))
            reason = f"foreign placeholder: that of {names} in the head is of another run, and stands for nothing here"
            return Verdict("block", "secret", reason, allow="use the one in this run's environment")
        head = secrets.fill(outgoing, now_ms)
        if head.elsewhere:
            return _elsewhere(head.elsewhere)
        whole = body if body is not None and len(body) <= BODY else b""
        filled = secrets.fill_body(
            whole,
            request.headers.get("content-type", ""),
            host=place.name,
            encrypted=place.hello is not None,
            now_ms=now_ms,
        )
        if filled.elsewhere:
            return _elsewhere(filled.elsewhere)
        if expired := {*head.expired, *filled.expired}:
            return tuple(sorted(expired))
        spec = secrets.spec(credential) if credential is not None else None
        if spec is not None and spec.place == "body" and spec.name not in filled.used:
            return Verdict(
                "block", "secret", f"foreign credential: the body does not carry secret {spec.name}"
            )
        request.data.path = head.target
        request.headers.fields = tuple(head.headers)
        if filled.used:
            request.raw_content = filled.body
            if "content-length" in request.headers:
                request.headers["content-length"] = str(len(filled.body))
        self.used = tuple(dict.fromkeys((*head.used, *filled.used)))
        return None

    used: tuple[str, ...] = ()


def _head(request: Request) -> bytes:
    """What a program says in a target and in fields."""
    return b"\n".join((request.data.path, *(value for _, value in request.headers.fields)))


def _elsewhere(sightings: tuple[Sighting, ...]) -> Verdict:
    first = sightings[0]
    return Verdict(
        "block",
        "secret",
        f"secret elsewhere: the placeholder of {first.name} stands in the {first.where}; {first.reason}",
        allow="send it only where the policy's `secrets` say",
    )
