"""Latency of the search service under load: clients that ask at once, against one that asks alone.

Starts ``cir serve`` on an index in a process of its own. Each client sends queries one after
another: a text, an indexed picture, a picture with a text, an upload with a text, and a text with a
filter where there is metadata. An answer of another status than 200 is an error, and so is a
ranking that differs from that of the client that asked alone.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TEXTS = ("a red dress", "the same in black", "with longer sleeves", "striped", "more elegant shoes")


class Query(NamedTuple):
    """A query's kind, and its request."""

    kind: str
    body: bytes
    content_type: str


class Answer(NamedTuple):
    """What came of a query."""

    query: int
    seconds: float
    status: int
    hits: Any


@contextmanager
def service(index: Path) -> Iterator[int]:
    """The port of a service on an index."""
    command = [sys.executable, "-m", "cir_plugins", "serve", str(index), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit("the service did not start")
        yield int(line.split()[4].rstrip("/").rpartition(":")[2])
    finally:
        process.terminate()
        process.wait(30)


def make_index(folder: Path, images: int) -> Path:
    """An index of drawn garments with a price each, made where it is not there yet."""
    import cir_plugins as cir
    from cir_plugins.search.index import Index
    from garments_plugin import write_garments

    out = folder / f"garments-{images}"
    if not (out / "index").is_dir():
        write_garments(out / "set", images=images, seed=0, progress=False)
        retriever = cir.build("image_text_sum", backbone="tiny_clip", progress=False)
        names = sorted(path.name for path in (out / "set" / "images").iterdir())
        metadata = {name: {"price": number % 100} for number, name in enumerate(names)}
        Index.build(
            retriever, out / "set" / "images", out / "index", metadata=metadata, progress=False
        )
    return out / "index"


def queries_of(port: int, count: int) -> list[Query]:
    """Queries of all kinds in turn."""
    content = json.loads(_get(port, "/api/index"))
    names = content["examples"]
    pictures = [_get(port, f"/api/pictures/{name}") for name in names[:4]]
    numbers = [field for field in content["fields"] if field["kind"] == "number"]
    queries = []
    for number in range(count):
        text, name = TEXTS[number % len(TEXTS)], names[number % len(names)]
        kinds: list[dict[str, Any]] = [
            {"text": text},
            {"reference": name},
            {"reference": name, "text": text},
            {"text": text, "image": pictures[number % len(pictures)]},
        ]
        if numbers:
            middle = (numbers[0]["low"] + numbers[0]["high"]) / 2
            kinds.append({"text": text, "filter": f"`{numbers[0]['name']}` < {middle}"})
        fields = kinds[number % len(kinds)]
        queries.append(Query("+".join(sorted(fields)), *_encoded(fields)))
    return queries


def _get(port: int, path: str) -> bytes:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    link.request("GET", path)
    content = link.getresponse().read()
    link.close()
    return content


def _encoded(fields: dict[str, Any]) -> tuple[bytes, str]:
    if "image" not in fields:
        return json.dumps(fields).encode(), "application/json"
    mark = uuid.uuid4().hex
    parts = []
    for name, value in fields.items():
        file = '; filename="picture"' if name == "image" else ""
        head = f'--{mark}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        parts.append(head.encode() + (value if file else value.encode()) + b"\r\n")
    return b"".join(parts) + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def ask(port: int, queries: Sequence[Query], turn: Sequence[int], answers: list[Answer]) -> None:
    """Send the queries of a client's turn over one connection."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    for number in turn:
        query = queries[number]
        start = time.perf_counter()
        headers = {"Content-Type": query.content_type}
        link.request("POST", "/api/search", query.body, headers)
        response = link.getresponse()
        content = response.read()
        seconds = time.perf_counter() - start
        answers.append(Answer(number, seconds, response.status, json.loads(content).get("hits")))
    link.close()


def measure(index: Path, clients: int, requests: int) -> dict[str, Any]:
    """The result line of a load."""
    with service(index) as port:
        pictures = json.loads(_get(port, "/api/index"))["summary"]["pictures"]
        queries = queries_of(port, 40)
        alone: list[Answer] = []
        ask(port, queries, range(len(queries)), [])  # the first ones warm up
        ask(port, queries, range(len(queries)), alone)
        wanted = {answer.query: answer.hits for answer in alone}
        together: list[Answer] = []
        threads = [
            threading.Thread(
                target=ask,
                args=(
                    port,
                    queries,
                    [(client + turn) % len(queries) for turn in range(requests)],
                    together,
                ),
            )
            for client in range(clients)
        ]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start
    return {
        "case": f"service, {clients} clients",
        "pictures": pictures,
        "requests": clients * requests,
        "errors": clients * requests - sum(answer.status == 200 for answer in together),
        "other_rankings": sum(answer.hits != wanted[answer.query] for answer in together),
        "per_second": round(len(together) / seconds, 1),
        **_milliseconds("", together),
        **_milliseconds("alone_", alone),
        # 1 is one query after another; below it, batches are cheaper than that.
        "ratio_to_one_by_one": round(
            seconds / (len(together) * float(np.mean([answer.seconds for answer in alone]))), 3
        ),
        "kinds": sorted({query.kind for query in queries}),
    }


def _milliseconds(name: str, answers: Sequence[Answer]) -> dict[str, float]:
    times = [answer.seconds * 1000 for answer in answers]
    return {f"{name}p{p}_ms": round(float(np.percentile(times, p)), 1) for p in (50, 95, 99)}


def main() -> None:
    """Print the result line; exit code 1 if there was an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", type=Path, help="an index; one of drawn garments if left out")
    parser.add_argument("--images", type=int, default=1000, help="drawn garments")
    parser.add_argument("--folder", type=Path, default=Path("build/service"))
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=20, help="of each client")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    index = options.index or make_index(options.folder, options.images)
    line = measure(index, options.clients, options.requests)
    from cir_plugins.bench.environment import hardware, versions

    print(json.dumps({**line, "hardware": hardware(), **versions()}))
    sys.exit(1 if line["errors"] or line["other_rankings"] else 0)


if __name__ == "__main__":
    main()
