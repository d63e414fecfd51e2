"""Drawn garments as generators of the host."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from cir_plugins import Generated
from garments_plugin.look_alikes import write_look_alikes
from garments_plugin.write import write_garments


class _Drawn(ABC):
    """A drawn set: what is written and how it is summed up is a derived class's."""

    def __init__(
        self,
        *,
        size: Annotated[int, Field(ge=32, le=512)] = 96,
        val_share: Annotated[float, Field(gt=0, lt=1)] = 0.25,
    ) -> None:
        self.size = size
        self.val_share = val_share

    def __call__(
        self,
        folder: Path,
        *,
        images: int,
        seed: int = 0,
        workers: int | None = None,
        progress: bool = True,
    ) -> Generated:
        """The drawn set, written whole or not at all.

        Args:
            folder: A new or empty folder.
            images: Number of images, 50 or more; of look-alikes 60 or more, up to 5 of which are
                left out for whole groups.
            seed: The same seed gives the same bytes.
            workers: Processes that draw; None for one per core.
            progress: Whether a bar is shown.

        Raises:
            CIRError: If the folder is in use or cannot be written, or a number is out of range.
        """
        return self._written(
            folder,
            images=images,
            seed=seed,
            size=self.size,
            val_share=self.val_share,
            workers=workers,
            progress=progress,
        )

    @abstractmethod
    def _written(self, folder: Path, **options: Any) -> Generated:
        """The set, written with the arguments of a call and the options."""


class Garments(_Drawn):
    """Drawn garments in FashionIQ's layout.

    Args:
        size: Side of an image in pixels, 32 to 512.
        val_share: Share of the images in the val split, above 0 and below 1.
    """

    def _written(self, folder: Path, **options: Any) -> Generated:
        summary = write_garments(folder, **options)
        lines = (
            f"{split}: {count:,} images, {summary.split_triplets[split]:,} triplets, "
            f"{summary.mean_positives[split]:.2f} positives each"
            for split, count in summary.split_images.items()
        )
        return Generated("fashioniq", tuple(lines))


class LookAlikes(_Drawn):
    """Drawn garments in groups of six look-alikes, in CIRR's layout.

    Args:
        size: Side of an image in pixels, 32 to 512.
        val_share: Share of the groups in the val split, above 0 and below 1.
    """

    def _written(self, folder: Path, **options: Any) -> Generated:
        summary = write_look_alikes(folder, **options)
        lines = (
            f"{split}: {count:,} images, {summary.triplets[split]:,} triplets"
            for split, count in summary.images.items()
        )
        return Generated("cirr", tuple(lines))
