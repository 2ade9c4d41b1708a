"""What in a plan's network gives away more than it seems to: remarks for `capsule policy check`, each with its line.

Pure. It refuses nothing: what is remarked may be meant. A host is remarked when whoever it belongs to lets anybody
publish there or rent a name beneath it: an entry for it lets data out to strangers.

    [remark.what for remark in risks(plan)]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from capsule.policy.grants import MODEL_HOSTS, covers
from capsule.sandbox.plan import Plan, PlanEgress, PlanHost, PlanNetwork, PlanOrigin

READS = frozenset({"GET", "HEAD", "OPTIONS"})

# Anybody with an account, or with none, can put something there for others to fetch.
_PUBLISHING = (
    "github.com", "api.github.com", "uploads.github.com", "gist.github.com", "gitlab.com", "bitbucket.org",
    "codeberg.org", "sr.ht", "*.sr.ht", "huggingface.co", "pastebin.com", "paste.rs", "dpaste.com", "dpaste.org",
    "ix.io", "0x0.st", "transfer.sh", "termbin.com", "file.io", "hastebin.com", "rentry.co", "webhook.site",
    "*.webhook.site", "requestbin.com", "*.requestbin.net", "pipedream.com", "*.pipedream.net",
    "discord.com", "discordapp.com",
    "slack.com", "hooks.slack.com", "api.telegram.org", "api.twitter.com", "api.x.com", "docs.google.com",
    "drive.google.com", "www.googleapis.com", "content.dropboxapi.com", "api.dropboxapi.com", "api.notion.com",
    "hub.docker.com", "registry-1.docker.io", "ghcr.io", "quay.io", "crates.io", "rubygems.org", "www.nuget.org",
    "upload.pypi.org", "registry.npmjs.org",
)  # fmt: skip
# Names beneath these belong to whoever asked for one first.
_RENTED = (
    "*.amazonaws.com", "*.s3.amazonaws.com", "s3.amazonaws.com", "*.execute-api.amazonaws.com", "*.cloudfront.net",
    "*.on.aws", "storage.googleapis.com", "*.storage.googleapis.com", "*.run.app", "*.web.app", "*.firebaseio.com",
    "*.appspot.com", "*.cloudfunctions.net", "*.blob.core.windows.net", "*.azurewebsites.net", "*.azureedge.net",
    "*.cloudapp.azure.com", "*.workers.dev", "*.pages.dev", "*.r2.dev", "*.r2.cloudflarestorage.com",
    "*.digitaloceanspaces.com", "*.ondigitalocean.app", "*.vercel.app", "*.netlify.app", "*.herokuapp.com",
    "*.onrender.com", "*.fly.dev", "*.github.io", "*.gitlab.io", "*.repl.co", "*.glitch.me",
    "*.ngrok.io", "*.ngrok.app", "*.ngrok-free.app", "*.trycloudflare.com", "*.loca.lt", "*.serveo.net",
    "*.duckdns.org", "*.dyndns.org", "*.no-ip.org", "*.nip.io", "*.sslip.io", "*.oast.fun", "*.oast.pro",
    "*.interact.sh", "*.burpcollaborator.net",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing worth a second look: what it gives away, where it is written, what would be less."""

    what: str
    origin: PlanOrigin
    next_step: str = ""

    def __str__(self) -> str:
        after = f"; {self.next_step}" if self.next_step else ""
        return f"{self.origin.file}:{self.origin.line}: {self.what}{after}"


def writes(entry: PlanHost) -> bool:
    """Whether an entry lets requests through that change something; what git fetches with is a POST and does not."""
    if entry.paths is not None and all(path.endswith("/git-upload-pack") for path in entry.paths):
        return False
    return entry.methods is None or not set(entry.methods) <= READS


def strangers(entry: PlanHost) -> str | None:
    """Why data that an entry lets out may end up with strangers; None when nothing says so."""
    host = entry.host
    if host.startswith("*.") and "." not in host[2:]:
        return f"{host} covers names of everybody"
    if entry.credential is not None:
        return None
    # What lets only some paths through has been thought about, when it cannot write there.
    if (writes(entry) or entry.paths is None) and any(_meet(host, known) for known in _RENTED):
        return (
            f"names beneath {host} can be had by anybody"
            if host.startswith("*")
            else f"anybody can have {host}"
        )
    if writes(entry) and any(_meet(host, known) for known in _PUBLISHING):
        return f"anybody can publish at {host}"
    return None


def risks(plan: Plan) -> tuple[Remark, ...]:
    """The remarks, in the order of the plan."""
    network = plan.network
    if network.mode == "open":
        return (
            Remark(
                "network.mode is 'open': the command is on the host's own network, and nothing is looked at or refused",
                network.origin,
                "list what it needs under 'network: hosts'",
            ),
        )
    if network.egress is None:
        return ()
    return (*_egress(network.egress, network.origin), *_uncounted(network, network.egress))


