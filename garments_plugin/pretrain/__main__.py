"""Training of the small weights of ``tiny_blip2`` and ``tiny_clip`` on drawn garments.

Run as ``python -m garments_plugin.pretrain --out FOLDER``. The loss is the sum of three in-batch
cross-entropies, whose positives are all candidates with the same attributes: phrase to picture,
picture to phrase, and picture plus change to the resulting picture. The last one trains composed
queries. Pictures are drawn once, then shifted, scaled, flipped and re-lit at random in every
epoch. There are no other pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from cir_plugins import Blip2, Clip
from garments_plugin.pretrain.configurations import write_configurations
from garments_plugin.pretrain.phrases import Step, steps
from garments_plugin.pretrain.pictures import Drawn, draw, vary

TEMPERATURE = 0.07


def cross_entropy(scores: Tensor, positives: Tensor) -> Tensor:
    """Cross-entropy of scores (n, m) against the uniform distribution over positives (n, m)."""
    rows = positives.any(dim=1)
    uniform = positives[rows].float() / positives[rows].sum(dim=1, keepdim=True)
    return -(uniform * torch.log_softmax(scores[rows] / TEMPERATURE, dim=1)).sum(dim=1).mean()


def objective(model: Blip2 | Clip, images: Tensor, step: Step) -> Tensor:
    """The summed loss of a batch; images (2B, 3, H, W) are references, then targets."""
    size = len(step.phrases)
    features = model.features(images)
    target = model.encode_gallery(features[size:])
    phrases = model.similarity(model.text(model.tokenize(step.phrases)), target)
    loss = cross_entropy(phrases, step.fits) + cross_entropy(phrases.T, step.fits.T)
    query = model.encode_query(features[:size], model.tokenize(step.changes))
    return loss + cross_entropy(model.similarity(query, target), step.results)


def train(
    model: Blip2 | Clip, drawn: Drawn, *, epochs: int, batch: int, lr: float, seed: int
) -> None:
    """Train the model in place."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.05)
    total = epochs * (len(drawn.looks) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total, pct_start=0.1)
    rng = torch.Generator().manual_seed(seed)
    model.train()
    if isinstance(model, Clip):
        model.model.train()  # from random weights, the batch statistics must be learned
    for epoch in range(epochs):
        bar = tqdm(
            steps(drawn, batch, epoch, seed),
            total=total // epochs,
            desc=f"epoch {epoch}",
            mininterval=5,
        )
        for step in bar:
            indices = torch.cat([step.reference, step.target])
            images = vary(drawn.pixels[indices], model.preprocess, rng)
            loss = objective(model, images, step)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=f"{loss.item():.3f}")


def save(model: Blip2 | Clip, folder: Path) -> None:
    """Write the weights in half precision, enough for start weights and half the size."""
    from safetensors.torch import save_file

    state = {
        key: value.half().contiguous() if value.is_floating_point() else value
        for key, value in model.model.state_dict().items()
    }
    save_file(state, folder / "model.safetensors")


def main() -> None:
    """Draw, train and write the weights of both models, or of one."""
    parser = argparse.ArgumentParser(description="train the small weights on drawn garments")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="folder of an earlier run to start from")
    parser.add_argument("--models", nargs="+", default=["tiny_blip2", "tiny_clip"])
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    write_configurations(arguments.out)
    torch.manual_seed(arguments.seed)
    drawn = draw(arguments.images, arguments.seed, arguments.workers)
    for name in arguments.models:
        folder = arguments.out / name
        start = arguments.start / name if arguments.start else folder
        weights: Literal["pretrained", "random"] = "pretrained" if arguments.start else "random"
        model: Blip2 | Clip
        if name == "tiny_blip2":
            model = Blip2(model=str(start), weights=weights, vision="trained")
        else:
            model = Clip(model=str(start), pretrained=weights)
        train(
            model,
            drawn,
            epochs=arguments.epochs,
            batch=arguments.batch,
            lr=arguments.lr,
            seed=arguments.seed,
        )
        save(model, folder)


if __name__ == "__main__":
    main()
