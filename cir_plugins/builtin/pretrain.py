"""Makes the small weights of ``tiny_blip2`` and ``tiny_clip`` from drawn garments.

Run as ``python -m cir_plugins.builtin.pretrain --out FOLDER``. Three objectives are summed, each an
in-batch cross-entropy whose positives are all candidates that show the same thing: picture against
its description, both ways, and (BLIP-2 only) drawn picture plus drawn modification against the
result, so that the fused query starts out as one that composes. Pictures are drawn once, then
shifted, scaled, flipped and re-lit on every visit. No picture comes from anywhere else.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cir_plugins.builtin.blip2 import Blip2
from cir_plugins.builtin.clip import Clip
from cir_plugins.garments import Garment, changed_attributes, draw_garment, sample_garment
from cir_plugins.garments.captions import captions
from cir_plugins.images import Preprocess

DRAWN = 72  # drawn a little larger, so that shifts and scales have something to show
WORDS = Path(__file__).parent / "weights" / "words.txt"
SUFFIXES = "s es ed er est ing ly ish less y n d r t".split()
PUNCTUATION = list("'-,.!?&/()\":;+%$#*")
TEMPERATURE = 0.07
ATTRIBUTES = ("garment", "colour", "pattern", "sleeve", "length")

BLIP2_CONFIG: dict[str, Any] = {
    "model_type": "blip-2",
    "architectures": ["Blip2ForImageTextRetrieval"],
    "num_query_tokens": 8,
    "image_text_hidden_size": 64,
    "initializer_range": 0.1,
    "vision_config": {
        "model_type": "timm_resnet",
        "stem": 8,
        "channels": [24, 48, 96, 128],
        "layers": [1, 1, 1, 1],
        "groups": 8,
        "output_stride": 8,
        "hidden_size": 128,
        "image_size": 64,
    },
    "qformer_config": {
        "hidden_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "max_position_embeddings": 64,
        "use_qformer_text_input": True,
        "initializer_range": 0.1,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    },
}
CLIP_CONFIG: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32},
    "text_cfg": {
        "context_length": 32,
        "width": 96,
        "heads": 4,
        "layers": 2,
        "pool_type": "first",
        "no_causal_mask": True,
    },
}


@dataclass(frozen=True)
class Drawn:
    """Drawn pictures (n, DRAWN, DRAWN, 3) uint8 in memory, with what each shows."""

    pixels: Tensor
    shown: tuple[tuple[str, ...], ...]  # per picture one value for each of ATTRIBUTES, "" for none


def vocabulary() -> list[str]:
    """Word pieces: specials, letters and digits (so that any word can be spelt), suffixes, words."""
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PUNCTUATION, *letters]
    pieces += ["##" + piece for piece in letters + [s for s in SUFFIXES if len(s) > 1]]
    words = WORDS.read_text(encoding="utf-8").split()
    return list(dict.fromkeys(pieces + words))


def write_configurations(out: Path) -> None:
    """Write what ``tiny_blip2`` and ``tiny_clip`` need beside their weights."""
    from transformers import BertTokenizer

    words = vocabulary()
    blip2, clip = out / "tiny_blip2", out / "tiny_clip"
    for folder in (blip2, clip):
        folder.mkdir(parents=True, exist_ok=True)
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    tokenizer.save_pretrained(blip2)
    config = json.loads(json.dumps(BLIP2_CONFIG))
    config["qformer_config"]["vocab_size"] = len(words)
    config["qformer_config"]["encoder_hidden_size"] = config["vision_config"]["hidden_size"]
    (blip2 / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    clip_config = json.loads(json.dumps(CLIP_CONFIG))
    clip_config["text_cfg"]["vocab_size"] = len(words)
    text = json.dumps({"model_cfg": clip_config}, indent=2) + "\n"
    (clip / "open_clip_config.json").write_text(text)
    (clip / "vocab.txt").write_text("\n".join(words) + "\n")


def _draw_chunk(task: tuple[int, int, int]) -> tuple[np.ndarray[Any, Any], list[Garment]]:
    seed, first, last = task
    pixels = np.empty((last - first, DRAWN, DRAWN, 3), dtype=np.uint8)
    garments = []
    for index in range(first, last):
        rng = np.random.default_rng([seed, index])
        garment = sample_garment(rng)
        pixels[index - first] = np.asarray(draw_garment(garment, rng, DRAWN))
        garments.append(garment)
    return pixels, garments


def draw(images: int, seed: int, workers: int) -> Drawn:
    """Pictures of ``images`` garments, the same for the same seed."""
    step = 250
    tasks = [(seed, first, min(first + step, images)) for first in range(0, images, step)]
    with ProcessPoolExecutor(workers) as pool:
        chunks = list(tqdm(pool.map(_draw_chunk, tasks), total=len(tasks), desc="drawing"))
    shown = tuple(
        tuple(getattr(garment, name) or "" for name in ATTRIBUTES)
        for _, chunk in chunks
        for garment in chunk
    )
    return Drawn(torch.from_numpy(np.concatenate([pixels for pixels, _ in chunks])), shown)


def vary(pixels: Tensor, preprocess: Preprocess, chance: torch.Generator) -> Tensor:
    """Normalised pictures (n, 3, side, side): flipped, shifted, scaled, turned and re-lit."""
    n = pixels.shape[0]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=chance)

    mean = torch.tensor(preprocess.mean).view(1, 3, 1, 1)
    std = torch.tensor(preprocess.std).view(1, 3, 1, 1)
    images = pixels.permute(0, 3, 1, 2).float() / 255
    angle, scale = uniform(-0.2, 0.2, n), uniform(0.8, 1.1, n)
    flip = torch.where(torch.rand(n, generator=chance) < 0.5, -1.0, 1.0)
    rotation = torch.stack([angle.cos() * flip, -angle.sin(), angle.sin() * flip, angle.cos()], 1)
    theta = torch.empty(n, 2, 3)
    theta[:, :, :2] = rotation.view(n, 2, 2) * scale.view(n, 1, 1)
    theta[:, :, 2] = uniform(-0.1, 0.1, n, 2)
    grid = torch.nn.functional.affine_grid(
        theta, [n, 3, preprocess.size, preprocess.size], align_corners=False
    )
    images = torch.nn.functional.grid_sample(
        images, grid, padding_mode="border", align_corners=False
    )
    light, contrast = uniform(0.75, 1.2, n, 1, 1, 1), uniform(0.8, 1.2, n, 1, 1, 1)
    cast = uniform(0.93, 1.07, n, 3, 1, 1)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (((images - middle) * contrast + middle) * light * cast).clamp(0, 1)
    return (images - mean) / std


def wording(values: dict[str, str], chance: random.Random) -> str:
    """A phrase that names the given attributes and no others."""
    garment = values.get("garment", "")
    ahead = [values[name] for name in ("length", "colour", "pattern") if values.get(name)]
    sleeve = values.get("sleeve", "")
    tail = {"none": "is sleeveless", "": ""}.get(sleeve, f"with {sleeve} sleeves")
    if garment:
        article = chance.choice(("is a", "a", "shows a", ""))
        parts = [article, *ahead, garment, tail]
    elif ahead:
        parts = [chance.choice(("is", "is more", "in", "")), *ahead, tail and f"and {tail}"]
    else:
        parts = [tail]
    return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Step:
    """A batch: pictures, phrases about them, and changes that lead to other pictures.

    Attributes:
        reference: (B,) rows of the reference pictures.
        target: (B,) rows of pictures that result from the changes.
        phrases: B phrases, each about the target picture of its row.
        fits: (B, B) bool, which target pictures a phrase fits.
        changes: B texts that say what the target has in place of the reference.
        results: (B, B) bool, which target pictures result from a reference and its change.
    """

    reference: Tensor
    target: Tensor
    phrases: list[str]
    fits: Tensor
    changes: list[str]
    results: Tensor


def steps(drawn: Drawn, batch: int, epoch: int, seed: int) -> Iterator[Step]:
    """The batches of an epoch, the same for the same seed and epoch."""
    by_look: dict[tuple[str, ...], list[int]] = {}
    for row, look in enumerate(drawn.shown):
        by_look.setdefault(look, []).append(row)
    values = [sorted({look[i] for look in by_look}) for i in range(len(ATTRIBUTES))]
    numbers = [{value: k for k, value in enumerate(known)} for known in values]
    table = torch.tensor(
        [[numbers[i][value] for i, value in enumerate(look)] for look in drawn.shown]
    )
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed + epoch))
    chance = random.Random(f"{seed} {epoch}")
    words = np.random.default_rng([seed, epoch])
    generator = torch.Generator().manual_seed(seed + epoch)
    for first in range(0, len(order) - batch + 1, batch):
        reference = order[first : first + batch]
        looks = [_changed(drawn.shown[row], by_look, values, chance) for row in reference.tolist()]
        target = torch.tensor([chance.choice(by_look[look]) for look in looks])
        told = torch.rand(batch, len(ATTRIBUTES), generator=generator) < 0.6
        blank = table.new_tensor([known.index("") if "" in known else -1 for known in values])
        told[~(told & (table[target] != blank)).any(dim=1), :2] = True
        names = [_named(look, row.tolist()) for look, row in zip(looks, told, strict=True)]
        equal = table[target][:, None, :] == table[target][None, :, :]
        pairs = zip((drawn.shown[row] for row in reference.tolist()), looks, strict=True)
        yield Step(
            reference,
            target,
            [wording(values, chance) for values in names],
            (equal | ~told[:, None, :]).all(dim=2),
            [change(before, after, words) for before, after in pairs],
            equal.all(dim=2),
        )


def _changed(
    look: tuple[str, ...],
    known: dict[tuple[str, ...], list[int]],
    values: list[list[str]],
    chance: random.Random,
) -> tuple[str, ...]:
    """A look that some picture has and that differs from the given one in one or two places."""
    for _ in range(50):
        other = list(look)
        for place in chance.sample(range(len(look)), chance.choice((1, 1, 2))):
            other[place] = chance.choice(values[place])
        if tuple(other) != look and tuple(other) in known:
            return tuple(other)
    return chance.choice([other for other in known if other != look])


def change(before: tuple[str, ...], after: tuple[str, ...], rng: np.random.Generator) -> str:
    """Two sentences that lead from one look to the other, joined as FashionIQ's are."""
    reference, target = (
        {name: value for name, value in zip(ATTRIBUTES, look, strict=True) if value}
        for look in (before, after)
    )
    named = changed_attributes(reference, target) or ("garment",)
    return " and ".join(captions(reference, target, named, rng))


