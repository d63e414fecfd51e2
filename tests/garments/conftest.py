from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from garments_plugin import Summary, write_garments
from garments_plugin.kinds import CATEGORIES

SPLITS = ("train", "val")


@dataclass(frozen=True)
class DrawnSet:
    """A written set and its files, read back."""

    root: Path
    summary: Summary

    def read(self, name: str) -> Any:
        """A JSON file of the set."""
        return json.loads((self.root / name).read_text(encoding="utf-8"))

    @property
    def attributes(self) -> dict[str, dict[str, str]]:
        """Image id to attributes."""
        table: dict[str, dict[str, str]] = self.read("attributes.json")
        return table

    def galleries(self) -> list[tuple[str, list[str], list[dict[str, Any]], list[str]]]:
        """Name, image ids, triplets and their kinds of each category and split."""
        result = []
        for category in CATEGORIES:
            for split in SPLITS:
                name = f"{category}.{split}"
                result.append(
                    (
                        name,
                        self.read(f"image_splits/split.{name}.json"),
                        self.read(f"captions/cap.{name}.json"),
                        self.read(f"meta/kinds.{name}.json"),
                    )
                )
        return result


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> DrawnSet:
    root = tmp_path_factory.mktemp("garments") / "set"
    summary = write_garments(root, images=200, seed=3, size=32, workers=1, progress=False)
    return DrawnSet(root, summary)
