"""`capsem image build`: from a recipe to an image.

capsem image build --recipe minimal -n small
"""

from __future__ import annotations

from pathlib import Path

import click

from capsem.cli import terminal
from capsem.cli.image.shown import summary
from capsem.errors import ImageError
from capsem.host import recipes
from capsem.host.build import BuildSpec, build
from capsem.vm import packages
from capsem.vm.image import Flavour


@click.command("build", epilog="Example: capsem image build --recipe minimal")
@click.option(
    "--recipe",
    default="default",
    show_default=True,
    help="A file, or one that comes along: default, minimal, agents.",
)
@click.option(
    "--kernel",
    type=click.Choice(["hardened", "stock"]),
    default="hardened",
    show_default=True,
    help="Ours, compiled here, or Debian's for clouds.",
)
@click.option("-n", "--name", help="What to call it; the recipe's name when not given.")
@click.option(
    "--agent", type=click.Path(path_type=Path), help="The guest's agent; the installed one when not given."
)
@click.option(
    "--lock",
    "lock_file",
    type=click.Path(path_type=Path),
    help="Refuse packages other than those of this file.",
)
@click.option(
    "--write-lock", type=click.Path(path_type=Path), help="Write what was installed into this file."
)
@click.option("--fresh", is_flag=True, help="Install the packages again, as Debian has them now.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(
    *,
    recipe: str,
    kernel: Flavour,
    name: str | None,
    agent: Path | None,
    lock_file: Path | None,
    write_lock: Path | None,
    fresh: bool,
    as_json: bool,
) -> None:
    """Build an image: root file system, kernel, initrd, list of contents.

    What it is made of is kept in the cache; a second build of the same recipe takes seconds and has the same digest.
    """
    lock = None
    if lock_file is not None:
        try:
            lock = packages.read_lock(lock_file.read_text(encoding="utf-8"), str(lock_file))
        except (OSError, UnicodeDecodeError) as error:
            raise ImageError(
                f"{lock_file} cannot be read: {error}",
                next_step="name a lock that was written with --write-lock",
            ) from error
    spec = BuildSpec(
        recipe=recipes.load(recipe), kernel=kernel, name=name, agent=agent, lock=lock, fresh=fresh
    )
    with terminal.progress() as progress:
        image = build(spec, progress)
    if write_lock is not None:
        write_lock.write_text(packages.lock_text(image.manifest.packages), encoding="utf-8")
    if as_json:
        terminal.say_json(summary(image, [name or spec.recipe.name]))
    else:
        terminal.say(f"{name or spec.recipe.name}  {image.digest[:12]}  {terminal.megabytes(image.size)}")