def _named(look: tuple[str, ...], told: list[bool]) -> dict[str, str]:
    return {name: value for name, value, tell in zip(ATTRIBUTES, look, told, strict=True) if tell}


def spread(scores: Tensor, positive: Tensor) -> Tensor:
    """Cross-entropy of scores (n, m) against a uniform choice among the positives (n, m)."""
    rows = positive.any(dim=1)
    wanted = positive[rows].float() / positive[rows].sum(dim=1, keepdim=True)
    return -(wanted * torch.log_softmax(scores[rows] / TEMPERATURE, dim=1)).sum(dim=1).mean()


def objective(model: Blip2 | Clip, images: Tensor, step: Step) -> Tensor:
    """The summed loss of a batch; images (2B, 3, H, W) are references, then targets."""
    size = len(step.phrases)
    features = model.features(images)
    target = model.target(features[size:])
    phrases = model.similarity(model.text(model.tokenize(step.phrases)), target)
    loss = spread(phrases, step.fits) + spread(phrases.T, step.fits.T)
    query = model.query(features[:size], model.tokenize(step.changes))
    return loss + spread(model.similarity(query, target), step.results)


def train(
    model: Blip2 | Clip, drawn: Drawn, *, epochs: int, batch: int, lr: float, seed: int
) -> None:
    """Train the model in place."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.05)
    total = epochs * (len(drawn.shown) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total, pct_start=0.1)
    chance = torch.Generator().manual_seed(seed)
    model.train()
    if isinstance(model, Clip):
        model.model.train()  # from random weights the batch statistics must be learned
    for epoch in range(epochs):
        bar = tqdm(
            steps(drawn, batch, epoch, seed),
            total=total // epochs,
            desc=f"epoch {epoch}",
            mininterval=5,
        )
        for step in bar:
            rows = torch.cat([step.reference, step.target])
            images = vary(drawn.pixels[rows], model.preprocess, chance)
            loss = objective(model, images, step)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=f"{loss.item():.3f}")


def save(model: Blip2 | Clip, folder: Path) -> None:
    """Write the weights in half precision, enough for a start and half the size."""
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
    parser.add_argument("--models", nargs="+", default=["tiny_blip2", "tiny_clip"])
    parser.add_argument("--images", type=int, default=30000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=160)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    write_configurations(arguments.out)
    torch.manual_seed(arguments.seed)
    drawn = draw(arguments.images, arguments.seed, arguments.workers)
    for name in arguments.models:
        folder = arguments.out / name
        model: Blip2 | Clip
        if name == "tiny_blip2":
            model = Blip2(model=str(folder), weights="random", vision="trained")
        else:
            model = Clip(model=str(folder), pretrained="random")
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
