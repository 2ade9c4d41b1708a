"""Which grants a person should look at twice, and why. Pure lookups on names; nothing is opened.

why_sensitive("/home/u/.ssh/id_ed25519", home="/home/u", writing=False)   # "SSH keys"
"""

from __future__ import annotations

from fnmatch import fnmatchcase

_HOME_SECRETS = {
    ".ssh": "SSH keys",
    ".gnupg": "GnuPG keys",
    ".aws": "cloud credentials",
    ".azure": "cloud credentials",
    ".config/gcloud": "cloud credentials",
    ".kube": "cluster credentials",
    ".docker": "registry credentials",
    ".netrc": "passwords",
    ".pgpass": "passwords",
    ".pypirc": "package index tokens",
    ".npmrc": "package index tokens",
    ".cargo/credentials*": "package index tokens",
    ".git-credentials": "passwords",
    ".config/gh": "GitHub tokens",
    ".mozilla": "browser profile",
    ".config/google-chrome": "browser profile",
    ".password-store": "passwords",
    ".local/share/keyrings": "passwords",
    ".bash_history": "shell history",
    ".zsh_history": "shell history",
    ".local/share/capsule": "the key of the audit log",
}
_HOME_STARTUP = (
    ".bashrc",
    ".bash_profile",
    ".profile",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".config/autostart",
    ".config/systemd",
)
_SYSTEM = {
    "/etc/shadow": "password hashes",
    "/etc/sudoers": "who may become root",
    "/root": "the home of root",
    "/proc/kcore": "the kernel's memory",
    "/dev/mem": "the machine's memory",
    "/var/run/docker.sock": "a container engine is root on the host",
    "/run/docker.sock": "a container engine is root on the host",
}
_WORKSPACE_CODE = (".git/hooks", ".git/config", ".vscode", ".idea", ".envrc", "capsule.yaml")
_SECRET_NAMES = (".env", ".env.*", "*.pem", "*.key", "id_rsa*", "id_ed25519*", "credentials*.json", "*.kdbx")


def _under(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")


def why_sensitive(path: str, *, home: str, workspace: str = "", writing: bool) -> str | None:
    """The reason to look twice at a grant of ``path``, or None.

    Args:
        path: absolute and resolved.
        home: the user's home directory, or empty.
        workspace: the policy's directory, or empty.
        writing: whether the grant lets it be changed.
    """
    if path == "/":
        return "everything"
    for top, why in _SYSTEM.items():
        if _under(path, top) and not (home and _under(path, home) and top == "/root"):
            return why
    if home:
        if path == home:
            return "the whole home directory"
        for name, why in _HOME_SECRETS.items():
            if _matches_below(path, home, name):
                return why
        if writing and any(_under(path, f"{home}/{name}") for name in _HOME_STARTUP):
            return "runs at the next login"
    if writing and workspace and any(_under(path, f"{workspace}/{name}") for name in _WORKSPACE_CODE):
        return "runs outside the sandbox later"
    if covered := _covers(path, home, workspace, writing=writing):
        return covered
    if writing and any(
        _under(path, top) for top in ("/etc", "/usr", "/bin", "/sbin", "/lib", "/boot", "/opt")
    ):
        return "the system itself"
    name = path.rsplit("/", 1)[-1]
    if any(fnmatchcase(name, pattern) for pattern in _SECRET_NAMES):
        return "looks like a secret"
    return None


def _covers(path: str, home: str, workspace: str, *, writing: bool) -> str | None:
    """What lies beneath a grant that would be sensitive as a grant of its own."""
    for top, why in _SYSTEM.items():
        if _under(top, path) and not (home and _under(top, home)):
            return f"covers {top}: {why}"
    for name, why in _HOME_SECRETS.items() if home else ():
        # A workspace that holds the home is granted as such; the home itself is named above.
        if path != workspace and _under(f"{home}/{name.rstrip('*')}", path):
            return f"covers ~/{name}: {why}"
    if writing and home and path != workspace:
        for name in _HOME_STARTUP:
            if _under(f"{home}/{name}", path):
                return f"covers ~/{name}: runs at the next login"
    if writing and workspace and path != workspace:
        for name in _WORKSPACE_CODE:
            if _under(f"{workspace}/{name}", path):
                return f"covers {name}: runs outside the sandbox later"
    return None


def _matches_below(path: str, home: str, name: str) -> bool:
    if "*" not in name:
        return _under(path, f"{home}/{name}")
    return fnmatchcase(path, f"{home}/{name}") or fnmatchcase(path, f"{home}/{name}/*")


def why_sensitive_address(address: str) -> str | None:
    """The reason to look twice at an address, or None."""
    kind, _, rest = address.partition(":")
    if kind == "unix":
        return why_sensitive(rest, home="", writing=False) or "a service of the host answers there"
    if rest.startswith(("0.0.0.0:", "[::]:")):
        return "listens on every interface"
    if rest.startswith(("169.254.169.254", "[fd00:ec2::254]")):
        return "a cloud's metadata service"
    return None
