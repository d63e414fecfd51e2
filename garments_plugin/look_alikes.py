"""Drawn garments in groups of look-alikes, on disk in CIRR's layout.

A group's images are of one category and differ from a common garment in one attribute or two, each
from all others of the group, as CIRR's groups of similar pictures do. Other groups may hold equal
garments: images that are right for a query and that nobody has marked. ``attributes.json`` says
which they are.

Source of the layout: Liu et al., 2021, arXiv 2108.04024 (groups of six, one caption a pair).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from garments_plugin.captions import full_caption
from garments_plugin.kinds import CATEGORIES, Garment, other_value, sample_garment
from garments_plugin.output import check_numbers, draw_all, whole_folder, write_json
from garments_plugin.triplets import changed_attributes, signature

GROUP = 6
MIN_IMAGES = 60
# CIRR's names of the splits, and of the folders that hold their images.
SPLITS = {"train": "train", "val": "dev"}
# A query for each ordered pair of the group in which the caption changes one attribute or two.
_MOST_CHANGES = 2
_PAIRS = 9
_TRIES = 200


@dataclass(frozen=True)
class Summary:
    """Counts of a written set per split."""

    images: Mapping[str, int]
    triplets: Mapping[str, int]


@cache
def _group(seed: int, number: int) -> tuple[Garment, ...]:
    """The garments of a group, no two of which have the same attributes."""
    rng = np.random.default_rng([seed, number, 2])
    first = sample_garment(rng, CATEGORIES[number % len(CATEGORIES)])
    garments, seen = [first], {signature(first.attributes())}
    for _ in range(_TRIES):
        garment = garments[int(rng.integers(len(garments)))]
        for _ in range(1 + int(rng.random() < 0.3)):
            garment = other_value(garment, rng)
        key = signature(garment.attributes())
        if key not in seen:
            seen.add(key)
            garments.append(garment)
        if len(garments) == GROUP:
            return tuple(garments)
    raise RuntimeError(f"group {number} of seed {seed} has {len(garments)} garments")


def garment_at(seed: int, index: int) -> tuple[Garment, np.random.Generator]:
    """What the image with this number shows, and the randomness that draws it."""
    return _group(seed, index // GROUP)[index % GROUP], np.random.default_rng([seed, index, 3])


def _name(split: str, number: int, member: int) -> str:
    return f"{SPLITS[split]}-{number}-{member}-img0"


def _entries(split: str, number: int, seed: int, first: int) -> list[dict[str, Any]]:
    """The caption file's entries of a group, with pair ids from ``first``."""
    rng = np.random.default_rng([seed, number, 4])
    attributes = [garment.attributes() for garment in _group(seed, number)]
    members = [_name(split, number, member) for member in range(GROUP)]
    pairs = [(one, two) for one in range(GROUP) for two in range(GROUP) if one != two]
    entries: list[dict[str, Any]] = []
    for place in rng.permutation(len(pairs)).tolist():
        reference, target = pairs[place]
        changed = changed_attributes(attributes[reference], attributes[target])
        if not 1 <= len(changed) <= _MOST_CHANGES or len(entries) == _PAIRS:
            continue
        entries.append(
            {
                "pairid": first + len(entries),
                "reference": members[reference],
                "target_hard": members[target],
                "target_soft": {members[target]: 1.0},
                "caption": full_caption(attributes[reference], attributes[target], changed, rng),
                "img_set": {
                    "id": number,
                    "members": members,
                    "reference_rank": reference,
                    "target_rank": target,
                },
            }
        )
    return entries


def _write_annotations(root: Path, groups: Mapping[str, Sequence[int]], seed: int) -> Summary:
    attributes: dict[str, dict[str, str]] = {}
    images, triplets = {}, {}
    for split, numbers in groups.items():
        entries: list[dict[str, Any]] = []
        paths: dict[str, str] = {}
        for number in numbers:
            entries += _entries(split, number, seed, len(entries))
            for member, garment in enumerate(_group(seed, number)):
                name = _name(split, number, member)
                attributes[name] = garment.attributes()
                paths[name] = f"./{SPLITS[split]}/{name}.jpg"
        write_json(root / "captions" / f"cap.rc2.{split}.json", entries)
        write_json(root / "image_splits" / f"split.rc2.{split}.json", paths)
        images[split], triplets[split] = len(paths), len(entries)
    write_json(root / "attributes.json", attributes)
    return Summary(images, triplets)


def write_look_alikes(
    out: Path,
    *,
    images: int,
    seed: int = 0,
    val_share: float = 0.25,
    size: int = 96,
    workers: int | None = None,
    progress: bool = True,
) -> Summary:
    """Write groups of look-alikes in CIRR's layout, splits train and val; return their counts.

    The same seed and options give the same bytes, with any number of workers.

    Args:
        out: A new or empty folder; it appears when everything is written.
        images: Number of images, 60 or more; groups are whole, so that up to 5 are left out.
        seed: 0 or more.
        val_share: Share of the groups in the val split, between 0 and 1.
        size: Width and height of the images in pixels, 32 to 512.
        workers: Drawing processes; one per core if left out, at most one per 500 images.
        progress: Whether to show a progress bar.

    Raises:
        CIRError: If an option is out of range, ``out`` is not empty, or the files cannot be
            written.
    """
    check_numbers(images, MIN_IMAGES, size, val_share, workers, seed)
    count = images // GROUP
    held = min(max(round(val_share * count), 1), count - 1)
    order = np.random.default_rng([seed, 5]).permutation(count).tolist()
    groups = {"train": sorted(order[held:]), "val": sorted(order[:held])}
    split_of = {number: split for split, numbers in groups.items() for number in numbers}
    with whole_folder(Path(out)) as root:
        for name in ("captions", "image_splits", *SPLITS.values()):
            (root / name).mkdir()
        summary = _write_annotations(root, groups, seed)
        paths = [
            root / SPLITS[split_of[number]] / f"{_name(split_of[number], number, member)}.jpg"
            for number in range(count)
            for member in range(GROUP)
        ]
        draw_all(paths, garment_at, seed=seed, size=size, workers=workers, progress=progress)
    return summary
