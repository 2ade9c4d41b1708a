"""What becomes of the installed tree on its way into an image: what is left out, added, taken away.

The rules are a function of names and the recipe alone, so that the same packages give the same tree. Refuses
setuid and setgid programs (the bits are taken away: nothing in a machine needs to become root by a file) and
device nodes (the guest's own kernel makes them).

    left_out("var/log/apt/term.log")     # True
    additions(recipe)["etc/machine-id"]  # Added(mode=0o444, data=b'', uid=0)
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from capsem.errors import ImageError
from capsem.vm.recipe import Recipe

AGENT = "capsem/capsem-agent"
PERMISSIONS = 0o1777

# Left by apt, dpkg, debconf and installers; differ from one build to the next, or tell of the machine that built.
_OUT = (
    "dev/*", "run/*", "tmp/*", "proc/*", "sys/*", ".lock", "capsem", "capsem/*",
    "etc/apt/preferences.d/capsem", "etc/hostname", "etc/resolv.conf", "etc/machine-id", "etc/hosts", "etc/.pwd.lock",
    "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-",
    "var/cache/apt/*", "var/cache/ldconfig/*", "var/cache/debconf/*-old", "var/cache/man/*",
    "var/lib/apt/lists/*", "var/lib/dpkg/*-old", "var/lib/dpkg/lock*", "var/lib/dpkg/triggers/Lock",
    "var/lib/dbus/machine-id", "var/lib/systemd/*", "var/log/*",
    "root/.npm", "root/.npm/*", "root/.cache", "root/.cache/*",
)  # fmt: skip
_DIRECTORIES = {
    "dev": 0o755, "proc": 0o555, "run": 0o755, "sys": 0o555, "tmp": 0o1777,
    "var/tmp": 0o1777, "workspace": 0o755,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Added:
    """Something the packages do not bring.

    Attributes:
        data: the content of a file; None for a directory.
        link: what a symbolic link leads to.
        keep: a directory that stays as it is when the packages brought it.
    """

    mode: int
    data: bytes | None = None
    uid: int = 0
    link: str | None = None
    keep: bool = False


def left_out(name: str) -> bool:
    """Whether a name of the tree (no leading slash) does not go into the image."""
    return any(fnmatchcase(name, pattern) for pattern in _OUT) or name.endswith(".pyc")


def additions(recipe: Recipe) -> dict[str, Added]:
    """Everything that is added whatever the packages brought, by name. The files of users are in `accounts`.

    `/workspace` belongs to the recipe's first user, or to root when there is none.
    """
    owner = recipe.users[0].uid if recipe.users else 0
    found = {name: Added(mode) for name, mode in _DIRECTORIES.items()}
    found["workspace"] = Added(0o755, uid=owner)
    found["etc/machine-id"] = Added(0o444, b"")
    found["etc/hostname"] = Added(0o644, b"capsem\n")
    found["etc/hosts"] = Added(0o644, b"127.0.0.1 localhost capsem\n")
    found["etc/resolv.conf"] = Added(0o644, b"nameserver 127.0.0.1\n")
    found["usr/local/bin/capsem"] = Added(0o777, link=f"/{AGENT}")
    lines = "".join(f"{key}={value}\n" for key, value in sorted(recipe.environment.items()))
    found["etc/environment"] = Added(0o644, lines.encode())
    for user in recipe.users:
        found[user.home.lstrip("/")] = Added(0o755, uid=user.uid)
    for file in recipe.files:
        found[file.path.lstrip("/")] = Added(file.permissions, file.text.encode(), file.uid)
    for name in list(found):
        for parent in _parents(name):
            found.setdefault(parent, Added(0o755, keep=True))
    return found


def _parents(name: str) -> list[str]:
    pieces = name.split("/")[:-1]
    return ["/".join(pieces[:count]) for count in range(1, len(pieces) + 1)]


def accounts(recipe: Recipe, passwd: str, group: str) -> dict[str, bytes]:
    """`/etc/passwd`, `group` and `shadow` with the recipe's users; nobody can log in with a password.

    Raises:
        ImageError: the packages brought a user or group of that name or number.
    """
    days = recipe.epoch // 86400
    for user in recipe.users:
        for what, text in (("user", passwd), ("group", group)):
            for line in text.splitlines():
                fields = line.split(":")
                if fields[0] == user.name or (len(fields) > 2 and fields[2] == str(user.uid)):
                    raise ImageError(
                        f"the recipe's user {user.name} ({user.uid}) is a {what} of the packages: {fields[0]}",
                        next_step="choose another name and uid in the recipe",
                    )
        passwd += f"{user.name}:x:{user.uid}:{user.uid}::{user.home}:{user.shell}\n"
        group += f"{user.name}:x:{user.uid}:\n"
    names = [line.split(":")[0] for line in passwd.splitlines() if line]
    shadow = "".join(f"{name}:!:{days}:0:99999:7:::\n" for name in names)
    return {"etc/passwd": passwd.encode(), "etc/group": group.encode(), "etc/shadow": shadow.encode()}
