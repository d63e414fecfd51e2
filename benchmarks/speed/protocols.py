"""Every protocol of a reader from one encoding, beside one protocol and beside a call for each.

    python benchmarks/speed/protocols.py --root DIR --backbones tiny_clip tiny_blip2

``DIR`` has FashionIQ's layout; ``cir make-data garments --out DIR --images 1500`` draws one. Times
are processor time of this process, which others on the machine do not lengthen; reading of files
and images is in them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cir_plugins as cir
from cir_plugins.bench import environment


def seconds(function: Callable[[], Any], runs: int) -> float:
    """Median processor time of a function, after a call that warms up."""
    function()
    times = []
    for _ in range(runs):
        began = time.process_time()
        function()
        times.append(time.process_time() - began)
    return median(times)


def measured(backbone: dict[str, Any], root: Path, runs: int) -> dict[str, Any]:
    """Times of a backbone, and their ratio."""
    retriever = cir.build("image_text_sum", backbone=backbone, device="cpu", progress=False)
    table = retriever.evaluate_protocols("fashioniq", root)
    one = seconds(lambda: retriever.evaluate("fashioniq", root, protocol="original"), runs)
    every = seconds(lambda: retriever.evaluate_protocols("fashioniq", root), runs)
    each = seconds(
        lambda: [retriever.evaluate("fashioniq", root, protocol=name) for name in table], 1
    )
    return {
        "case": backbone["name"],
        "protocols": len(table),
        "queries": table["original"].queries,
        "gallery": table["original"].gallery,
        "one_s": one,
        "all_s": every,
        "single_calls_s": each,
        "ratio": every / one,
    }


def main() -> None:
    """Print a line for each backbone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--backbones", nargs="+", default=["tiny_clip", "tiny_blip2"])
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    for name in options.backbones:
        pairs = dict(pair.split("=", 1) for pair in options.set)
        line = measured({"name": name, **pairs}, options.root, options.runs)
        facts = {"hardware": environment.hardware(), "versions": environment.versions()}
        sys.stdout.write(f"{json.dumps({**line, **facts})}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
