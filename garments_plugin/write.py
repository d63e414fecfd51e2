"""The drawn set on disk, in FashionIQ's layout, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from garments_plugin.kinds import CATEGORIES, Garment, sample_garment
from garments_plugin.output import check_numbers, draw_all, whole_folder, write_json
from garments_plugin.triplets import Triplet, make_triplets, mean_positives

MIN_IMAGES = 50
SPLITS = ("train", "val")
_TRIPLETS_EACH = {"train": 2, "val": 1}
# One round of twenty images: every fifth or so is a top, and no category is left out.
_ROUND = (
    *("toptee", "dress", "shoes", "shirt", "bottoms", "toptee", "bags", "accessory", "shirt"),
    *("dress", "toptee", "bottoms", "shoes", "shirt", "toptee", "accessory", "bags", "dress"),
    *("bottoms", "toptee"),
)


@dataclass(frozen=True)
class Summary:
    """Counts of a written set per split, and the mean number of positives per query."""

    out: Path
    images: int
    split_images: Mapping[str, int]
    split_triplets: Mapping[str, int]
    mean_positives: Mapping[str, float]


def image_id(index: int) -> str:
    """The id of the image with this number."""
    return f"DG{index:06d}"


def garment_at(seed: int, index: int) -> tuple[Garment, np.random.Generator]:
    """What the image with this number shows, and the randomness that draws it."""
    rng = np.random.default_rng([seed, index])
    return sample_garment(rng, _ROUND[index % len(_ROUND)]), rng


def _split_ids(ids: list[str], share: float, rng: np.random.Generator) -> dict[str, list[str]]:
    """Train and val ids of a category; each split gets at least two where it can."""
    held = min(max(round(share * len(ids)), 2), len(ids) - 2)
    order = rng.permutation(len(ids))
    return {
        "val": sorted(ids[int(number)] for number in order[:held]),
        "train": sorted(ids[int(number)] for number in order[held:]),
    }


def _write_split(
    root: Path, category: str, split: str, ids: list[str], triplets: list[Triplet]
) -> None:
    name = f"{category}.{split}.json"
    entries = [
        {"target": t.target, "candidate": t.reference, "captions": list(t.captions)}
        for t in triplets
    ]
    write_json(root / "captions" / f"cap.{name}", entries)
    write_json(root / "image_splits" / f"split.{name}", ids)
    write_json(root / "meta" / f"kinds.{name}", ["+".join(t.changed) for t in triplets])


def write_annotations(root: Path, out: Path, *, images: int, seed: int, share: float) -> Summary:
    """Write the annotations of a set, without images; return its counts.

    Args:
        root: Folder with ``captions``, ``image_splits`` and ``meta``.
        out: Final folder of the set, for the summary.
        images: Number of images.
        seed: Seed of the set.
        share: Share of the images in the val split.
    """
    attributes: dict[str, dict[str, str]] = {}
    members: dict[str, list[str]] = {category: [] for category in CATEGORIES}
    for index in range(images):
        garment, _ = garment_at(seed, index)
        attributes[image_id(index)] = garment.attributes()
        members[garment.category].append(image_id(index))
    write_json(root / "attributes.json", attributes)
    counts = dict.fromkeys(SPLITS, 0)
    queries = dict.fromkeys(SPLITS, 0)
    positives = dict.fromkeys(SPLITS, 0.0)
    for number, category in enumerate(CATEGORIES):
        # A third number separates these streams from those of the images.
        rng = np.random.default_rng([seed, number, 1])
        for split, ids in _split_ids(members[category], share, rng).items():
            triplets = make_triplets(ids, attributes, rng, each=_TRIPLETS_EACH[split])
            _write_split(root, category, split, ids, triplets)
            counts[split] += len(ids)
            queries[split] += len(triplets)
            positives[split] += mean_positives(triplets, ids, attributes) * len(triplets)
    means = {split: round(positives[split] / max(queries[split], 1), 3) for split in SPLITS}
    return Summary(out, images, counts, queries, means)


def write_garments(
    out: Path,
    *,
    images: int = 2000,
    seed: int = 0,
    val_share: float = 0.25,
    size: int = 96,
    workers: int | None = None,
    progress: bool = True,
) -> Summary:
    """Write a set of drawn garments in FashionIQ's layout; return its counts.

    The same seed and options give the same bytes in every file, with any number of workers.
    More than one worker starts fresh processes, so a script calls this under
    ``if __name__ == "__main__"``.

    Args:
        out: A new or empty folder; it appears when everything is written.
        images: Number of images, 50 or more.
        seed: 0 or more.
        val_share: Share of the images in the val split, between 0 and 1.
        size: Width and height of the images in pixels, 32 to 512.
        workers: Drawing processes; one per core if left out, at most one per 500 images.
        progress: Whether to show a progress bar.

    Raises:
        CIRError: If an option is out of range, ``out`` is not empty, or the files cannot be
            written.
    """
    out = Path(out)
    check_numbers(images, MIN_IMAGES, size, val_share, workers, seed)
    with whole_folder(out) as root:
        for name in ("captions", "image_splits", "images", "meta"):
            (root / name).mkdir()
        summary = write_annotations(root, out, images=images, seed=seed, share=val_share)
        paths = [root / "images" / f"{image_id(number)}.jpg" for number in range(images)]
        draw_all(paths, garment_at, seed=seed, size=size, workers=workers, progress=progress)
    return summary
