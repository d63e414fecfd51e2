"""A training step through the host against the same step written by hand.

Prints one JSON line per case: medians of alternating steps in one process, and their ratio. Both
have their own copy of one model and optimiser and get the same batches, loaded beforehand; the
host's step is that of ``cir train``. ``same_loss`` is true where all losses of the two agree to a
relative 1e-4.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from cached_step import make_backbone, make_batch, make_pixels
from clock import seconds
from torch import Tensor

from cir_plugins.bench.environment import hardware
from cir_plugins.builtin.blip2 import TinyBlip2
from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.config.settings import ScheduleSettings, TrainingSettings, TrainSettings
from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.encoding.features import Encoding
from cir_plugins.method import Components, Method
from cir_plugins.training.optim import Schedule
from cir_plugins.training.step import Step
from cir_plugins.types import Batch

STEPS = 1000  # of a made-up epoch, for the schedule


def make_case(case: str, options: argparse.Namespace, device: torch.device) -> tuple[Method, Batch]:
    """The method and the batch of a case: pixels for a trained tower, features for a frozen one."""
    torch.manual_seed(0)
    trained = case == "tiny"
    backbone = TinyBlip2(start="random") if trained else make_backbone(case, options.image_size)
    method = Method(Components(backbone, InfoNCE(), InBatch(), "batch")).to(device)
    batch = make_batch(backbone, options.batch, device)
    pixels = make_pixels(2 * options.batch, backbone.preprocess.size, device)
    if trained:
        batch.images = pixels
    else:
        with torch.no_grad():
            batch.features = backbone.eval().features(pixels)
    method.train()
    return method, batch


def through_host(method: Method, batch: Batch, settings: TrainSettings) -> Callable[[int], float]:
    """The host's step."""
    encoding = Encoding(batch.reference.device)
    training = TrainingSettings(settings, ScheduleSettings(name="constant"))
    step = Step(method, training, encoding, seed=0, processes=ProcessGroup())
    schedule = Schedule(step.optimizer, training, STEPS)

    def run(number: int) -> float:
        loss = sum(step(batch, 0, number).values())
        schedule.step()
        return loss

    return run


def by_hand(method: Method, batch: Batch, settings: TrainSettings) -> Callable[[int], float]:
    """The step as it is written by hand for this model and loss, without the host."""
    model, log_temperature = method.backbone, method.log_temperature
    optimizer = torch.optim.AdamW(
        [parameter for parameter in method.parameters() if parameter.requires_grad],
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        fused=batch.reference.is_cuda,
    )

    def run(number: int) -> float:
        optimizer.zero_grad(set_to_none=True)
        features: Tensor = (
            model.features(batch.images) if batch.features is None else batch.features
        )
        queries = model.encode_query(features[batch.reference], batch.tokens)
        targets = model.encode_gallery(features[batch.candidates])
        scores = torch.einsum("bd,ctd->bct", queries, targets).amax(dim=2)
        scaled = scores / log_temperature.exp()
        loss = torch.nn.functional.cross_entropy(scaled, batch.target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    return run


def measure(case: str, options: argparse.Namespace) -> dict[str, Any]:
    """Result line of a case."""
    device = torch.device(options.device)
    method, batch = make_case(case, options, device)
    settings = TrainSettings(lr=1e-5, precision="fp32")
    steps = {
        "host": through_host(copy.deepcopy(method), batch, settings),
        "by_hand": by_hand(method, batch, settings),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    losses: dict[str, list[float]] = {name: [] for name in steps}

    def run(name: str, number: int) -> None:
        torch.manual_seed(number)  # the same dropout for both
        losses[name].append(steps[name](number))

    for number in range(options.runs + 2):
        # Each is the first as often as the other, so that both find the same caches.
        for name in steps if number % 2 else reversed(steps):
            duration = seconds(lambda name=name, number=number: run(name, number), device)  # type: ignore[misc]
            if number > 1:  # the first two warm up
                times[name].append(duration)
    host, hand = median(times["host"]), median(times["by_hand"])
    pairs = [one / two for one, two in zip(times["host"], times["by_hand"], strict=True)]
    return {
        "case": f"host_overhead {case}",
        "batch": options.batch,
        "host_s": round(host, 5),
        "by_hand_s": round(hand, 5),
        "ratio": round(host / hand, 4),
        "median_of_ratios": round(median(pairs), 4),
        "same_loss": all(
            abs(one - two) <= 1e-4 * abs(two)
            for one, two in zip(losses["host"], losses["by_hand"], strict=True)
        ),
        "runs": options.runs,
        "hardware": hardware(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Print a line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cases",
        nargs="+",
        default=["tiny", "vit_b"],
        help="tiny: tower and Q-Former of tiny_blip2 trained; vit_b, vit_l, vit_g: a Q-Former of "
        "BERT-base's size on cached features",
    )
    parser.add_argument("--batch", type=int, default=16, help="queries per step")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    for case in options.cases:
        print(json.dumps(measure(case, options)), flush=True)


if __name__ == "__main__":
    main()