def _uncounted(network: PlanNetwork, egress: PlanEgress) -> Iterator[Remark]:
    """Ways around a budget that the policy itself opens: they do not lead through egress."""
    budget = egress.budget
    if all(bound is None for bound in (budget.requests, budget.bytes, budget.tokens, budget.microdollars)):
        return
    ways = [f"port {port} of the host's loopback" for port in network.ports]
    ways += [f"the socket {grant.path}" for grant in network.unix]
    if ways:
        yield Remark(
            f"network.budget does not count what goes to {', '.join(ways)}: it does not pass through egress, and no "
            "call of a model is recorded there",
            network.origin,
            "send a name there with 'upstreams', and list that under 'hosts'",
        )


def _egress(egress: PlanEgress, origin: PlanOrigin) -> Iterator[Remark]:
    for entry in egress.hosts:
        yield from _host(entry, egress)
    for secret in egress.secrets:
        for entry in egress.hosts:
            if 80 in entry.ports and any(
                covers(to, entry.host) or covers(entry.host, to) for to in secret.to
            ):
                yield Remark(
                    f"the secret {secret.name!r} goes to {entry.host}, which may also be reached without encryption",
                    secret.origin,
                    f"write 'ports: [443]' in its entry ({entry.origin.file}:{entry.origin.line})",
                )
                break
        for to in secret.to:
            if any(covers(known, to) for known in _RENTED if known.startswith("*")) and to.startswith("*"):
                yield Remark(
                    f"the secret {secret.name!r} goes to {to}, and names there can be had by anybody",
                    secret.origin,
                    "name the hosts",
                )
    for upstream in egress.upstreams:
        if not any(covers(entry.host, upstream.host) for entry in egress.hosts):
            yield Remark(
                f"{upstream.host} is sent to {upstream.address}, but no entry of network.hosts covers it",
                upstream.origin,
            )
    if egress.proxy is not None:
        yield Remark(
            f"everything goes out through {egress.proxy}, which resolves names: where a name leads that this host does "
            "not resolve, or resolves differently, is not checked",
            origin,
        )


def _voided(entry: PlanHost, egress: PlanEgress) -> Iterator[Remark]:
    """An entry whose limits another one, which covers its host, lets everybody pass by."""
    if entry.methods is None and entry.paths is None:
        return
    for other in egress.hosts:
        ports = sorted(set(entry.ports) & set(other.ports))
        if other is entry or not ports or other.paths is not None or not covers(other.host, entry.host):
            continue
        methods = other.methods is None or (
            entry.methods is not None and set(entry.methods) <= set(other.methods)
        )
        less = (entry.paths, entry.methods) != (other.paths, other.methods)
        if (
            methods and less and other.credential == entry.credential
        ):  # one that gives it away is told elsewhere
            yield Remark(
                f"the limits of {entry.host} do not hold: the entry for {other.host} "
                f"({other.origin.file}:{other.origin.line}) lets through what they keep out",
                entry.origin,
                "take the host out of the wider entry, or limit that one too",
            )
            return


def _host(entry: PlanHost, egress: PlanEgress) -> Iterator[Remark]:
    yield from _voided(entry, egress)
    why = strangers(entry)
    if why is not None:
        less = "name the methods and paths it needs" if writes(entry) else "name the hosts it needs"
        yield Remark(f"{why}: this lets data out to strangers", entry.origin, less)
    if entry.private and entry.host.startswith("*."):
        yield Remark(
            f"every name beneath {entry.host[2:]} may lead into your network",
            entry.origin,
            "name the private hosts",
        )
    if entry.inspect == "never" and egress.secrets:
        yield Remark(
            f"a placeholder of a secret that is sent to {entry.host} cannot be seen: it is never looked at",
            entry.origin,
            "leave 'inspect' out where TLS or HTTP is spoken",
        )
    elif entry.inspect == "never" and 443 in entry.ports:
        yield Remark(f"what passes to {entry.host} is never looked at", entry.origin)
    if entry.inspect == "never" and egress.proxy is not None and _is_proxy(entry, egress.proxy):
        yield Remark(
            f"{entry.host} is the proxy of the policy: through it everything can be reached, unseen",
            entry.origin,
            "leave 'inspect' out, then CONNECT is decided here",
        )
    if entry.credential is None:
        bound = next((e for e in egress.hosts if e.host == entry.host and e.credential is not None), None)
        if bound is not None and set(bound.ports) & set(entry.ports):
            yield Remark(
                f"requests to {entry.host} may carry any credential here, although another entry binds them "
                f"({bound.origin.file}:{bound.origin.line})",
                entry.origin,
                f"add 'credential: {bound.credential}'",
            )
        elif any(covers(entry.host, known) or covers(known, entry.host) for known in MODEL_HOSTS):
            yield Remark(
                f"{entry.host} serves every account: under another key, things can be uploaded to a stranger's",
                entry.origin,
                "add 'credential: NAME' with a secret of yours, or extend the provider's preset",
            )


def _is_proxy(entry: PlanHost, proxy: str) -> bool:
    host, _, port = proxy.removeprefix("http://").rpartition(":")  # as the parser wrote it
    return int(port) in entry.ports and covers(entry.host, host)


def _meet(host: str, known: str) -> bool:
    """Whether an entry's host is one of the known ones, or covers one."""
    return covers(known, host) or covers(host, known)
