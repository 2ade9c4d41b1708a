"""Two plans → what changed in who may be reached and with what; the part of `diff` about hosts and secrets.

Pure. An entry widens when no single old entry covers all of it. It refuses nothing.

    list(compare_hosts(old, new))[0].what      # 'may send to api.example.org'
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from capsule.policy.grants import covers
from capsule.policy.paths import shown
from capsule.policy.quantities import shown_quantity
from capsule.sandbox.changes import Change, Risk
from capsule.sandbox.plan import Plan, PlanBudget, PlanEgress, PlanHost, PlanSecret
from capsule.sandbox.risks import strangers, writes

_NOTHING = PlanEgress(
    unlisted="deny", hosts=(), budget=PlanBudget(None, None, None, None), upstreams=(), authorities=(), proxy=None,
    secrets=(), rules=(), detect=(),
)  # fmt: skip


def compare_hosts(old: Plan, new: Plan) -> Iterator[Change]:
    """All differences that matter, as found."""
    was, now = old.network, new.network
    if was.mode != now.mode and "open" in {was.mode, now.mode}:
        if now.mode == "open":
            yield Change(
                Risk.CRITICAL, "the host's own network: everything may be reached, unseen", now.origin
            )
            return
        yield Change(Risk.NARROWER, "no longer the host's own network", now.origin)
    if was.mode == "open":
        # From everything, whatever is listed now is less.
        return
    before, after = was.egress or _NOTHING, now.egress or _NOTHING
    yield from _hosts(before, after)
    yield from _secrets(before, after)
    yield from _ways(before, after, hosts_before=bool(before.hosts))


def _hosts(before: PlanEgress, after: PlanEgress) -> Iterator[Change]:
    for entry in after.hosts:
        if not any(_within(entry, other) for other in before.hosts):
            yield Change(_risk(entry), f"may {_deed(entry)}", entry.origin, leads_out=True)
    for entry in before.hosts:
        if not any(_within(entry, other) for other in after.hosts):
            yield Change(Risk.NARROWER, f"may no longer {_deed(entry)}", entry.origin)


def _within(entry: PlanHost, other: PlanHost) -> bool:
    """Whether whatever an entry lets through the other one does too."""
    return (
        covers(other.host, entry.host)
        and set(entry.ports) <= set(other.ports)
        and _narrower(entry.methods, other.methods)
        and _narrower(entry.paths, other.paths)
        and other.private >= entry.private
        and other.credential in {None, entry.credential}
        and not (entry.inspect == "never" and other.inspect != "never")
    )


def _narrower(some: Sequence[str] | None, all_: Sequence[str] | None) -> bool:
    return all_ is None or (some is not None and set(some) <= set(all_))


def _risk(entry: PlanHost) -> Risk:
    if entry.private and (entry.host.startswith("*.") or strangers(entry) is not None):
        return Risk.CRITICAL
    if entry.private or strangers(entry) is not None or writes(entry):
        return Risk.HIGH
    return Risk.MEDIUM


def _deed(entry: PlanHost) -> str:
    words = [f"send to {entry.host}" if writes(entry) else f"read from {entry.host}"]
    if tuple(entry.ports) != (443, 80):
        words.append("port " + ", ".join(map(str, entry.ports)))
    if entry.methods is not None and writes(entry):
        words.append(", ".join(entry.methods))
    if entry.paths is not None:
        words.append(", ".join(entry.paths))
    if entry.credential is not None:
        words.append(f"only as {entry.credential}")
    if entry.private:
        words.append("also at private addresses")
    if entry.inspect == "never":
        words.append("unseen")
    why = strangers(entry)
    return " · ".join(words) + (f" ({why})" if why is not None else "")


def _secrets(before: PlanEgress, after: PlanEgress) -> Iterator[Change]:
    known = {secret.name: secret for secret in before.secrets}
    for secret in after.secrets:
        old = known.pop(secret.name, None)
        fresh = [to for to in secret.to if old is None or not any(covers(other, to) for other in old.to)]
        if old is None or old.source != secret.source:
            risk = Risk.CRITICAL if secret.source.kind == "command" else Risk.HIGH
            verb = "is used" if old is None else "comes from elsewhere"
            yield Change(
                risk,
                f"the secret {secret.name} {verb}: {_source(secret)}, to {', '.join(secret.to)}",
                secret.origin,
            )
        elif fresh:
            yield Change(
                Risk.CRITICAL, f"the secret {secret.name} goes also to {', '.join(fresh)}", secret.origin
            )
        elif (old.carried, old.field) != (secret.carried, secret.field):
            yield Change(
                Risk.MEDIUM, f"the secret {secret.name} is carried as {secret.carried}", secret.origin
            )
        elif set(old.to) != set(secret.to):
            yield Change(Risk.NARROWER, f"the secret {secret.name} goes to fewer hosts", secret.origin)
    for old in known.values():
        yield Change(Risk.NARROWER, f"the secret {old.name} is no longer used", old.origin)


def _source(secret: PlanSecret) -> str:
    source = secret.source
    if source.kind == "command":
        return f"what {' '.join(source.command or ())} prints, run on the host"
    if source.kind == "keyring":
        return f"the keyring's {source.service}"
    return f"the variable {source.env}" if source.kind == "env" else f"the file {shown(source.file or '')}"


def _ways(before: PlanEgress, after: PlanEgress, *, hosts_before: bool) -> Iterator[Change]:
    if before.unlisted != after.unlisted:
        asks = after.unlisted == "ask"
        what = (
            "hosts that are not listed are asked about" if asks else "hosts that are not listed are refused"
        )
        yield Change(Risk.MEDIUM if asks else Risk.NARROWER, what)
    if before.proxy != after.proxy:
        if after.proxy is not None:
            yield Change(Risk.HIGH, f"everything goes out through {after.proxy}")
        else:
            yield Change(Risk.LOW, f"nothing goes out through {before.proxy} any more")
    yield from _named(
        {grant.path: grant for grant in before.authorities},
        {grant.path: grant for grant in after.authorities},
        ("trusts the authorities of {}", Risk.HIGH),
        ("no longer trusts the authorities of {}", Risk.NARROWER),
    )
    yield from _named(
        {f"{upstream.host} → {upstream.address}": upstream for upstream in before.upstreams},
        {f"{upstream.host} → {upstream.address}": upstream for upstream in after.upstreams},
        ("{}, whatever the name resolves to", Risk.HIGH),
        ("no longer {}", Risk.LOW),
    )
    yield from _named(
        {rule.path: rule for rule in before.rules},
        {rule.path: rule for rule in after.rules},
        ("the rules of {} decide", Risk.NARROWER),
        ("the rules of {} no longer decide", Risk.HIGH),
    )
    yield from _named(
        {detection.pack or detection.path or "": detection for detection in before.detect},
        {detection.pack or detection.path or "": detection for detection in after.detect},
        ("the detection {} looks on", Risk.NARROWER),
        ("the detection {} no longer looks on", Risk.HIGH),
    )
    for name, kind in (
        ("requests", "count"),
        ("bytes", "size"),
        ("tokens", "count"),
        ("microdollars", "money"),
    ):
        was, now = getattr(before.budget, name), getattr(after.budget, name)
        if was == now:
            continue
        wider = (now is None or (was is not None and now > was)) and hosts_before
        risk = Risk.NARROWER if not wider else Risk.MEDIUM if now is None else Risk.LOW
        what = "dollars" if name == "microdollars" else name
        yield Change(risk, f"budget of {what}: {shown_quantity(was, kind)} → {shown_quantity(now, kind)}")


def _named(
    before: dict[str, Any], after: dict[str, Any], come: tuple[str, Risk], gone: tuple[str, Risk]
) -> Iterator[Change]:
    for name in sorted(after.keys() - before.keys()):
        yield Change(come[1], come[0].format(shown(name)), after[name].origin)
    for name in sorted(before.keys() - after.keys()):
        yield Change(gone[1], gone[0].format(shown(name)), before[name].origin)
