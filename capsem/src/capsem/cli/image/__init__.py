"""`capsem image`: what machines are made from; one verb a file.

capsem image list
"""

from __future__ import annotations

import click

from capsule.cli.lazy import LazyGroup


@click.group(
    "image",
    cls=LazyGroup,
    verbs={
        "build": ("capsem.cli.image.build", "Build an image from a recipe."),
        "inspect": ("capsem.cli.image.inspect", "Show what an image is made of."),
        "list": ("capsem.cli.image.list", "List the images."),
        "rm": ("capsem.cli.image.rm", "Remove an image that no machine depends on."),
        "verify": ("capsem.cli.image.verify", "Compare every byte of an image with its manifest."),
    },
)
def command() -> None:
    """Build images and look after them."""
