"""open_clip's own training loop on drawn garments, with and without mined captions."""

from __future__ import annotations

import argparse
import logging
from functools import cache, partial
from types import SimpleNamespace

import numpy as np
import torch
from measured import compare
from open_clip import CLIP
from open_clip_train.train import train_one_epoch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from cir_plugins.garments import draw_garment, sample_garment
from dqe_plugin.adapters.open_clip import MinedClipLoss
from dqe_plugin.negatives import negatives_of_embeddings

COUNT, LENGTH = 4, 8
WORDS = 96


@cache
def garments(seed: int, split: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images (400, 3, 32, 32), captions (400, 8) and a number for each different caption."""
    rng = np.random.default_rng([seed, split])
    drawn = [sample_garment(rng) for _ in range(400)]
    pictures = np.stack([np.asarray(draw_garment(one, rng, size=32)) for one in drawn])
    names = [f"{g.colour},{g.pattern},{g.garment}" for g in drawn]
    tokens = torch.zeros(len(drawn), LENGTH, dtype=torch.long)
    for row, name in enumerate(names):
        # a stable number for each word; the end of the text is the largest of all
        numbers = [1 + sum(map(ord, word)) * len(word) % (WORDS - 2) for word in name.split(",")]
        tokens[row, : len(numbers) + 1] = torch.tensor([*numbers, WORDS - 1])
    _, kinds = torch.unique(tokens, dim=0, return_inverse=True)
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    return images, tokens, kinds


class WithMined(torch.nn.Module):
    """A CLIP whose texts (B, 1 + K, L) are the caption and its image's wrong captions."""

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.clip = clip
        self.logit_scale = clip.logit_scale

    def forward(self, images: Tensor, texts: Tensor) -> dict[str, Tensor]:
        """What open_clip's loop hands on to the loss."""
        found: dict[str, Tensor] = self.clip(images, texts[:, 0])
        if texts.shape[1] > 1:
            mined = self.clip.encode_text(texts[:, 1:].flatten(0, 1), normalize=True)
            found["mined_text_features"] = mined.unflatten(0, (len(texts), -1))
        return found


def rows(way: str, model: CLIP, seed: int, epoch: int) -> TensorDataset:
    """Images with their captions, and the mined ones beside them."""
    images, tokens, _ = garments(seed, 0)
    texts = tokens[:, None]
    if way != "batch alone":
        with torch.no_grad():
            vectors = (model.encode_image(images, normalize=True), model.encode_text(tokens, True))
        marked = torch.arange(len(images))
        if way == "hardest":
            scores = (vectors[0] @ vectors[1].T).fill_diagonal_(-torch.inf)
            ids = scores.topk(COUNT).indices
        else:
            # an equal caption scores as the marked one, so the sampler leaves it out by itself
            ids = negatives_of_embeddings(*vectors, marked, count=COUNT, seed=epoch, complete=True)
        texts = torch.cat([texts, tokens[ids]], dim=1)
    return TensorDataset(images, texts)


def train(way: str, seed: int) -> float:
    """Share of new pictures whose best caption is a right one, after 30 epochs."""
    torch.manual_seed(seed)
    vision = {"image_size": 32, "patch_size": 8, "width": 64, "head_width": 32, "layers": 2}
    text = {"context_length": LENGTH, "vocab_size": WORDS, "width": 64, "heads": 2, "layers": 1}
    model = CLIP(embed_dim=32, vision_cfg=vision, text_cfg=text, output_dict=True)
    wrapped = WithMined(model)
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=1e-3)
    options = argparse.Namespace(
        device="cpu", precision="fp32", distill=False, accum_freq=1, skip_scheduler=True,
        grad_clip_norm=None, horovod=False, rank=0, local_rank=0, log_every_n_steps=10**6,
        log_local=False, world_size=1, batch_size=40, wandb=False, distributed=False,
    )  # fmt: skip
    for epoch in range(30):
        order = torch.Generator().manual_seed(1000 * seed + epoch)
        data = rows(way, model, seed, epoch)
        loader = DataLoader(data, batch_size=40, shuffle=True, generator=order, drop_last=True)
        loader.num_batches, loader.num_samples = len(loader), len(data)
        part = SimpleNamespace(dataloader=loader, set_epoch=lambda epoch: None)
        loop = partial(train_one_epoch, scaler=None, scheduler=None, dist_model=None)
        loop(wrapped, {"train": part}, MinedClipLoss(), epoch, optimizer, args=options)
    images, tokens, kinds = garments(seed, 1)
    model.eval()
    with torch.no_grad():
        best = (model.encode_image(images, True) @ model.encode_text(tokens, True).T).argmax(dim=1)
    return float((kinds[best] == kinds).float().mean())


if __name__ == "__main__":
    logging.disable(logging.INFO)
    ways = ("batch alone", "hardest", "target-relative")
    compare("share of right best captions of new pictures", train, ways)
