"""Search backends of an index: time, memory and recall against the bare matrix product.

Prints a JSON line for each backend: seconds of indexing, MiB of its store and of the process, the
median and 99th percentile of one query, seconds per query of a batch, recall of the first k against
exact scoring, and the ratio of each time to the bare product of the same queries and vectors, run
in turns in the same process. Vectors are made up: pictures around products, products around
categories, read memory-mapped from a file as an index reads them; queries lie at a cosine of 0.7 to
a picture.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from clock import alternated, in_own_process, peak_mib
from torch import Tensor

from cir_plugins.bench.environment import hardware
from cir_plugins.builtin.similarity import best_token, unit
from cir_plugins.plugins.registry import Registry
from cir_plugins.retrieval.gallery import Gallery
from cir_plugins.search.storage import write_vectors
from cir_plugins.search.update import ENTRIES, plan_backend

BLOCK = 10_000
PICTURES, PRODUCTS = 50, 100  # of a product, of a category
APART, ALIKE = 0.7, 0.5  # lengths of a product's and of a picture's own part, a category's is 1
CPU = torch.device("cpu")


def made_up_gallery(folder: Path, count: int, width: int, tokens: int) -> Gallery:
    """A gallery in a file, memory-mapped."""
    shape = (count, tokens, width) if tokens else (count, width)
    rng = torch.Generator().manual_seed(0)
    categories = torch.randn(max(1, count // (PICTURES * PRODUCTS)), width, generator=rng)
    chosen = torch.randint(len(categories), (max(1, count // PICTURES),), generator=rng)
    products = categories[chosen] + APART * torch.randn(len(chosen), width, generator=rng)

    def block(size: int) -> Tensor:
        chosen = products[torch.randint(len(products), (size,), generator=rng)]
        around = chosen[:, None] if tokens else chosen
        return unit(around + ALIKE * torch.randn(size, *shape[1:], generator=rng))

    sizes = [min(BLOCK, count - first) for first in range(0, count, BLOCK)]
    record = write_vectors(folder, shape, map(block, sizes))
    array = np.load(folder / record.name, mmap_mode="c")
    keys = torch.randperm(count, generator=rng) * 3
    return Gallery(keys, torch.from_numpy(array), best_token, CPU)


def made_up_queries(gallery: Gallery, count: int) -> Tensor:
    """Queries near pictures of the gallery."""
    rng = torch.Generator().manual_seed(1)
    rows = torch.randint(len(gallery.keys), (count,), generator=rng)
    chosen = gallery.vectors[rows]
    near = chosen[:, 0] if chosen.dim() == 3 else chosen
    return unit(near + torch.randn(near.shape, generator=rng) / near.shape[1] ** 0.5)


def fill(backend: Any, gallery: Gallery) -> float:
    """Seconds of adding all vectors to a backend's store."""
    began = time.perf_counter()
    tokens = gallery.vectors.shape[1] if gallery.vectors.dim() == 3 else 1
    order = torch.randperm(len(gallery.keys), generator=torch.Generator().manual_seed(0))
    for block in torch.split(order, max(1, ENTRIES // tokens)):
        rows = block.sort().values
        vectors = gallery.vectors[rows].flatten(0, -2)
        backend.add(gallery.keys[rows].repeat_interleave(tokens), vectors)
    backend.flush()
    return time.perf_counter() - began


def bare(gallery: Gallery, queries: Tensor) -> Tensor:
    """The scores alone."""
    with torch.no_grad():
        return best_token(queries, gallery.vectors)


def each_query(search: Any, queries: Tensor) -> list[float]:
    """Seconds of every query by itself."""
    times = []
    for query in torch.split(queries, 1):
        began = time.perf_counter()
        search(query)
        times.append(time.perf_counter() - began)
    return times


def measured(name: str, options: Mapping[str, Any], sizes: argparse.Namespace) -> dict[str, Any]:
    """All about one backend."""
    with TemporaryDirectory(dir=sizes.folder) as folder:
        gallery = made_up_gallery(Path(folder), sizes.pictures, sizes.width, sizes.tokens)
        backend = plan_backend(Registry.load(), {"name": name, **options}).build()
        store = Path(folder) / "store"
        seconds = 0.0
        if backend.stores:
            backend.open(store, sizes.width)
            seconds = fill(backend, gallery)
        queries = made_up_queries(gallery, sizes.queries)

        def search(some: Tensor) -> tuple[Tensor, Tensor]:
            found: tuple[Tensor, Tensor] = backend.search(gallery, some, sizes.k, None)
            return found

        search(queries[:1])
        contenders: dict[str, Callable[[Tensor], Any]] = {
            "bare": partial(bare, gallery),
            "search": search,
        }
        one = {n: partial(work, queries[:1]) for n, work in contenders.items()}
        batch = {n: partial(work, queries[: sizes.batch]) for n, work in contenders.items()}
        single, many = alternated(one, sizes.runs, CPU), alternated(batch, sizes.runs, CPU)
        times = each_query(search, queries)
        return {
            "backend": name,
            "options": dict(options),
            "pictures": sizes.pictures,
            "width": sizes.width,
            "tokens": sizes.tokens,
            "index_s": round(seconds, 3),
            "store_mib": round(size_of(store) / 2**20, 1),
            "vectors_mib": round(gallery.vectors.numel() * 4 / 2**20, 1),
            "peak_mib": round(peak_mib(), 1),
            "query_p50_ms": round(1000 * float(np.percentile(times, 50)), 3),
            "query_p99_ms": round(1000 * float(np.percentile(times, 99)), 3),
            "ratio_to_bare_one": round(single["search"] / single["bare"], 3),
            "batch": sizes.batch,
            "batch_query_ms": round(1000 * many["search"] / sizes.batch, 3),
            "ratio_to_bare_batch": round(many["search"] / many["bare"], 3),
            f"recall@{sizes.k}": round(recall(gallery, queries, search(queries)[1]), 4),
        }


def recall(gallery: Gallery, queries: Tensor, rows: Tensor) -> float:
    """Share of the true first k that are among the rows (q, k)."""
    true = gallery.best(queries, rows.shape[1])[1]
    return float((true[:, :, None] == rows[:, None, :]).any(dim=2).float().mean())


def size_of(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, nargs="+", default=[10_000])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=0)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", default=None, help="where vectors are written")
    parser.add_argument("--backends", nargs="+", default=["exact", "faiss"])
    parser.add_argument("--options", default="{}", help="JSON: backend -> options")
    parser.add_argument("--one", action="store_true", help="one backend, in this process")
    return parser.parse_args(arguments)


def main() -> None:
    """Measure each backend in a process of its own."""
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    options = json.loads(arguments.options)
    if arguments.one:
        arguments.pictures = arguments.pictures[0]
        name = arguments.backends[0]
        print(json.dumps(measured(name, options.get(name, {}), arguments)))
        return
    print(json.dumps({"hardware": hardware(), "threads": arguments.threads}))
    for count in arguments.pictures:
        for name in arguments.backends:
            own = ["--one", "--pictures", str(count), "--backends", name]
            for key in ("width", "tokens", "queries", "batch", "k", "runs", "threads", "options"):
                own += [f"--{key}", str(getattr(arguments, key))]
            own += ["--folder", arguments.folder] if arguments.folder else []
            print(json.dumps(in_own_process(__file__, own)), flush=True)


if __name__ == "__main__":
    main()
