"""The stage of one attack: a throw-away home, workspace and outside, with canaries in each.

The user's own policy is applied to this stage: `extends` names it, so `${workspace}` is the stage's
workspace and `~` the stage's home. Nothing of the user's is at risk, and nothing of the user's (log, key,
remembered heads) is written. Secrets are random per run, so that one seen outside is proof.
Refused: a stage that is not ours to remove.

    with tempfile.TemporaryDirectory() as base:
        stage = Stage(Path(base), user_policy="workspace", confined=True)
        stage.build(Launch())
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from capsule.attack.case import Launch

# Names the arena's policy denies and protects in addition to the user's own: the mechanism is tested
# under every policy, also one that denies nothing.
DENIED = ".attack-denied"
KEPT = ".attack-kept"

HOME = {
    ".ssh/id_ed25519": "{secret}",
    ".ssh/authorized_keys": "ssh-ed25519 {secret}",
    ".aws/credentials": "[default]\naws_secret_access_key = {secret}\n",
    ".netrc": "machine example.org password {secret}\n",
    ".config/gh/hosts.yml": "oauth_token: {secret}\n",
    ".docker/config.json": '{{"auths": "{secret}"}}',
    ".mozilla/cookies": "{secret}",
    ".bashrc": "# {secret}\n",
    ".profile": "# kept\n",
    ".zshrc": "# kept\n",
    ".gitconfig": "[user]\n\tname = kept\n\temail = kept@example.org\n",
    ".npmrc": "# kept\n",
    ".config/pip/pip.conf": "# kept\n",
    ".config/systemd/user/kept.service": "# kept\n",
    ".config/autostart/kept.desktop": "# kept\n",
}
OUTSIDE = {"canary": "{secret}", "dir/canary": "{secret}", "tool": "#!/bin/sh\necho {secret}\n"}
WORKSPACE = {
    "src/main.py": "print('hello')\n",
    DENIED: "{secret}",
    "deep/down/" + DENIED: "{secret}",
    KEPT: "kept\n",
    "deep/down/" + KEPT: "kept\n",
    "vault/inner/secret": "{secret}",
    "vault/inner/kept": "kept\n",
    "scoped/inner/hidden": "{secret}",
    "any/conf/key": "{secret}",
}
# What capsule itself writes in its home: never part of a comparison.
OURS = (".local/share/capsule", ".local/state/capsule", ".cache/capsule", ".config/capsule")


@dataclass(frozen=True)
class Seen:
    """What `lstat` and the bytes of one file say."""

    mode: int
    owner: tuple[int, int]
    links: int
    modified: int
    content: str
    attributes: tuple[str, ...]


class Stage:
    """One stage, rebuilt for each run; also the host's record of what it saw during that run."""

    def __init__(self, base: Path, *, extends: str, confined: bool, capsule: str) -> None:
        """Name the stage; `extends` is what the arena's policy extends, `capsule` the binary."""
        self.base = base
        self.root = base / "stage"
        self.ws, self.home, self.outside = self.root / "ws", self.root / "home", self.root / "outside"
        self.log = self.ws / "capsule.log"
        self.extends, self.confined, self.capsule = extends, confined, capsule
        self.id = "capsule-attack-" + secrets.token_hex(8)
        self.mark = "mark-" + secrets.token_hex(16)
        self.secret = "secret-" + secrets.token_hex(16)
        self.extra: dict[str, object] = {}
        self.environment: dict[str, str] = {}
        self.descriptors: list[int] = []
        self.stdin: int | None = None
        self.resources = contextlib.ExitStack()
        self.notes: dict[str, object] = {}
        self.heard: list[bytes] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.out, self.err, self.out_total = b"", b"", 0
        self.report: dict[str, object] = {}
        self.elapsed, self.overran = 0.0, False
        self._before: dict[str, Seen] = {}

    @property
    def planted(self) -> Path:
        """The file that appears when a booby trap goes off on the host."""
        return self.outside / "trap-went-off"

    def build(self, launch: Launch) -> None:
        """Lay the stage out afresh, and remember every byte and mode of what must not change."""
        remove(self.root)
        for top, files in ((self.home, HOME), (self.outside, OUTSIDE), (self.ws, WORKSPACE)):
            for name, text in files.items():
                path = top / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text.format(secret=self.secret))
        (self.outside / "tool").chmod(0o755)
        self._repository()
        if not launch.bare:
            (self.ws / "capsule.yaml").write_bytes(launch.policy or self.policy(launch.narrow))
        if not self.confined:
            self.log.write_text('{"block":0}\n')

    def policy(self, narrow: Mapping[str, object]) -> bytes:
        """The stage's policy: the user's, narrowed by the names and limits this attack is about."""
        document: dict[str, object] = {
            "version": 1,
            "extends": [self.extends],
            "filesystem": {
                # By any place, by an exact one, below a directory, and in a directory of a name.
                "deny": ["**/" + DENIED, "vault/inner/secret", "scoped/**/hidden", "**/conf/key"],
                "protect": ["**/" + KEPT, "vault/inner/kept"],
            },
        }
        document.update(narrow)
        return (as_yaml(document) + "\n").encode()

    def _repository(self) -> None:
        git = self.ws / ".git"
        for folder in ("hooks", "info", "objects", "refs/heads"):
            (git / folder).mkdir(parents=True)
        (git / "HEAD").write_text("ref: refs/heads/main\n")
        (git / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = false\n")

    def remember(self) -> None:
        """Take the picture every later look is compared with."""
        self._before = self.look()

    def look(self) -> dict[str, Seen]:
        """Every file of home and outside, and the protected names of the workspace, as they are now."""
        seen: dict[str, Seen] = {}
        for top in (self.home, self.outside):
            for folder, folders, files in os.walk(top):
                inside = os.path.relpath(folder, top)
                if top is self.home and inside.startswith(OURS):
                    folders.clear()
                    continue
                for name in files:
                    self._see(Path(folder, name), seen)
        for name in (*WORKSPACE, "capsule.yaml"):
            if name != "src/main.py":
                self._see(self.ws / name, seen)
        return seen

    def _see(self, path: Path, seen: dict[str, Seen]) -> None:
        try:
            facts = path.lstat()
            is_file = stat.S_ISREG(facts.st_mode)
            content = hashlib.sha256(path.read_bytes()).hexdigest() if is_file else "not a file"
            attributes = os.listxattr(path, follow_symlinks=False)
        except OSError as gone:
            content, attributes, facts = type(gone).__name__, [], None
        seen[str(path.relative_to(self.root))] = Seen(
            mode=facts.st_mode if facts else 0,
            owner=(facts.st_uid, facts.st_gid) if facts else (-1, -1),
            links=facts.st_nlink if facts else 0,
            modified=facts.st_mtime_ns if facts else 0,
            content=content,
            attributes=tuple(sorted(attributes)),
        )

    def changes(self) -> list[str]:
        """Names, relative to the stage, of protected files that are not as they were."""
        now = self.look()
        return sorted(
            name for name in now.keys() | self._before.keys() if now.get(name) != self._before.get(name)
        )

    def told(self) -> str:
        """What the act is told: places and a mark, never a secret."""
        return json.dumps(
            {
                "id": self.id,
                "ws": str(self.ws),
                "home": str(self.home),
                "outside": str(self.outside),
                "mark": self.mark,
                "hook": f": > '{self.planted}'",
                "confined": self.confined,
                "namespaces": {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "mnt")},
                "extra": self.extra,
            }
        )

    def close(self) -> None:
        """Release what the host's side of the case opened."""
        self.resources.close()


