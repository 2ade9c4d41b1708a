from __future__ import annotations

import json
import uuid

from capsem.vm.image import Package
from capsem.vm.sbom import document, purl, quote

PACKAGES = (
    Package(kind="deb", name="libstdc++6", version="1:12.2.0-14"),
    Package(kind="npm", name="@anthropic-ai/claude-code", version="2.0.1"),
    Package(kind="pypi", name="Ruamel_Yaml", version="0.18"),
)


def made(packages: tuple[Package, ...] = PACKAGES) -> bytes:
    return document(
        name="x", epoch=1_761_955_200, packages=packages, kernel=("stock", "6.1"), suite="bookworm"
    )


def test_package_urls() -> None:
    assert [purl(one, "bookworm") for one in PACKAGES] == [
        "pkg:deb/debian/libstdc%2B%2B6@1%3A12.2.0-14?distro=bookworm",
        "pkg:npm/%40anthropic-ai/claude-code@2.0.1",
        "pkg:pypi/ruamel-yaml@0.18",
    ]


def test_the_same_packages_give_the_same_bytes() -> None:
    assert made() == made()
    one, other = json.loads(made()), json.loads(made(PACKAGES[:1]))
    assert one["serialNumber"] != other["serialNumber"]
    assert uuid.UUID(one["serialNumber"]).version == 8


def test_everything_is_listed_once() -> None:
    whole = json.loads(made())
    references = [one["bom-ref"] for one in whole["components"]]
    assert len(set(references)) == len(PACKAGES) + 1
    assert whole["dependencies"] == [{"ref": "image", "dependsOn": references}]
    assert whole["metadata"]["timestamp"] == "2025-11-01T00:00:00Z"


def test_quoting() -> None:
    assert quote("a~é/") == "a~%C3%A9%2F"
