"""What a policy says about hosts, secrets, rules and detection → `network.mode` and `network.egress` of its plan.

Pure. What it refuses, with the line: secrets that go where no host entry leads, or where nothing is looked at;
credentials that are no secret of that host; two secrets in one variable; hosts beside `mode: open`, which would not be
enforced.

    compile_hosts(policy).mode            # 'hosts'
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from capsule.errors import PolicyError, Problem, nearest_name
from capsule.policy.beside import beside_detections, beside_paths
from capsule.policy.grants import covers
from capsule.policy.model import DEFAULT_PORTS, HostEntry, Keyed, Origin, PathEntry, Policy, SecretEntry
from capsule.sandbox.plan import (
    PlanBudget,
    PlanDetection,
    PlanEgress,
    PlanGrant,
    PlanHost,
    PlanOrigin,
    PlanPattern,
    PlanRuleFile,
    PlanSecret,
    PlanSecretFrom,
    PlanUpstream,
)

MAX_PORTS = 240
"""Different ports of one policy: each is a listener, and all of them are handed over at once."""

K = TypeVar("K", bound=Keyed)


@dataclass(frozen=True, slots=True)
class CompiledHosts:
    """The mode, what goes with it, and what the command may not touch because egress relies on it.

    Attributes:
        mode: of the plan.
        egress: None unless the mode is `hosts`.
        protect: rules, detection, authorities and programs that print secrets.
        deny: files that hold secrets.
    """

    mode: Literal["none", "hosts", "open"]
    egress: PlanEgress | None = None
    protect: tuple[PlanPattern, ...] = ()
    deny: tuple[PlanPattern, ...] = ()


def compile_hosts(policy: Policy) -> CompiledHosts:
    """The network of a resolved policy, as far as it is about hosts.

    Raises:
        PolicyError: when its parts do not fit together.
    """
    sections = policy.sections
    network = sections.network
    mode = network.mode.value if network.mode is not None else "none"
    asks = network.unlisted is not None and network.unlisted.value == "ask"
    closed = (
        network.mode is not None and mode == "none" and not network.mode.origin.file.startswith("preset:")
    )
    hosts = _alternatives(network.hosts.add)
    secrets = _last(sections.secrets.add)
    problems: list[Problem] = []
    if mode == "open":
        for what, entries in (("host entry", hosts), ("secret", secrets), ("rule file", sections.rules.add)):
            problems += [
                _problem(
                    entry.origin,
                    f"this {what} would not be enforced: network.mode is 'open' ({_place(network.mode)})",
                    next_step="write 'network: mode: hosts'",
                )
                for entry in entries[:1]
            ]
        if problems:
            raise PolicyError(problems)
        return CompiledHosts("open")
    # Rules and detection look at what the command does, also where no host is listed.
    wanted = (
        bool(hosts or sections.rules.add or sections.detect.add) or mode == "hosts" or (asks and not closed)
    )
    if not wanted and closed:
        return CompiledHosts("none")
    problems += _ports(hosts, asks=asks)
    problems += _never(hosts)
    for secret in secrets:
        problems += _secret(secret, hosts, policy)
    problems += _variables(secrets)
    problems += _credentials(hosts, secrets)
    if problems:
        raise PolicyError(problems)
    if not wanted:
        return CompiledHosts("none")
    bounds = {name: setting.value for name, setting in network.budget.items()}
    rules = _last(beside_paths(policy, sections.rules.add))
    detections = _last(beside_detections(policy, sections.detect.add))
    authorities = _last(beside_paths(policy, network.authorities.add))
    egress = PlanEgress(
        unlisted="ask" if asks else "deny",
        hosts=tuple(_host(entry) for entry in hosts),
        budget=PlanBudget(
            bounds.get("requests"), bounds.get("bytes"), bounds.get("tokens"), bounds.get("dollars")
        ),
        upstreams=tuple(
            PlanUpstream(entry.host, entry.address, _origin(entry.origin))
            for entry in _last(network.upstreams.add)
        ),
        authorities=tuple(
            PlanGrant(entry.path, entry.optional, _origin(entry.origin)) for entry in authorities
        ),
        proxy=network.proxy.value if network.proxy is not None else None,
        secrets=tuple(_plan_secret(secret) for secret in secrets),
        rules=tuple(PlanRuleFile(entry.path, _origin(entry.origin)) for entry in rules),
        detect=tuple(
            PlanDetection(
                None if entry.is_path else entry.name,
                entry.name if entry.is_path else None,
                _origin(entry.origin),
            )
            for entry in detections
        ),
    )
    return CompiledHosts(
        "hosts",
        egress,
        (
            *_patterns([*rules, *authorities]),
            *(PlanPattern(entry.name, _origin(entry.origin)) for entry in detections if entry.is_path),
            *(
                PlanPattern(secret.source.command[0], _origin(secret.origin))
                for secret in secrets
                if secret.source.command is not None
            ),
        ),
        tuple(
            PlanPattern(secret.source.file, _origin(secret.origin))
            for secret in secrets
            if secret.source.file is not None
        ),
    )


def relied_on(egress: PlanEgress | None) -> dict[tuple[str, PlanOrigin], str]:
    """The section of each line of `deny` and `protect` that only keeps from the command what egress relies on."""
    if egress is None:
        return {}
    found = {(grant.path, grant.origin): "network: authorities" for grant in egress.authorities}
    found |= {(one.path, one.origin): "detect" for one in egress.detect if one.path is not None}
    for secret in egress.secrets:
        source = secret.source
        for path in (source.file, source.command[0] if source.command else None):
            if path is not None:
                found[path, secret.origin] = "secrets"
    return found | {(rule.path, rule.origin): "rules" for rule in egress.rules}


def _origin(origin: Origin) -> PlanOrigin:
    return PlanOrigin(origin.file, origin.line, origin.column)


def _problem(
    origin: Origin, what: str, expected: str = "", nearest: str | None = None, next_step: str = ""
) -> Problem:
    return Problem(origin.file, origin.line, origin.column, what, expected, nearest, next_step)


def _place(setting: Any) -> str:
    return str(setting.origin) if setting is not None else "by default"


def _patterns(entries: Iterable[PathEntry]) -> list[PlanPattern]:
    return [PlanPattern(entry.path, _origin(entry.origin)) for entry in entries]


def _last(entries: tuple[K, ...]) -> list[K]:
    """One entry of a name, the one written last."""
    return list({entry.key: entry for entry in entries}.values())


def _alternatives(entries: tuple[HostEntry, ...]) -> list[HostEntry]:
    """Entries that say the same count once, at their last line."""
    found: dict[object, HostEntry] = {}
    for entry in entries:
        key = (
            entry.host, entry.ports, entry.methods, entry.paths, entry.inspect, entry.private, entry.credential,
        )  # fmt: skip
        found.pop(key, None)
        found[key] = entry
    return list(found.values())


def _host(entry: HostEntry) -> PlanHost:
    return PlanHost(
        entry.host,
        entry.ports,
        entry.methods,
        entry.paths,
        cast(Any, entry.inspect),
        entry.private,
        entry.credential,
        _origin(entry.origin),
    )


def _plan_secret(secret: SecretEntry) -> PlanSecret:
    source = secret.source
    return PlanSecret(
        name=secret.name,
        source=PlanSecretFrom(
            cast(Any, source.kind),
            source.env,
            source.file,
            source.service,
            source.user,
            source.command,
            source.expires,
        ),
        to=secret.to,
        carried=cast(Any, secret.carried),
        field=secret.field,
        user=secret.user,
        env=secret.env,
        origin=_origin(secret.origin),
    )


def _ports(hosts: list[HostEntry], *, asks: bool) -> list[Problem]:
    # A host that is asked about is reached by HTTP.
    seen = set(DEFAULT_PORTS) if asks else set()
    for entry in hosts:
        seen.update(entry.ports)
        if len(seen) > MAX_PORTS:
            return [_problem(entry.origin, f"the host entries name more than {MAX_PORTS} different ports")]
    return []


def _never(hosts: list[HostEntry]) -> list[Problem]:
    """`inspect: never` and an alternative that takes a look cannot both hold."""
    problems = []
    for closed in (entry for entry in hosts if entry.inspect == "never"):
        for other in hosts:
            looks = other.inspect == "always" or any(
                bound is not None for bound in (other.methods, other.paths, other.credential)
            )
            if looks and other.host == closed.host and set(other.ports) & set(closed.ports):
                problems.append(
                    _problem(
                        closed.origin,
                        f"{closed.host} is never inspected here, but another entry of it ({other.origin}) needs a look",
                        next_step="give them different ports, or remove one",
                    )
                )
                break
    return problems


def _nearest(hosts: list[HostEntry], name: str) -> list[HostEntry]:
    """The entries of the most specific host that covers a name or `*.suffix`."""
    found = [entry for entry in hosts if covers(entry.host, name)]
    if not found:
        return []
    best = max(found, key=lambda entry: (not entry.host.startswith("*."), len(entry.host))).host
    return [entry for entry in found if entry.host == best]


def _secret(secret: SecretEntry, hosts: list[HostEntry], policy: Policy) -> list[Problem]:
    problems = []
    for to in secret.to:
        nearest = _nearest(hosts, to)
        if not nearest:
            problems.append(
                _problem(
                    secret.origin,
                    f"the secret {secret.name!r} goes to {to}, which no entry of network.hosts covers",
                    next_step=f'add it: network: hosts: ["{to}"]',
                )
            )
            continue
        for entry in [*nearest, *(entry for entry in hosts if covers(to, entry.host))]:
            if entry.inspect == "never":
                problems.append(
                    _problem(
                        secret.origin,
                        f"the secret {secret.name!r} goes to {entry.host}, which is never inspected ({entry.origin})",
                        next_step="a secret is put in by looking at the request: write 'inspect: auto' there",
                    )
                )
                break
    if secret.env in policy.sections.environment.set:
        at = policy.sections.environment.set[secret.env].origin
        problems.append(
            _problem(
                secret.origin,
                f"the variable {secret.env} is to hold the placeholder of {secret.name!r}, but env.set sets it ({at})",
                next_step=f"remove it there, or take it back: env: set: {{{secret.env}: null}}",
            )
        )
    return problems


def _variables(secrets: list[SecretEntry]) -> list[Problem]:
    problems = []
    holders: dict[str, SecretEntry] = {}
    for secret in secrets:
        other = holders.setdefault(secret.env, secret)
        if other is not secret:
            problems.append(
                _problem(
                    secret.origin,
                    f"the variable {secret.env} is to hold the placeholders of {other.name!r} and {secret.name!r}",
                    next_step="give each secret a variable of its own",
                )
            )
    return problems


def _credentials(hosts: list[HostEntry], secrets: list[SecretEntry]) -> list[Problem]:
    problems = []
    names = {secret.name: secret for secret in secrets}
    for entry in hosts:
        if entry.credential is None:
            continue
        secret = names.get(entry.credential)
        if secret is None:
            problems.append(
                _problem(
                    entry.origin,
                    f"the credential {entry.credential!r} of {entry.host} is no secret of this policy",
                    "a name from 'secrets'",
                    nearest_name(entry.credential, names),
                    "" if names else "add it under 'secrets'",
                )
            )
        elif not any(covers(to, entry.host) for to in secret.to):
            problems.append(
                _problem(
                    entry.origin,
                    f"the credential {entry.credential!r} does not go to {entry.host}",
                    next_step=f"add it to the secret's 'to' ({secret.origin})",
                )
            )
    return problems
