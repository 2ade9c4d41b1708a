"""Decides for one session: names, connections and requests, in the order grants, rules, ask, default.

Refuses what nothing allows, and everything while the rules are broken. A judgement is a value: who is asked, and how a
body is come by, is its reader's business. Everything is decided before anything is dialled.

    judge = Judge(plan, compile_rules(files))
    judge.name("a.example", "A", "udp").allowed
    judge.request(event, "request").verdict
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import unquote_plus, unquote_to_bytes

from capsule.egress.dns_record import features
from capsule.egress.frames import Egress, Host, SecretPlan
from capsule.egress.methods import is_field
from capsule.egress.verdict import Verdict
from capsule.policy.fields import alike, gateway_name
from capsule.policy.grants import Grants, Refusal
from capsule.policy.urlpath import certain_path, normalised, target_of
from capsule.rules.decision import Decision, Noted
from capsule.rules.engine import RuleSet
from capsule.rules.rewrite import Edit

ASK_TIMEOUT_MS = 120_000
ANOTHER_PATH = (
    "x-original-url", "x-rewrite-url", "x-original-uri", "x-rewrite-uri", "x-override-url", "x-forwarded-uri",
    "x-envoy-original-path",
)  # fmt: skip
OVERRIDING = (
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-method",
    "x-forwarded-method",
)
DAV = frozenset({"COPY", "MOVE"})
"""Methods whose other path is in the header `Destination` (RFC 4918 §9.8)."""
OTHERS = 8
"""Methods, and paths, besides its own that a request may ask for: each pair of them is judged."""
Stage = Literal["request", "body", "response"]
# What rules are told of a request where the record is silent: that it is not so.
_NEITHER: Mapping[str, Any] = {"websocket": False, "grpc": False, "secret": []}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was decided, and what is still to be done.

    Attributes:
        verdict: final unless one of the next two says otherwise.
        pending: the body decides; until it is here nothing goes on.
        asks: milliseconds for which a person is asked; None when nobody is.
        edits: what the rules change.
        findings: rules with a level that held.
        entry: the host entry that lets it through.
        further: others that ask, too; each must be answered.
    """

    verdict: Verdict
    pending: bool = False
    asks: int | None = None
    edits: tuple[Edit, ...] = ()
    findings: tuple[Noted, ...] = ()
    entry: Host | None = None
    further: tuple[Judgement, ...] = ()


