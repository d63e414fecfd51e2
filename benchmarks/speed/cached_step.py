"""A training step with features from the cache on disk against one that runs the frozen tower.

Prints one JSON line per case: medians of alternating steps in one process, and their ratio. Both
steps do forward, backward and the optimiser's update of the Q-Former; loading and decoding images,
which the cached step saves too, is in neither. Weights are random.

Beside them stand where the cached step's time goes, the floating-point operations of both steps,
and their ratio: no cache can gain more than that where both run at the same rate.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any

import torch
from clock import seconds
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cir_plugins.bench.environment import hardware
from cir_plugins.builtin.blip2 import Blip2, TinyBlip2
from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.encoding.cache import FeatureCache
from cir_plugins.encoding.device import autocast, move_tokens
from cir_plugins.encoding.store import FeatureStore
from cir_plugins.features import select
from cir_plugins.method import Components, Method
from cir_plugins.training.loader import AHEAD, ahead
from cir_plugins.types import Batch

# Width, layers, heads, width of the MLP, side of a patch; vit_g is BLIP-2's own.
TOWERS = {
    "vit_b": (768, 12, 12, 3072, 16),
    "vit_l": (1024, 24, 16, 4096, 16),
    "vit_g": (1408, 39, 16, 6144, 14),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def tower_config(size: str, image_size: int) -> Any:
    """BLIP-2 with a ViT of this size under a Q-Former of BERT-base's size."""
    from transformers import Blip2Config

    width, layers, heads, hidden, patch = TOWERS[size]
    vision = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": hidden,
        "image_size": image_size,
        "patch_size": patch,
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


def make_batch(backbone: Any, count: int, device: torch.device) -> Batch:
    """A batch of ``count`` queries over twice as many images, without the pixels."""
    texts = [f"is a longer red dress with {number} buttons" for number in range(count)]
    return Batch(
        images=None,
        features=None,
        reference=torch.arange(count, device=device),
        candidates=torch.arange(count, 2 * count, device=device),
        target=torch.arange(count, device=device),
        excluded=torch.zeros(count, count, dtype=torch.bool, device=device),
        text=texts,
        tokens=move_tokens(backbone.tokenize(texts), device),
    )


def make_pixels(images: int, side: int, device: torch.device) -> Tensor:
    """Random pixels (images, 3, side, side), always the same."""
    pixels = torch.randn(images, 3, side, side, generator=torch.Generator().manual_seed(0))
    return pixels.to(device)


def filled_store(
    cache: FeatureCache, backbone: Any, images: Tensor, dtype: torch.dtype
) -> tuple[FeatureStore, list[str]]:
    """The store with the images' features, and their names in it."""
    store = cache.store(backbone, dtype, images.device)
    names = [f"image {number}" for number in range(len(images))]
    with torch.no_grad(), autocast(images.device, dtype):
        store.add(names, backbone.features(images))
    store.flush()
    return store, names


