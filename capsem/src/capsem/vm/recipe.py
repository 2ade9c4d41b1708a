"""A recipe as a value: what goes into the root file system of an image, read from TOML.

Refuses unknown keys, versions that are not exact, paths that leave the root, users that Debian has already: a
recipe means one tree or nothing. `docs/formats/image.md` has the fields.

    recipe = parse(text, "default.toml")
    recipe.packages                      # ('ca-certificates', 'curl', 'git', …)
"""

from __future__ import annotations

import datetime
import hashlib
import re
import tomllib
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec

from capsem.errors import ImageError, RecipeError
from capsem.vm import npm_lock
from capsem.vm.image import canonical, check_name

VERSION = 1
Text = Annotated[str, msgspec.Meta(max_length=1 << 20)]

_DEBIAN = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_NPM = re.compile(r"(?:@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*")
_PYPI = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_EXACT = re.compile(r"[0-9][0-9A-Za-z.+!-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_MODE = re.compile(r"0?[0-7]{3}")
_BESIDE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SUITE = re.compile(r"[a-z]+")
# Users and groups of Debian's base-passwd (1000 and above are the recipe's), and what each install adds to them.
_DEBIANS = """
root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc _apt nobody adm tty disk kmem
dialout fax voice cdrom floppy tape sudo audio dip operator src shadow utmp video sasl plugdev staff users nogroup
"""
_ACCOUNTS = frozenset({"/etc/passwd", "/etc/group", "/etc/shadow"})
# What is mounted over, or put there when the image is made.
_COVERED = ("capsem", "dev", "proc", "run", "sys", "tmp")


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Nothing but the fields is taken."""


class User(_Struct, frozen=True):
    """A user of the guest, with a group of the same name and number and a home directory of mode 0755."""

    name: str
    uid: Annotated[int, msgspec.Meta(ge=1000, le=59999)]
    home: str = ""
    shell: str = "/bin/bash"


class File(_Struct, frozen=True):
    """A file of the guest. `uid` owns it; `mode` is octal."""

    path: str
    text: Text
    mode: str = "0644"
    uid: Annotated[int, msgspec.Meta(ge=0, le=59999)] = 0

    @property
    def permissions(self) -> int:
        """The mode as a number."""
        return int(self.mode, 8)


class Recipe(_Struct, frozen=True):
    """What an image's root file system is made of.

    Attributes:
        epoch: the time of every file, in seconds since 1970.
        base: mmdebstrap's variant: `minbase` has apt, `essential` has not.
        npm: package → exact version, as `npm_lock` has them.
        npm_lock: npm's `package-lock.json` of these packages and of all that they need.
        pypi: package → exact version, each in `/opt/pypi`.
    """

    version: Literal[1]
    name: str
    suite: str
    epoch: int
    base: Literal["essential", "minbase"] = "minbase"
    packages: tuple[str, ...] = ()
    npm: dict[str, str] = {}
    npm_lock: str = ""
    pypi: dict[str, str] = {}
    environment: dict[str, str] = {}
    users: tuple[User, ...] = ()
    files: tuple[File, ...] = ()

    def digest(self) -> str:
        """SHA-256 of the recipe's meaning: how it is spelled, and the order of packages, do not matter."""
        return hashlib.sha256(canonical(msgspec.to_builtins(self))).hexdigest()


def parse(untrusted_text: str, place: str, beside: Callable[[str], str] | None = None) -> Recipe:
    """The recipe in this text.

    Args:
        untrusted_text: TOML.
        place: what to call it in errors.
        beside: gives the text of a file beside the recipe, by its name; None when there is nothing beside it.

    Raises:
        RecipeError: it is no recipe; the message names the key.
    """
    try:
        fields = tomllib.loads(untrusted_text)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(place, f"no TOML: {error}") from error
    epoch = fields.get("epoch")
    if isinstance(epoch, datetime.datetime) and epoch.tzinfo is not None:
        fields["epoch"] = int(epoch.timestamp())
    else:
        raise _wrong(place, "epoch: needs a time with a zone, as 2025-11-01T00:00:00Z")
    if "npm_lock" in fields:
        fields["npm_lock"] = _beside(fields["npm_lock"], place, beside)
    try:
        recipe = msgspec.convert(fields, Recipe)
    except msgspec.ValidationError as error:
        raise _wrong(place, str(error)) from error
    for what in _problems(recipe):
        raise _wrong(place, what)
    try:
        if recipe.npm:
            npm_lock.read(recipe.npm_lock, recipe.npm, f"{place}: npm_lock")
    except ImageError as error:
        raise RecipeError(error.message, next_step=error.next_step) from error
    return msgspec.structs.replace(
        recipe,
        packages=tuple(sorted(recipe.packages)),
        users=tuple(
            msgspec.structs.replace(user, home=user.home or f"/home/{user.name}")
            for user in sorted(recipe.users, key=lambda user: user.uid)
        ),
        files=tuple(sorted(recipe.files, key=lambda file: file.path)),
    )


def _problems(recipe: Recipe) -> list[str]:
    found: list[str] = []
    try:
        check_name(recipe.name)
    except ImageError as error:
        found.append(f"name: {error.message}: {error.next_step}")
    if not _SUITE.fullmatch(recipe.suite):
        found.append(f"suite: {recipe.suite!r} is no name of a Debian release")
    if recipe.epoch < 0:
        found.append("epoch: lies before 1970")
    found += [
        f"packages: {name!r} is no name of a Debian package"
        for name in recipe.packages
        if not _DEBIAN.fullmatch(name)
    ]
    found += [f"packages: {name} is there twice" for name in _twice(recipe.packages)]
    found += _versions("npm", recipe.npm, _NPM)
    found += _versions("pypi", recipe.pypi, _PYPI)
    if bool(recipe.npm) != bool(recipe.npm_lock):
        found.append("npm: name the file of its lock with npm_lock, and no lock without npm")
    if recipe.pypi and not {"python3", "python3-pip"} <= set(recipe.packages):
        found.append("pypi: add 'python3' and 'python3-pip' to packages")
    found += [
        f"environment: {name!r} is no name of a variable"
        for name in recipe.environment
        if not _VARIABLE.fullmatch(name)
    ]
    found += [
        f"environment.{name}: more than one line"
        for name, value in recipe.environment.items()
        if not value.isprintable()
    ]
    for user in recipe.users:
        found += _user(user)
    found += [f"users: {name} is there twice" for name in _twice([user.name for user in recipe.users])]
    found += [f"users: {uid} is there twice" for uid in _twice([str(user.uid) for user in recipe.users])]
    for file in recipe.files:
        if not absolute(file.path):
            found.append(f"files: {file.path!r} is no absolute path without '..' below the root")
        if not _MODE.fullmatch(file.mode):
            found.append(
                f"files: {file.path}: mode {file.mode!r} is not of the form 0644; setuid is not given to files"
            )
    found += [f"files: {path} is there twice" for path in _twice([file.path for file in recipe.files])]
    return found + _places(recipe)


def _places(recipe: Recipe) -> list[str]:
    """Names that mean nothing in a machine, or that something else has."""
    found = []
    files = {file.path for file in recipe.files}
    for path in sorted(files):
        if path in _ACCOUNTS:
            found.append(f"files: {path}: it is made of users")
        if path == "/usr/local/bin/capsem" or path.split("/")[1] in _COVERED:
            found.append(f"files: {path}: a machine has its own there, and this one would not be seen")
    for path in [*sorted(files), *(user.home for user in recipe.users)]:
        pieces = path.split("/")
        above = ["/".join(pieces[:count]) for count in range(2, len(pieces))]
        found += [f"files: {one} is a file, and {path} is below it" for one in above if one in files]
    found += [f"files: {user.home} is a home" for user in recipe.users if user.home in files]
    return found


def _beside(untrusted_name: Any, place: str, beside: Callable[[str], str] | None) -> str:
    if not isinstance(untrusted_name, str) or not _BESIDE.fullmatch(untrusted_name):
        raise _wrong(place, f"npm_lock: {untrusted_name!r} is no name of a file beside the recipe")
    if beside is None:
        raise _wrong(place, "npm_lock: this recipe has no file beside it")
    return beside(untrusted_name)


def _user(user: User) -> list[str]:
    found = []
    if not _USER.fullmatch(user.name):
        found.append(f"users: {user.name!r} is no name of a user")
    if user.name in _DEBIANS.split():
        found.append(f"users: {user.name} is a user or a group of Debian's; choose another name")
    if not absolute(user.shell) or (user.home and not absolute(user.home)):
        found.append(f"users: {user.name}: home and shell are absolute paths")
    return found


def absolute(path: str) -> bool:
    """Whether this is an absolute path, below the root, of plain pieces and printable characters."""
    pieces = path.split("/")[1:]
    return (
        path.startswith("/")
        and path.isprintable()
        and ":" not in path
        and not any(piece in {"", ".", ".."} for piece in pieces)
    )


def _versions(key: str, table: dict[str, str], name: re.Pattern[str]) -> list[str]:
    found = [f"{key}: {one!r} is no name of a package" for one in table if not name.fullmatch(one)]
    return found + [
        f"{key}: {one}: {version!r} is no exact version"
        for one, version in table.items()
        if not _EXACT.fullmatch(version)
    ]


def _twice(names: tuple[str, ...] | list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _wrong(place: str, what: Any) -> RecipeError:
    return RecipeError(f"{place}: {what}", next_step="correct the recipe; docs/formats/image.md has its keys")
