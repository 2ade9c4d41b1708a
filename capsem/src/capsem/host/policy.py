"""`--policy`: the network's part of a policy, compiled here, with the files it names as they are now.

Refuses a policy with mistakes, a file that it names and that cannot be read, and one whose network has no walls.

    network_of("./network.yaml")              # {"policy": …, "digest": …, "egress": {…}, "sources": […]}
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from capsem.errors import UsageError

_VARIABLE = re.compile(r"\$\{([a-z_]+)\}")
_LARGEST = 4 << 20


def network_of(reference: str) -> dict[str, Any]:
    """As the service takes it.

    Raises:
        PolicyError: the policy is wrong, with every place.
        UsageError: it is none for a machine, or a file that it names cannot be read.
    """
    # The compiler is large; who gives no policy does not load it.
    import msgspec

    from capsule.cli.files import load_policy
    from capsule.sandbox.compiler import compile_policy

    plan = compile_policy(load_policy(reference))
    if plan.network.mode == "open":
        raise UsageError(
            f"{reference}: a machine's network has walls", next_step="name the hosts: network: hosts: [...]"
        )
    egress = plan.network.egress
    if egress is None:
        raise UsageError(
            f"{reference} names no hosts and no rules",
            next_step="add network: hosts: [...], or leave --policy out",
        )
    told: dict[str, Any] = _resolved(msgspec.to_builtins(egress))
    return {
        "policy": reference,
        "digest": plan.policy.digest,
        "egress": told,
        "sources": _sources(told),
    }


def _resolved(value: Any) -> Any:
    """The same with `${workspace}` and `${home}` as they are for a run that starts here."""
    known = {"workspace": str(Path.cwd()), "home": str(Path.home())}

    def one(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise UsageError(
                f"the policy needs ${{{match[1]}}}, which a machine does not have",
                next_step="write the path out",
            )
        return known[match[1]]

    if isinstance(value, str):
        return _VARIABLE.sub(one, value)
    if isinstance(value, dict):
        return {name: _resolved(item) for name, item in value.items()}
    return [_resolved(item) for item in value] if isinstance(value, list | tuple) else value


def _sources(egress: dict[str, Any]) -> list[dict[str, str]]:
    named = [(grant["path"], bool(grant.get("optional"))) for grant in egress["authorities"]]
    named += [(rule["path"], False) for rule in egress["rules"]]
    for one in egress["detect"]:
        if one.get("path") is not None:
            place = Path(one["path"])
            files = sorted(f for f in place.rglob("*.y*ml") if f.is_file()) if place.is_dir() else [place]
            named += [(str(file), False) for file in files]
    found = []
    for path, optional in dict(named).items():
        try:
            content = Path(path).read_bytes()
            found.append({"path": path, "text": content[: _LARGEST + 1].decode()})
        except FileNotFoundError as error:
            if not optional:
                raise _unread(path, error) from None
        except (OSError, UnicodeDecodeError) as error:
            raise _unread(path, error) from None
        if len(content) > _LARGEST:
            raise UsageError(f"{path} is larger than {_LARGEST >> 20} MiB", next_step="name a smaller file")
    return found


def _unread(path: str, error: Exception) -> UsageError:
    return UsageError(
        f"{path}, which the policy names, cannot be read: {error}", next_step="see that it is there"
    )