def as_yaml(value: object, depth: int = 0) -> str:
    """A document of mappings, lists, texts and numbers, in the plainest YAML."""
    pad = "  " * depth
    if isinstance(value, Mapping):
        lines = []
        for key, inner in value.items():
            text = as_yaml(inner, depth + 1)
            lines.append(
                f"{pad}{key}:\n{text}" if isinstance(inner, Mapping | list) else f"{pad}{key}: {text}"
            )
        return "\n".join(lines)
    if isinstance(value, list):
        return "\n".join(f"{pad}- {as_yaml(item)}" for item in value)
    return json.dumps(value)


def with_racer(stage: Stage) -> None:
    """Put the compiled race program into the workspace."""
    arena = stage.notes["arena"]
    shutil.copy(arena.racer(), stage.ws / "race")  # type: ignore[attr-defined]


def mounted_below(root: Path, table: str) -> list[str]:
    """Mount points at or below a directory, from the text of /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    top = os.path.realpath(root)
    points = [line.split()[4].encode().decode("unicode_escape") for line in table.splitlines() if line]
    return [point for point in points if point == top or point.startswith(top + "/")]


def remove(root: Path) -> None:
    """Remove a directory of ours and all below it.

    Raises:
        RuntimeError: something is mounted below: removing it would remove what was mounted.
    """
    if not root.exists():
        return
    found = mounted_below(root, Path("/proc/self/mountinfo").read_text())
    if found:
        raise RuntimeError(
            f"not removed, because something is mounted at {found[0]}: unmount it, then remove {root}"
        )
    unlock(root)
    shutil.rmtree(root)


def unlock(root: Path) -> None:
    """Make every directory below `root` removable again, whatever an act did to its mode."""
    for folder, folders, _ in os.walk(root):
        for name in folders:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o700)