class Judge:
    """What one session may do.

    Attributes:
        also_known: by host, the further names of the MCP servers there; a rule on `mcp` holds under each.
    """

    def __init__(self, plan: Egress, rules: RuleSet) -> None:
        self.rules = rules
        self.unlisted = plan.unlisted
        self.also_known: Mapping[str, tuple[str, ...]] = {}
        self._grants: Grants[Host, SecretPlan] = Grants(plan)
        self._read_by: RuleSet | None = None
        self._reads_method = False

    def name(self, name: str, qtype: str, transport: str) -> Verdict:
        """Whether a name is resolved inside."""
        entry = self._grants.names(name)
        if entry is None and self.unlisted == "deny":
            return _unlisted(name)
        if self.rules.asks_about("dns"):
            asked = {"name": name, "qtype": qtype, "transport": transport, **features(name)}
            event = {"event": {"type": "dns"}, "dns": asked}
            decision = self.rules.decide(event)
            if decision.action in ("block", "ask"):  # nobody is asked for the time that a resolver waits
                return _blocked(decision)
        if entry is None:
            return Verdict("allow", "default", "an unlisted name is asked about when it is used")
        return Verdict("allow", "grant", "", rule=place_of(entry))

    def connection(self, host: str, port: int) -> tuple[Verdict, tuple[Host, ...]]:
        """Whether a connection may be taken up, and the entries of its host and port."""
        entries = self._grants.at(host, port)
        if entries:
            return Verdict("allow", "grant", "", rule=place_of(entries[0])), entries
        if self.unlisted == "ask":
            return Verdict("allow", "default", "asked about at the request"), ()
        refusal = self._grants.request(host, port, "GET", "/")
        assert isinstance(refusal, Refusal)
        return Verdict("block", "grant", refusal.reason, allow=refusal.allow), ()

    def inspects(self, host: str, port: int) -> bool:
        """Whether requests of a connection must be seen."""
        return self._grants.needs_inspection(host, port) or not self._grants.at(host, port)

    def private(self, host: str, port: int) -> bool:
        """Whether a connection that is not looked into may lead to an address that is not public."""
        return self._grants.private(host, port)

    def passing(self, event: Mapping[str, Any]) -> Judgement:
        """Whether a connection that is not looked into may be opened: rules on `tcp`."""
        tcp = event["tcp"]
        verdict, entries = self.connection(tcp["host"], tcp["port"])
        if not verdict.allowed or not self.rules.asks_about("tcp"):
            return Judgement(verdict, entry=entries[0] if entries else None)
        return _ruled(self.rules.decide(event), verdict, entries[0] if entries else None)

    def decides_messages(self, server: str) -> bool:
        """Whether a rule on `mcp` could hold for this server."""
        names = (server, *self.also_known.get(server, ()))
        return any(
            self.rules.may_hold("mcp", {"event": {"type": "mcp"}, "mcp": {"server": name}}) for name in names
        )

    def message(self, event: Mapping[str, Any], verdict: Verdict, entry: Host | None) -> Judgement:
        """Whether a message goes on, in a request that `verdict` lets through: rules on its kind, as on `mcp`."""
        section = event.get("mcp")
        names = () if section is None else self.also_known.get(section["server"], ())
        return self.message_to(names, event, verdict, entry)

    def message_to(
        self, names: Iterable[str], event: Mapping[str, Any], verdict: Verdict, entry: Host | None
    ) -> Judgement:
        """The same of a server that has further names: the strictest of what is decided under each."""
        judged = _ruled(self.rules.decide(event), verdict, entry)
        for name in names:
            named = {**event, "mcp": {**event["mcp"], "server": name}}
            judged = _stricter(judged, _ruled(self.rules.decide(named), verdict, entry))
        return judged

    def never(self, event: Mapping[str, Any]) -> Verdict | None:
        """Why no event of which this is known goes on, whatever else it has; None when one might."""
        decision = self.rules.surely_blocks(event)
        return None if decision is None else _blocked(decision)

    def request(self, event: Mapping[str, Any], stage: Stage) -> Judgement:
        """Whether a request, or its answer, goes on."""
        http = event["http"]
        target, paths = _target(http), tuple(_another_path(http))
        found = self._grants.request(http["host"], http["port"], http["method"], target)
        entry: Host | None = None
        if not isinstance(found, Refusal):
            entry = found
            verdict = Verdict("allow", "grant", "", rule=place_of(found))
            if found.methods is not None or found.paths is not None:
                refused = self._asked_otherwise(http, target, paths, found)
                if refused is not None:
                    return Judgement(refused)
        elif self._grants.names(http["host"]) is not None or self.unlisted == "deny":
            return Judgement(Verdict("block", "grant", found.reason, allow=found.allow))
        else:
            verdict = Verdict("block", "default", found.reason, allow=found.allow)
        seen = {**_NEITHER, **http}
        seen |= {name: normalised(http[name]) for name in ("url", "query") if name in http}
        if "headers" in http:
            seen["headers"] = headers = alike(http["headers"])
            for field, name in (("user_agent", "user-agent"), ("content_type", "content-type")):
                if name in headers:
                    seen[field] = headers[name]
        certain = certain_path(target)
        if certain is None or any(certain_path(path) != certain for _, path in paths):
            del seen["path"]  # it is not known which one the server takes: for a rule it is missing
        if any(method != http["method"] for _, method in overriding(http)):
            del seen["method"]
        judged = _ruled(self.rules.decide({**event, "http": seen}, stage), verdict, entry)
        if entry is None and judged.verdict.by == "default" and not judged.pending:
            return Judgement(verdict, asks=ASK_TIMEOUT_MS, edits=judged.edits, findings=judged.findings)
        return judged

    def heeds_methods(self, event: Mapping[str, Any], entry: Host | None) -> bool:
        """Whether a method that a body asks for decides anything: servers take it from a POST."""
        http = event["http"]
        if self._read_by is not self.rules:
            self._read_by, self._reads_method = self.rules, self.rules.reads("http.method")
        limited = self._reads_method or (entry is not None and entry.methods is not None)
        return limited and "POST" in {http["method"], *(method for _, method in overriding(http))}

    def asked_in_body(
        self, event: Mapping[str, Any], methods: tuple[str, ...], entry: Host | None
    ) -> Verdict | None:
        """Why a request is refused whose body asks the server for these methods, or None."""
        http = event["http"]
        for method in methods:
            if method == http["method"]:
                continue
            judged = self.request({**event, "http": {**http, "method": method}}, "body")
            other = judged.entry.credential if judged.entry is not None else None
            says = f"its field _method asks the server for {method[:20]}"
            if not judged.verdict.allowed:
                return replace(judged.verdict, reason=f"{says}: {judged.verdict.reason}")
            if other not in {None, entry.credential if entry is not None else None}:
                return Verdict("block", "grant", f"{says}: that needs the credential {other}")
        return None

    def _asked_otherwise(
        self, http: Mapping[str, Any], target: str, paths: tuple[tuple[str, str], ...], found: Host
    ) -> Verdict | None:
        """Why a request is refused that asks the server for another method or path than its own, or None.

        Another path may need another credential than `found`, the entry of the request's own.
        """
        methods = dict.fromkeys([("", http["method"]), *overriding(http)])
        places = dict.fromkeys([("", target), *paths])
        if max(len(methods), len(places)) > OTHERS + 1:
            return Verdict(
                "block", "grant", f"it asks the server for more than {OTHERS} other methods or paths"
            )
        for said, method in methods:
            for where, path in places:
                if not (said or where):
                    continue  # its own, which was judged
                other = self._grants.request(http["host"], http["port"], method, path)
                names = " and ".join(filter(None, (said, where)))
                verb = "ask" if said and where else "asks"
                what = " ".join(([method[:20]] if said else []) + ([path[:80]] if where else []))
                if isinstance(other, Refusal):
                    reason = f"{names} {verb} the server for {what}: {other.reason}"
                    return Verdict("block", "grant", reason, allow=other.allow)
                if other.credential not in {None, found.credential}:
                    needs = f"that needs the credential {other.credential}"
                    return Verdict("block", "grant", f"{names} {verb} the server for {what}: {needs}")
        return None


