"""A training step with features from the cache on disk against one that runs the frozen tower.

Prints one JSON line per case: medians of alternating steps in one process, and their ratio. Both
steps do forward, backward and the optimiser's update of the Q-Former; loading and decoding images,
which the cached step saves too, is in neither. Weights are random.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from cir_plugins.builtin.blip2 import Blip2, TinyBlip2
from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.cache import FeatureCache, Shelf
from cir_plugins.device import move_tokens
from cir_plugins.method import Method, Parts
from cir_plugins.types import Batch

TOWERS = {"vit_b": (768, 12, 12, 3072), "vit_l": (1024, 24, 16, 4096)}  # width, layers, heads, MLP


def tower_config(size: str, image_size: int) -> Any:
    """BLIP-2 with a ViT of this size under a Q-Former of BERT-base's size."""
    from transformers import Blip2Config

    width, layers, heads, hidden = TOWERS[size]
    vision = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": hidden,
        "image_size": image_size,
        "patch_size": 16,
    }
    qformer = {"encoder_hidden_size": width, "vocab_size": 30523, "use_qformer_text_input": True}
    return Blip2Config(
        vision_config=vision,
        qformer_config=qformer,
        image_text_hidden_size=256,
        num_query_tokens=32,
        image_token_index=30522,
    )


def make_backbone(case: str, image_size: int) -> Blip2:
    """The backbone of a case, its tower frozen."""
    if case == "tiny":
        return TinyBlip2(vision="frozen", start="random")
    from cir_plugins.builtin.blip2 import WEIGHTS

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tower_config(case, image_size).save_pretrained(folder)
        # The tokenizer does not matter to the time of a step: any vocabulary will do.
        tokenizer = str(WEIGHTS / "tiny_blip2")
        return Blip2(model=str(folder), weights="random", tokenizer=tokenizer, vision="frozen")


def make_batch(backbone: Any, rows: int, device: torch.device) -> Batch:
    """A batch of ``rows`` queries over twice as many images, without the pixels."""
    texts = [f"is a longer red dress with {number} buttons" for number in range(rows)]
    return Batch(
        images=None,
        features=None,
        reference=torch.arange(rows, device=device),
        candidates=torch.arange(rows, 2 * rows, device=device),
        target=torch.arange(rows, device=device),
        excluded=torch.zeros(rows, rows, dtype=torch.bool, device=device),
        text=texts,
        tokens=move_tokens(backbone.tokenize(texts), device),
    )


def make_pixels(images: int, side: int, device: torch.device) -> Tensor:
    """Random pixels (images, 3, side, side), always the same."""
    drawn = torch.randn(images, 3, side, side, generator=torch.Generator().manual_seed(0))
    return drawn.to(device)


def filled_shelf(cache: FeatureCache, backbone: Any, images: Tensor) -> tuple[Shelf, list[str]]:
    """The shelf with the images' features, and their names on it."""
    shelf = cache.shelf(backbone, torch.float32, images.device)
    names = [f"image {number}" for number in range(len(images))]
    with torch.no_grad():
        shelf.add(names, backbone.features(images))
    shelf.flush()
    return shelf, names


def steps(
    method: Method, batch: Batch, shelf: Shelf, names: list[str], device: torch.device
) -> Iterator[tuple[str, Callable[[], float]]]:
    """The two steps by name; each gives its loss."""
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-5)
    pixels = batch.images

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.stack(list(method.terms(batch).values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    def plain() -> float:
        batch.images, batch.features = pixels, None
        return step()

    def cached() -> float:
        read = shelf.read(names)
        batch.images, batch.features = None, read.to(device) if isinstance(read, Tensor) else read
        return step()

    yield "plain", plain
    yield "cached", cached


def measure(case: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The line of a case."""
    device = torch.device(options.device)
    torch.manual_seed(0)
    backbone = make_backbone(case, options.image_size).to(device)
    method = Method(Parts(backbone, InfoNCE(), InBatch(), "batch")).to(device)
    batch = make_batch(backbone, options.batch, device)
    pixels = make_pixels(2 * options.batch, backbone.preprocess.size, device)
    batch.images = pixels
    method.eval()
    shelf, names = filled_shelf(FeatureCache(folder / case), backbone, pixels)
    method.train()
    times: dict[str, list[float]] = {"plain": [], "cached": []}
    both = list(steps(method, batch, shelf, names, device))
    for turn in range(options.runs + 1):
        for name, step in both:
            began = time.perf_counter()
            step()
            if turn:  # the first of each warms up
                times[name].append(time.perf_counter() - began)
    plain, cached = median(times["plain"]), median(times["cached"])
    return {
        "case": f"cached_step {case}",
        "batch": options.batch,
        "image_size": backbone.preprocess.size,
        "device": options.device,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "runs": options.runs,
        "plain_s": round(plain, 5),
        "cached_s": round(cached, 5),
        "ratio": round(plain / cached, 2),
    }


def main() -> None:
    """Measure the cases asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="tiny,vit_b", help="of tiny, vit_b, vit_l")
    parser.add_argument("--batch", type=int, default=8, help="queries per step")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for case in options.cases.split(","):
            print(json.dumps(measure(case, options, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
