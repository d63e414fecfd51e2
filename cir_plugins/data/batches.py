"""The order of an epoch, and training batches in which every distinct image appears once.

Everything drawn depends on (seed, epoch, triplet) alone, so that neither the number of loader
workers nor a resumed run changes anything.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cir_plugins.data.augment import Augmentation, augment
from cir_plugins.data.images import open_image
from cir_plugins.data.table import ImageLists, TrainingTable, Triplet
from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.errors import CIRError
from cir_plugins.seeds import mix_seed
from cir_plugins.types import Backbone, Batch


@dataclass(frozen=True)
class BatchPlan:
    """The contents of a batch, sent to the worker that makes it.

    Attributes:
        epoch: 0-based epoch.
        number: Position in the epoch.
        triplet_index: Indices of the training triplets.
        mined: (B, K) image indices of mined negatives, -1 where there is none; or None.
        ambiguous: Images that are no negatives of each triplet until the next refresh; or None.
    """

    epoch: int
    number: int
    triplet_index: tuple[int, ...]
    mined: Tensor | None = None
    ambiguous: ImageLists | None = None


def epoch_plans(
    triplets: int,
    *,
    batch_size: int,
    drop_last: bool,
    seed: int,
    epoch: int,
    mined: Tensor | None,
    ambiguous: ImageLists | None = None,
) -> list[BatchPlan]:
    """The batches of an epoch in a drawn order.

    Args:
        triplets: Number of training triplets.
        batch_size: Triplets per batch, at most.
        drop_last: Whether an incomplete last batch is left out; where not, the triplets are shared
            out so that batches differ by one at most.
        seed: Seed of the run.
        epoch: 0-based epoch.
        mined: (triplets, K) mined negatives of the epoch, or None.
        ambiguous: Images that are no negatives of each of the triplets, or None.

    Raises:
        CIRError: If no batch is left.
    """
    generator = torch.Generator().manual_seed(mix_seed(seed, epoch))
    order = torch.randperm(triplets, generator=generator)
    if drop_last:
        batches = list(torch.split(order[: triplets - triplets % batch_size], batch_size))
    else:
        # Shared out evenly: the one or two that may be left over would have no negatives.
        batches = list(order.tensor_split(-(-triplets // batch_size)))
    if not batches or not len(batches[0]):
        raise CIRError(
            f"train.batch_size {batch_size} exceeds the {triplets} training triplets and "
            "train.drop_last leaves no batch; accepted: a smaller batch, or drop_last=false"
        )
    return [
        BatchPlan(
            epoch,
            number,
            tuple(index.tolist()),
            None if mined is None else mined[index],
            None if ambiguous is None else ambiguous.of_triplets(index),
        )
        for number, index in enumerate(batches)
    ]


class BatchSource(torch.utils.data.Dataset[Batch]):
    """Makes the batch of a plan; the data set behind the training loader.

    Args:
        table: The training triplets.
        backbone: Gives ``preprocess`` and ``tokenize``.
        seed: Seed of the run.
        known_positives: Which images are never negatives (``TrainSettings.known_positives``).
        augmentation: Augmentation of the images.
        with_images: False where cached features replace the pixels.
        text_variants: Further readings of the captions, name -> caption_edit of a raw caption.
        caption_edit: Edit of every raw caption, or None.
        processes: The processes that share a batch; images that another one has are left out.
        micro_batch: Queries of the batch that are embedded at once (``TrainSettings.micro_batch``).
    """

    def __init__(
        self,
        table: TrainingTable,
        backbone: Backbone,
        *,
        seed: int,
        known_positives: str | float = "all",
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
        self.excluded = table.excluded_images(known_positives)
        self.augmentation: Augmentation = augmentation
        self.with_images = with_images
        self.text_variants = dict(text_variants or {})
        self.caption_edit = caption_edit
        self.processes = processes or ProcessGroup()
        self.micro_batch = micro_batch

    def __getitem__(self, plan: BatchPlan) -> Batch:
        """The batch of a plan."""
        triplets = [self.table.triplets[index] for index in plan.triplet_index]
        candidates = _candidates(triplets, plan.mined)
        column = {image: number for number, image in enumerate(candidates)}
        references = [triplet.reference for triplet in triplets]
        distinct = list(dict.fromkeys([*self._shard(candidates), *self._shard(references)]))
        position = {image: number for number, image in enumerate(distinct)}
        text = self._texts(plan, triplets, self.caption_edit, "text")
        return Batch(
            images=self._images(plan, distinct) if self.with_images else None,
            features=None,
            reference=torch.tensor([position.get(image, -1) for image in references]),
            candidates=torch.tensor([position.get(image, -1) for image in candidates]),
            target=torch.tensor([column[triplet.target] for triplet in triplets]),
            excluded=self._excluded(plan, column),
            text=text,
            tokens=self.tokenize(text),
            mined=_mined(plan.mined, column),
            text_variants={
                name: self.tokenize(self._texts(plan, triplets, caption_edit, name))
                for name, caption_edit in self.text_variants.items()
            },
            triplet_index=torch.tensor(plan.triplet_index),
            changed=[triplet.query.changed for triplet in triplets],
            image_index=torch.tensor(distinct, dtype=torch.long),
        )

    def _shard(self, images: Sequence[int]) -> Sequence[int]:
        shard = self.processes.shard(len(images), self.micro_batch)
        return images[shard.start : shard.stop]

    def _images(self, plan: BatchPlan, images: Sequence[int]) -> Tensor:
        pixels = []
        for image in images:
            picture = open_image(self.table.paths[image])
            if self.augmentation != "none":
                # Reference and target of one batch share a picture where they are the same image.
                rng = random.Random(f"{self.seed} {plan.epoch} {plan.number} {image}")
                picture = augment(picture, self.augmentation, rng)
            pixels.append(self.preprocess(picture))
        return torch.stack(pixels) if pixels else torch.empty(0)

    def _texts(
        self,
        plan: BatchPlan,
        triplets: Sequence[Triplet],
        caption_edit: Callable[[str], str] | None,
        variant: str,
    ) -> list[str]:
        texts = []
        for index, triplet in zip(plan.triplet_index, triplets, strict=True):
            rng = random.Random(f"{self.seed} {plan.epoch} {index} {variant}")
            captions = self.table.splits[triplet.split].captions
            query = triplet.query
            texts.append(
                captions.draw(query.captions, query.category, triplet.order, rng, caption_edit)
            )
        return texts

    def _excluded(self, plan: BatchPlan, column: Mapping[int, int]) -> Tensor:
        """The false-negative mask (B, C) bool."""
        excluded = torch.zeros(len(plan.triplet_index), len(column), dtype=torch.bool)
        for row, index in enumerate(plan.triplet_index):
            images = self.excluded[index].tolist()
            if plan.ambiguous is not None:
                images += plan.ambiguous[row].tolist()
            excluded[row, [column[image] for image in images if image in column]] = True
        return excluded


def _candidates(triplets: Sequence[Triplet], mined: Tensor | None) -> list[int]:
    """Distinct images of the columns: the targets in order, then mined ones."""
    images = [triplet.target for triplet in triplets]
    if mined is not None:
        images += [image for image in mined.flatten().tolist() if image >= 0]
    return list(dict.fromkeys(images))


def _mined(mined: Tensor | None, column: Mapping[int, int]) -> Tensor | None:
    if mined is None:
        return None
    mask = torch.zeros(len(mined), len(column), dtype=torch.bool)
    for row, images in enumerate(mined.tolist()):
        mask[row, [column[image] for image in images if image >= 0]] = True
    return mask
