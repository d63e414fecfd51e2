"""Training rows, the order of an epoch, and batches in which every distinct image appears once.

Everything drawn depends on (seed, epoch, row) alone, so that neither the number of loader workers
nor a resumed run changes anything.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cir_plugins.data.images import Augmentation, augment, open_image
from cir_plugins.data.table import Row, TrainingTable, excluded_images
from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.errors import CIRError
from cir_plugins.seeds import mix_seed
from cir_plugins.types import Backbone, Batch


@dataclass(frozen=True)
class BatchPlan:
    """What a batch is made of; sent to the worker that makes it.

    Attributes:
        epoch: 0-based epoch.
        number: Position in the epoch.
        rows: Indices of the training rows.
        mined: (B, K) image indices of mined negatives, -1 where there is none; or None.
    """

    epoch: int
    number: int
    rows: tuple[int, ...]
    mined: Tensor | None = None


def epoch_plans(
    rows: int, *, batch_size: int, drop_last: bool, seed: int, epoch: int, mined: Tensor | None
) -> list[BatchPlan]:
    """The batches of an epoch in a drawn order.

    Args:
        rows: Number of training rows.
        batch_size: Rows per batch, at most.
        drop_last: Whether an incomplete last batch is left out; where not, the rows are shared out
            so that batches differ by one row at most.
        seed: Seed of the run.
        epoch: 0-based epoch.
        mined: (rows, K) mined negatives of the epoch, or None.

    Raises:
        CIRError: If no batch is left.
    """
    generator = torch.Generator().manual_seed(mix_seed(seed, epoch))
    order = torch.randperm(rows, generator=generator)
    if drop_last:
        kept = rows - rows % batch_size
        chunks = [order[first : first + batch_size] for first in range(0, kept, batch_size)]
    else:
        # Shared out evenly: the one or two rows that may be left over would have no negatives.
        chunks = list(order.tensor_split(-(-rows // batch_size)))
    if not chunks:
        raise CIRError(
            f"train.batch_size {batch_size} exceeds the {rows} training rows and "
            "train.drop_last leaves no batch; accepted: a smaller batch, or drop_last=false"
        )
    return [
        BatchPlan(epoch, i, tuple(chunk.tolist()), None if mined is None else mined[chunk])
        for i, chunk in enumerate(chunks)
    ]


class BatchSource(torch.utils.data.Dataset[Batch]):
    """Makes the batch of a plan; the data set behind the training loader.

    Args:
        table: The training rows.
        backbone: Gives ``preprocess`` and ``tokenize``.
        seed: Seed of the run.
        known: Which known images never are negatives (``TrainSettings.known_positives``).
        augmentation: Augmentation of the images.
        with_images: False where cached features replace the pixels.
        text_variants: Further readings of the captions, name -> caption_edit of a raw caption.
        caption_edit: Edit of every raw caption, or None.
        processes: The processes that share a batch; images of other processes' rows are left out.
        micro_batch: Rows of the batch that are embedded at once (``TrainSettings.micro_batch``).
    """

    def __init__(
        self,
        table: TrainingTable,
        backbone: Backbone,
        *,
        seed: int,
        known_positives: str = "all",
        augmentation: Augmentation = "none",
        with_images: bool = True,
        text_variants: Mapping[str, Callable[[str], str]] | None = None,
        caption_edit: Callable[[str], str] | None = None,
        processes: ProcessGroup | None = None,
        micro_batch: int = 0,
    ) -> None:
        self.table = table
        self.preprocess = backbone.preprocess
        self.tokenize = backbone.tokenize
        self.seed = seed
        self.known_positives = known_positives
        self.augmentation: Augmentation = augmentation
        self.with_images = with_images
        self.text_variants = dict(text_variants or {})
        self.caption_edit = caption_edit
        self.processes = processes or ProcessGroup()
        self.micro_batch = micro_batch

    def __getitem__(self, plan: BatchPlan) -> Batch:
        """The batch of a plan."""
        rows = [self.table.rows[index] for index in plan.rows]
        candidates = _candidates(rows, plan.mined)
        column = {image: place for place, image in enumerate(candidates)}
        references = [row.reference for row in rows]
        distinct = list(dict.fromkeys([*self._own(candidates), *self._own(references)]))
        place = {image: number for number, image in enumerate(distinct)}
        text = self._texts(plan, rows, self.caption_edit, "text")
        return Batch(
            images=self._images(plan, distinct) if self.with_images else None,
            features=None,
            reference=torch.tensor([place.get(image, -1) for image in references]),
            candidates=torch.tensor([place.get(image, -1) for image in candidates]),
            target=torch.tensor([column[row.target] for row in rows]),
            excluded=self._excluded(rows, column),
            text=text,
            tokens=self.tokenize(text),
            mined=_mined(plan.mined, column),
            text_variants={
                name: self.tokenize(self._texts(plan, rows, caption_edit, name))
                for name, caption_edit in self.text_variants.items()
            },
            rows=torch.tensor(plan.rows),
            changed=[row.query.changed for row in rows],
            image_index=torch.tensor(distinct, dtype=torch.long),
        )

    def _own(self, images: Sequence[int]) -> Sequence[int]:
        span = self.processes.shard(len(images), self.micro_batch)
        return images[span.start : span.stop]

    def _images(self, plan: BatchPlan, images: Sequence[int]) -> Tensor:
        pixels = []
        for image in images:
            picture = open_image(self.table.paths[image])
            if self.augmentation != "none":
                # Reference and target of one batch share a picture where they are the same image.
                chance = random.Random(f"{self.seed} {plan.epoch} {plan.number} {image}")
                picture = augment(picture, self.augmentation, chance)
            pixels.append(self.preprocess(picture))
        return torch.stack(pixels) if pixels else torch.empty(0)

    def _texts(
        self,
        plan: BatchPlan,
        rows: Sequence[Row],
        caption_edit: Callable[[str], str] | None,
        view: str,
    ) -> list[str]:
        texts = []
        for index, row in zip(plan.rows, rows, strict=True):
            chance = random.Random(f"{self.seed} {plan.epoch} {index} {view}")
            captions = self.table.splits[row.split].captions
            query = row.query
            texts.append(
                captions.draw(query.captions, query.category, row.order, chance, caption_edit)
            )
        return texts

    def _excluded(self, rows: Sequence[Row], column: Mapping[int, int]) -> Tensor:
        """(B, C): other positives, and the reference where the protocol removes it."""
        excluded = torch.zeros(len(rows), len(column), dtype=torch.bool)
        for index, row in enumerate(rows):
            images = excluded_images(row, self.table.splits[row.split], self.known_positives)
            excluded[index, [column[image] for image in images if image in column]] = True
        return excluded


def _candidates(rows: Sequence[Row], mined: Tensor | None) -> list[int]:
    """Distinct images of the columns: the targets in order, then mined ones."""
    images = [row.target for row in rows]
    if mined is not None:
        images += [image for image in mined.flatten().tolist() if image >= 0]
    return list(dict.fromkeys(images))


def _mined(mined: Tensor | None, column: Mapping[int, int]) -> Tensor | None:
    if mined is None:
        return None
    mask = torch.zeros(len(mined), len(column), dtype=torch.bool)
    for index, images in enumerate(mined.tolist()):
        mask[index, [column[image] for image in images if image >= 0]] = True
    return mask