def _target(http: Mapping[str, Any]) -> str:
    """The path as it was sent: of a request for no path (`*`), what it says; without a URL, as it is told."""
    path = str(http["path"])
    return target_of(http["url"]) if "url" in http and path.startswith("/") else path


def overriding(http: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Other methods that some servers take for the request's own, and where they are said."""
    for name, value in _said(http, OVERRIDING):
        yield name, value.upper()
    for part in http.get("query", "").replace(";", "&").split("&"):
        field, _, value = part.partition("=")
        if value and is_field(unquote_to_bytes(field.replace("+", " "))):
            yield "parameter _method", unquote_plus(value).strip().upper()


def _another_path(http: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Other paths that some servers take for the request's own (IIS, Symfony, Zend), or write to besides (WebDAV)."""
    yield from _said(http, ANOTHER_PATH)
    for name, value in http.get("headers", {}).items():
        if gateway_name(name) == "destination" and not DAV.isdisjoint(
            {http["method"], *(method for _, method in overriding(http))}
        ):
            yield f"header {name}", target_of(value.strip()) if "://" in value else value.strip()


def _said(http: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The values of headers, one by one, also under names that gateways take for these."""
    for name, values in http.get("headers", {}).items():
        if gateway_name(name) in names:
            for value in values.split(","):
                if value.strip():
                    yield f"header {name}", value.strip()


def _ruled(decision: Decision, verdict: Verdict, entry: Host | None) -> Judgement:
    """A decision of the rules, over what the grants say."""
    if decision.action == "block":
        return Judgement(_blocked(decision), decision.pending, findings=decision.findings, entry=entry)
    if decision.action == "ask":
        asked = _blocked(decision)
        wait = decision.ask_timeout_ms or ASK_TIMEOUT_MS
        return Judgement(asked, asks=wait, edits=decision.edits, findings=decision.findings, entry=entry)
    if decision.action == "allow" and entry is not None:
        action: Literal["allow", "rewrite"] = "rewrite" if decision.edits else "allow"
        verdict = Verdict(action, "rule", decision.reason, rule=_rule(decision))
    elif decision.edits and verdict.allowed:
        verdict = Verdict("rewrite", "rule", decision.reason, rule=_rule(decision))
    return Judgement(verdict, edits=decision.edits, findings=decision.findings, entry=entry)


def _stricter(one: Judgement, other: Judgement) -> Judgement:
    """What both let through; where both ask, but by different rules, both have to be answered."""
    known = {noted.rule.id for noted in one.findings}
    findings = one.findings + tuple(noted for noted in other.findings if noted.rule.id not in known)
    if one.asks is not None and other.asks is not None:
        asked = {_asking(each) for each in (one, *one.further)}
        further = one.further if _asking(other) in asked else (*one.further, other)
        return replace(one, further=further, findings=findings)
    strictness = [0 if each.verdict.allowed else 2 if each.asks is None else 1 for each in (one, other)]
    return replace(other if strictness[1] > strictness[0] else one, findings=findings)


def _asking(judged: Judgement) -> Any:
    return judged.verdict.rule["id"] if judged.verdict.rule is not None else None


def _blocked(decision: Decision) -> Verdict:
    asks = decision.action == "ask"
    reason = decision.reason or ("a rule has a person asked" if asks else "a rule blocks it")
    allow = "change the rule, or answer the ask in time" if asks else "change the rule"
    return Verdict("block", "rule", reason, rule=_rule(decision), missing=decision.missing, allow=allow)


def _rule(decision: Decision) -> dict[str, Any] | None:
    return decision.rule.record() if decision.rule is not None else None


def _unlisted(host: str) -> Verdict:
    return Verdict("block", "default", f"no host entry lists {host}", allow=f"network: hosts: [{host}]")


def place_of(entry: Host) -> dict[str, Any]:
    """A host entry as the rule of a decision."""
    found: dict[str, Any] = {"id": f"network.hosts {entry.host}"}
    if isinstance(entry.origin, dict):
        found |= {name: entry.origin[name] for name in ("file", "line") if name in entry.origin}
    return found
