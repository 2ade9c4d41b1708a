"""The recipes and the kernel configuration that come with this distribution, and recipes from files.

Refuses a name that is neither a file nor one of ours.

    load("default").packages
"""

from __future__ import annotations

from pathlib import Path

from capsem.errors import ImageError, NotFoundError
from capsem.vm.recipe import Recipe, parse

# Beside the package when it is installed, in the distribution's folder when it is used from a clone.
_PLACES = (Path(__file__).resolve().parents[1] / "guest", Path(__file__).resolve().parents[3] / "guest")


def load(name_or_path: str) -> Recipe:
    """A recipe by the name of one of ours, or by a path (which has a `/` or ends in `.toml`).

    Raises:
        NotFoundError: there is none.
        ImageError: it is no recipe.
    """
    if "/" in name_or_path or name_or_path.endswith(".toml"):
        path = Path(name_or_path)
    else:
        path = _folder() / f"{name_or_path}.toml"
    if not path.exists():
        listed = ", ".join(ours())
        raise NotFoundError(f"no recipe {name_or_path!r}", next_step=f"name a file, or one of: {listed}")
    text = _text(path)
    return parse(text, str(path), lambda name: _text(path.parent / name))


def ours() -> list[str]:
    """The names of those that come along."""
    return sorted(one.stem for one in _folder().glob("*.toml"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(
            f"{path} cannot be read: {error}", next_step="name a file in UTF-8 that you may read"
        ) from error


def kernel_config() -> str:
    """The configuration of the hardened kernel."""
    return (_folder() / "kernel.config").read_text(encoding="utf-8")


def _folder() -> Path:
    for place in _PLACES:
        if place.is_dir():
            return place
    raise ImageError("this installation of capsem lacks its folder `guest`", next_step="install capsem again")
