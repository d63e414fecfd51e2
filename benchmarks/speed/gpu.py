"""Mining, evaluation and the training step on a GPU, with the share of the card's peak they reach.

Prints one JSON line per case: those of ``mining.py``, ``evaluation.py`` and ``cached_step.py``, the
step at the size of BLIP-2 with ViT-g in bf16 and random weights, and added to each

* ``tflops``: floating-point operations of the matrix products that the work cannot do without, a
  second, in 1e12;
* ``peak_tflops``, ``share_of_peak``: what the card's data sheet gives for that precision, without
  sparsity, and the share of it; null for a card that is not in ``PEAKS`` and has no ``--peak``;
* for a step, ``samples_per_s``: queries, each with its reference and its target.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cached_step
import mining
import torch

CASES = ("mining", "evaluation", "step")
# Dense TFLOP/s of the data sheets of NVIDIA: fp32 outside and bf16 inside the tensor cores. The
# first name that the card's name contains counts.
PEAKS = {
    "H200": {"fp32": 67.0, "bf16": 989.0},  # H200 Tensor Core GPU, SXM
    "H100 PCIe": {"fp32": 51.0, "bf16": 756.0},  # H100 Tensor Core GPU, PCIe
    "H100": {"fp32": 67.0, "bf16": 989.0},  # H100 Tensor Core GPU, SXM
    "A100": {"fp32": 19.5, "bf16": 312.0},  # A100 Tensor Core GPU
    "L40S": {"fp32": 91.6, "bf16": 362.0},  # L40S
    "L4": {"fp32": 30.3, "bf16": 121.0},  # L4: 242 with sparsity
}
SIZES: dict[str, dict[str, Any]] = {
    "full": {
        "queries": 20_000,
        "candidates": 20_000,
        "tokens": [1, 32],
        "split": "6000x15000x1",
        "step": "vit_g",
        "batches": [64, 256],
        "image_size": 224,
        "runs": 5,
    },
    "tiny": {
        "queries": 60,
        "candidates": 50,
        "tokens": [1, 4],
        "split": "40x50x1",
        "step": "tiny",
        "batches": [2],
        "image_size": 64,
        "runs": 2,
    },
}


def peak_of(card: str, precision: str) -> float | None:
    """Peak of a card in TFLOP/s by its own name, or None."""
    return next((peaks[precision] for name, peaks in PEAKS.items() if name in card), None)


def with_share(
    line: dict[str, Any], operations: float, seconds: float, precision: str, peak: float | None
) -> dict[str, Any]:
    """The line with the rate of its operations and their share of the peak."""
    rate = operations / seconds / 1e12
    peak = peak or peak_of(line["hardware"]["gpu"] or "", precision)
    share = None if peak is None else round(rate / peak, 4)
    return {**line, "tflops": round(rate, 4), "peak_tflops": peak, "share_of_peak": share}


def mining_lines(options: argparse.Namespace, size: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Lines of mining, the first mid-zone only: the scores are the same work for all."""
    case = argparse.Namespace(
        queries=size["queries"],
        candidates=size["candidates"],
        width=256,
        drawn=8,
        runs=size["runs"],
        device=options.device,
        opponent=False,
    )
    for tokens in size["tokens"]:
        line = mining.measure(case, tokens, next(iter(mining.MID_ZONES)))
        products = line["queries"] * line["candidates"] * line["tokens"] * line["width"]
        took = line["seconds"]["mine"]
        yield with_share(line, 2 * products, took, "fp32", options.peak_fp32)


def evaluation_lines(options: argparse.Namespace, size: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The line of evaluation."""
    import evaluation

    case = argparse.Namespace(width=256, runs=size["runs"], device=options.device)
    line = evaluation.measure(size["split"], case)
    products = line["queries"] * line["gallery"] * line["width"]
    took = line["seconds"]["streamed"]
    yield with_share(line, 2 * products, took, "fp32", options.peak_fp32)


def step_lines(options: argparse.Namespace, size: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Lines of the training step: that which runs the tower, and that with cached features."""
    case = argparse.Namespace(
        device=options.device,
        dtype="bf16",
        fused=False,
        image_size=size["image_size"],
        runs=size["runs"],
    )
    for batch in options.batches or size["batches"]:
        with tempfile.TemporaryDirectory() as folder:
            line = cached_step.measure(size["step"], batch, case, Path(folder))
        for kind in ("plain", "cached"):
            took, operations = line[f"{kind}_s"], line["flops"][kind]
            described = {**line, "step": kind, "samples_per_s": round(batch / took, 2)}
            yield with_share(described, operations, took, "bf16", options.peak_bf16)


def main() -> None:
    """Print a line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--batches", type=int, nargs="+", help="queries per step")
    parser.add_argument("--peak-fp32", type=float, help="peak of the card in fp32, TFLOP/s")
    parser.add_argument("--peak-bf16", type=float, help="peak of the card in bf16, TFLOP/s")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --device cpu tries the script out")
    lines = {"mining": mining_lines, "evaluation": evaluation_lines, "step": step_lines}
    for name in options.cases:
        for line in lines[name](options, SIZES[options.size]):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
