"""What would happen to one request: which host entry and which rule decide, whether it is looked at, which secrets go.

For `capsule policy explain --url`. Nothing is sent or resolved: where a name leads is decided in the run, when its
addresses are known. What the question does not say (headers, the body) is missing to rules, and is named.

    explain_url(access, rules_of(access), parse_request("https://a.example/")).outcome      # 'allowed'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from capsule.cli import terminal
from capsule.cli.files import load_source
from capsule.policy.addresses import forbidden, normalise_host
from capsule.policy.grants import Refusal
from capsule.policy.model import DEFAULT_PORTS
from capsule.policy.request import Request
from capsule.policy.urlpath import certain_path, normalised
from capsule.rules.deciders import EGRESS, refuse_undecided
from capsule.rules.decision import UNDECIDED
from capsule.rules.decision import Decision as RuleDecision
from capsule.rules.engine import RuleSet, compile_rules
from capsule.rules.rule import parse_rules
from capsule.sandbox.access import Access, Decision
from capsule.sandbox.plan import PlanSecret

NOT_LOOKED_AT = (
    "no, only the server's name is checked: no request and no call of a model is on record "
    "('inspect: always' has both)"
)


@dataclass(frozen=True, slots=True)
class UrlAnswer:
    """What decides about one request.

    Attributes:
        request: what was asked about.
        grant: the host entry's word.
        ruled: what the rules say; `undecided` when none does.
        unlisted: no entry covers the host, and `unlisted: ask` has a person asked.
        inspected: whether the request is looked at; else only the server's name is.
        secrets: what would be put in, if the request carried its placeholder.
        private: whether addresses that are not public are dialled.
        credential: the secret that the request must carry.
        address: why a host that is an address is not dialled.
    """

    request: Request
    grant: Decision
    ruled: RuleDecision
    unlisted: bool = False
    inspected: bool = False
    secrets: tuple[PlanSecret, ...] = ()
    private: bool = False
    credential: str | None = None
    address: str | None = None

    @property
    def outcome(self) -> str:
        """`allowed`, `asked` or `denied`."""
        if self.ruled.action == "block" or self.address is not None:
            return "denied"
        if not self.grant.granted and not self.unlisted:
            return "denied"
        # A host that is not listed is not reached by a rule's word.
        if self.ruled.action == "ask" or (self.unlisted and not self.grant.granted):
            return "asked"
        return "allowed"

    def record(self) -> dict[str, Any]:
        """For programs."""
        ruled = self.ruled
        return {
            "asked": f"request {self.request.text}",
            **terminal.decision_json(self.grant),
            "allowed": self.outcome == "allowed",
            "outcome": self.outcome,
            "unlisted": self.unlisted,
            "inspected": self.inspected,
            "secrets": [
                {"name": secret.name, "as": secret.carried, "field": secret.field, "line": secret.origin.line}
                for secret in self.secrets
            ],
            "private": self.private,
            "credential": self.credential,
            "address": self.address,
            "decided": None if ruled.action == "undecided" else ruled.record(),
        }

    def say(self) -> None:
        """For a person."""
        terminal.say(f"request {self.request.text}: {self.outcome}")
        terminal.say_decision(self.grant)
        if self.unlisted:
            terminal.say("  no entry lists this host: a person is asked (network: unlisted: ask)")
        if self.address is not None:
            terminal.say(f"  the address is {self.address}: it needs 'private: true'")
        ruled = self.ruled
        if ruled.action != "undecided":
            verb = {"allow": "allows", "ask": "asks", "block": "blocks"}[ruled.action]
            which = f"rule {ruled.rule.id}" if ruled.rule is not None else "the rules"
            place = f" ({terminal.near(ruled.rule.file)}:{ruled.rule.line})" if ruled.rule is not None else ""
            reason = " ".join((ruled.reason or "").split())
            terminal.say(f"  {which}{place} {verb}{f': {reason}' if reason else ''}")
            if ruled.missing:
                terminal.say(f"    it reads what this URL does not say for sure: {', '.join(ruled.missing)}")
            if ruled.pending:
                terminal.say("    it reads the body: the request waits for it")
        if not self.grant.granted and not self.unlisted:
            return
        terminal.say("  looked at: " + ("yes" if self.inspected else NOT_LOOKED_AT))
        for secret in self.secrets:
            where = f"{secret.carried} {secret.field}" if secret.field else secret.carried
            terminal.say(
                f"  secret {secret.name} goes in at {where}, where its placeholder is "
                f"({terminal.near(secret.origin.file)}:{secret.origin.line})"
            )
        if self.credential is not None:
            terminal.say(f"  it has to carry the secret {self.credential}, and no other credential")
        terminal.say("  private addresses: " + ("allowed" if self.private else "refused"))


def rules_of(access: Access) -> RuleSet:
    """The rules of a policy's files, read and compiled.

    Raises:
        PolicyError: with every place of the first file that does not compile, or cannot be read.
        RulesUnavailableError: the package that evaluates conditions is not installed.
    """
    egress = access.plan.network.egress
    sources = [
        load_source(access.variables.path(rule.path)) for rule in (egress.rules if egress is not None else ())
    ]
    files = (parse_rules(source.data.decode("utf-8", "surrogateescape"), source.path) for source in sources)
    return compile_rules(refuse_undecided(files, EGRESS))


def explain_url(access: Access, rules: RuleSet, request: Request) -> UrlAnswer:
    """What decides about the request."""
    grant = access.request(request)
    grants = access.grants
    if grants is None:
        return UrlAnswer(request, grant, UNDECIDED)
    found = grants.request(request.host, request.port, request.method, request.path)
    entry = None if isinstance(found, Refusal) else found
    egress = access.plan.network.egress
    assert egress is not None
    unlisted = (
        egress.unlisted == "ask"
        and grants.names(request.host) is None
        and request.port in {*DEFAULT_PORTS, *(port for one in egress.hosts for port in one.ports)}
    )
    literal = normalise_host(request.host).address
    # What is not encrypted is read in any case, to know the host; but for those that are never looked at.
    never = entry is not None and grants.at(request.host, request.port)[0].inspect == "never"
    plain = request.scheme == "http" and not never
    inspected = unlisted or plain or grants.needs_inspection(request.host, request.port)
    return UrlAnswer(
        request,
        grant,
        rules.decide(event_of(request)) if inspected and (entry is not None or unlisted) else UNDECIDED,
        unlisted,
        inspected,
        grants.secrets(request.host) if inspected else (),
        entry is not None and entry.private,
        None if entry is None else entry.credential,
        forbidden(literal) if literal is not None and not (entry is not None and entry.private) else None,
    )


def event_of(request: Request) -> dict[str, Any]:
    """The event that rules see, as far as a URL says it."""
    path, query = certain_path(request.path), normalised(request.path.partition("?")[2])
    http = {
        "method": request.method,
        "scheme": request.scheme,
        "host": request.host,
        "port": request.port,
        "url": normalised(request.text.partition(" ")[2]),
    }
    known = {name: value for name, value in (("path", path), ("query", query)) if value}
    return {"event": {"type": "http"}, "http": http | known}