class Steps:
    """The two steps, and the seconds of what they are made of.

    Args:
        method: What is trained.
        batch: With its pixels.
        store: Holds the features of the batch's images.
        names: The images in it.
        options: Device, dtype, fused.
    """

    def __init__(
        self,
        method: Method,
        batch: Batch,
        store: FeatureStore,
        names: list[str],
        options: argparse.Namespace,
    ) -> None:
        trained = [p for p in method.parameters() if p.requires_grad]
        self.device, self.dtype = torch.device(options.device), DTYPES[options.dtype]
        fused = options.fused or self.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=fused)
        self.method, self.batch, self.pixels = method, batch, batch.images
        self.store = store
        cuda = self.device.type == "cuda"
        # As the loader does: ahead of the steps where it can run beside them.
        self.features = (
            ahead(repeat(names), lambda names: self._read(names).pin_memory(), AHEAD)
            if cuda
            else map(self._read, repeat(names))
        )
        self.stages: dict[str, list[float]] = {}

    def plain(self) -> None:
        """A step that runs the tower."""
        self.batch.images, self.batch.features = self.pixels, None
        self._step()

    def cached(self) -> None:
        """A step that reads features."""
        self.batch.images = None
        self._timed("read", self._fetch)
        self._step()

    def _read(self, names: list[str]) -> Tensor:
        features: Tensor = self.store.read(names)
        return features

    def _fetch(self) -> None:
        self.batch.features = next(self.features).to(self.device, non_blocking=True)

    def _step(self) -> None:
        results: dict[str, Any] = {}
        batch, method = self.batch, self.method

        def queries() -> None:
            references = select(results["features"], batch.reference)
            results["queries"] = method.embed_queries(references, batch)

        def targets() -> None:
            candidates = select(results["features"], batch.candidates)
            results["targets"] = method.embed_targets(candidates)

        def backward() -> None:
            terms = method.loss_terms_from(results["queries"], results["targets"], batch)
            torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]

        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.device, self.dtype):
            self._timed("features", lambda: results.update(features=method.features(batch)))
            self._timed("queries", queries)
            self._timed("targets", targets)
        self._timed("backward", backward)
        self._timed("update", self.optimizer.step)

    def _timed(self, stage: str, work: Callable[[], Any]) -> None:
        self.stages.setdefault(stage, []).append(seconds(work, self.device))


def operations(step: Callable[[], None]) -> int:
    """Floating-point operations of the matrix products and convolutions of a step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def make_steps(case: str, batch_size: int, options: argparse.Namespace, folder: Path) -> Steps:
    """The steps of a case."""
    device = torch.device(options.device)
    torch.manual_seed(0)
    backbone = make_backbone(case, options.image_size).to(device)
    method = Method(Components(backbone, InfoNCE(), InBatch(), "batch")).to(device)
    batch = make_batch(backbone, batch_size, device)
    batch.images = make_pixels(2 * batch_size, backbone.preprocess.size, device)
    method.eval()
    cache = FeatureCache(folder / f"{case}-{batch_size}")
    store, names = filled_store(cache, backbone, batch.images, DTYPES[options.dtype])
    method.train()
    return Steps(method, batch, store, names, options)


def measure(
    case: str, batch_size: int, options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """The line of a case."""
    steps = make_steps(case, batch_size, options, folder)
    # Counting is also what warms up: it is the first step of each.
    flops = {"plain": operations(steps.plain), "cached": operations(steps.cached)}
    times: dict[str, list[float]] = {"plain": [], "cached": []}
    stages: dict[str, list[float]] = {}
    for _ in range(options.runs):
        times["plain"].append(seconds(steps.plain, steps.device))
        steps.stages = {}
        times["cached"].append(seconds(steps.cached, steps.device))
        for stage, times_of_stage in steps.stages.items():
            stages.setdefault(stage, []).extend(times_of_stage)
    plain, cached = median(times["plain"]), median(times["cached"])
    return {
        "case": f"cached_step {case}",
        "batch": batch_size,
        "image_size": steps.method.backbone.preprocess.size,
        "dtype": options.dtype,
        "fused": options.fused,
        "trained_parameters": sum(p.numel() for p in steps.method.parameters() if p.requires_grad),
        "plain_s": round(plain, 5),
        "cached_s": round(cached, 5),
        "ratio": round(plain / cached, 2),
        "cached_stages_s": {name: round(median(values), 5) for name, values in stages.items()},
        "flops": flops,
        "ratio_of_flops": round(flops["plain"] / flops["cached"], 2),
        "runs": options.runs,
        "hardware": hardware(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Measure the cases of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="tiny,vit_b", help="of tiny, vit_b, vit_l, vit_g")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32], help="queries per step")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="of autocast")
    parser.add_argument("--fused", action="store_true", help="as train.fused; always on a GPU")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for case in options.cases.split(","):
            for batch_size in options.batches:
                line = measure(case, batch_size, options, Path(folder))
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
