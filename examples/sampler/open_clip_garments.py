"""open_clip's own training loop on drawn garments, with and without mined captions.

The image tower of the small CLIP that ships with the project encodes the pictures once; a linear
map of its output and a text tower of their own are trained. Every picture has a caption in its own
words, and those of all garments of its kind, colour and pattern are right as well.
"""

from __future__ import annotations

import argparse
import logging
from functools import cache, partial
from types import SimpleNamespace

import numpy as np
import torch
from measured import compare, precision
from open_clip import CLIP
from open_clip_train.train import train_one_epoch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from cir_plugins.builtin.clip import TinyClip
from cir_plugins.integrations.open_clip import MinedClipLoss
from cir_plugins.mining import negatives_of_embeddings
from dqe_plugin.sampler import TargetRelative
from garments_plugin import draw_garment, sample_garment
from garments_plugin.captions import full_caption

COUNT, LENGTH = 4, 12
NAMED = ("garment", "colour", "pattern")
# Of 1500 captions 5 are right on average: the mid-zone begins behind the nearest 8 and ends at 45.
SAMPLER = TargetRelative(lower=0.005, upper=0.03)


@cache
def garments(seed: int, split: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, 64) of the pictures, captions (N, 12), and a number (N,) of equal meaning."""
    rng = np.random.default_rng([seed, split])
    drawn = [sample_garment(rng) for _ in range(count)]
    pictures = [np.asarray(draw_garment(one, rng, size=64)) for one in drawn]
    attributes = [one.attributes() for one in drawn]
    clip = TinyClip().eval()
    tokens = clip.tokenize([full_caption(each, each, NAMED, rng) for each in attributes])["ids"]
    with torch.no_grad():
        blocks = torch.stack([clip.preprocess(Image.fromarray(p)) for p in pictures]).split(250)
        features = torch.cat([clip.image(clip.features(block)) for block in blocks])
    kinds = [tuple(each[name] for name in NAMED) for each in attributes]
    numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
    return features, tokens[:, :LENGTH], torch.tensor([numbers[kind] for kind in kinds])


class WithMined(torch.nn.Module):
    """A CLIP whose texts (B, 1 + K, L) are the caption and its picture's wrong captions."""

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.clip = clip
        self.logit_scale = clip.logit_scale

    def forward(self, images: Tensor, texts: Tensor) -> dict[str, Tensor]:
        """What the loss gets from open_clip's loop."""
        output: dict[str, Tensor] = self.clip(images, texts[:, 0])
        if texts.shape[1] > 1:
            mined = self.clip.encode_text(texts[:, 1:].flatten(0, 1), normalize=True)
            output["mined_text_features"] = mined.unflatten(0, (len(texts), -1))
        return output


@torch.no_grad()
def rows(way: str, model: CLIP, images: Tensor, tokens: Tensor, epoch: int) -> TensorDataset:
    """Pictures with their captions, and the mined ones beside them."""
    texts = tokens[:, None]
    if way != "batch alone":
        model.eval()
        vectors = (model.encode_image(images, normalize=True), model.encode_text(tokens, True))
        marked = torch.arange(len(images))
        if way == "hardest":
            scores = (vectors[0] @ vectors[1].T).fill_diagonal_(-torch.inf)
            ids = scores.topk(COUNT).indices
        else:
            ids = negatives_of_embeddings(
                *vectors, marked, count=COUNT, sampler=SAMPLER, epoch=epoch, complete=True
            )
        texts = torch.cat([texts, tokens[ids]], dim=1)
    return TensorDataset(images, texts)


def small_clip(seed: int) -> CLIP:
    """A CLIP of open_clip with weights drawn from the seed, for pictures seen by another tower."""
    torch.manual_seed(seed)
    vision = {"image_size": 32, "patch_size": 32, "width": 32, "head_width": 32, "layers": 1}
    text = {
        **{"context_length": LENGTH, "vocab_size": 886, "width": 64, "heads": 2, "layers": 1},
        **{"pool_type": "first", "no_causal_mask": True},
    }
    model = CLIP(embed_dim=64, vision_cfg=vision, text_cfg=text, output_dict=True)
    model.visual = torch.nn.Linear(64, 64)
    return model


def train(way: str, seed: int, quick: bool) -> float:
    """Precision of the captions of new pictures after 12 epochs."""
    images, tokens, _ = garments(seed, 0, 100 if quick else 1500)
    model = small_clip(seed)
    wrapped = WithMined(model)
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=1e-3, weight_decay=0.01)
    options = argparse.Namespace(
        device="cpu", precision="fp32", distill=False, accum_freq=1, skip_scheduler=True,
        grad_clip_norm=None, horovod=False, rank=0, local_rank=0, log_every_n_steps=10**6,
        log_local=False, world_size=1, batch_size=50, wandb=False, distributed=False,
    )  # fmt: skip
    for epoch in range(1 if quick else 12):
        order = torch.Generator().manual_seed(1000 * seed + epoch)
        data = rows(way, model, images, tokens, epoch)
        loader = DataLoader(data, batch_size=50, shuffle=True, generator=order, drop_last=True)
        loader.num_batches, loader.num_samples = len(loader), len(data)
        source = SimpleNamespace(dataloader=loader, set_epoch=lambda epoch: None)
        loop = partial(train_one_epoch, scaler=None, scheduler=None, dist_model=None)
        loop(wrapped, {"train": source}, MinedClipLoss(), epoch, optimizer, args=options)
    images, tokens, kinds = garments(seed, 1, 60 if quick else 1000)
    model.eval()
    with torch.no_grad():
        return precision(model.encode_image(images), model.encode_text(tokens), kinds, kinds)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    ways = ("batch alone", "hardest", "target-relative")
    compare("R-precision of the captions of new pictures", train, ways)
