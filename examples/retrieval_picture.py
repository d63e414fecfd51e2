"""The README's picture of a retrieval: garments drawn, a small model trained, its first five shown.

``python examples/retrieval_picture.py`` takes two minutes on two cores and no download. The queries
are drawn from the validation split by seed, whatever the model finds for them.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

import cir_plugins as cir

FIRST = 5  # images shown of a ranking
SIDE, GAP, HEAD, TEXT = 120, 12, 26, 240  # pixels
RIGHT, PLAIN, INK = "#1a7f37", "#d0d7de", "#1f2328"
SETTINGS: dict[str, Any] = {
    "backbone": "tiny_blip2",
    "schedule": {"name": "cosine_steps", "warmup": 0.1},
}
IMAGES, EPOCHS = 1000, 3
QUICK_IMAGES, QUICK_EPOCHS = 120, 1


def queries_of(split: cir.Split, count: int, seed: int) -> list[cir.Query]:
    """Queries of different references, drawn by seed."""
    queries = list(split.queries)
    random.Random(seed).shuffle(queries)
    return list({query.reference: query for query in queries}.values())[:count]


def picture(split: cir.Split, rankings: Sequence[tuple[cir.Query, Sequence[str]]]) -> Image.Image:
    """A sheet with a line per query: reference, text, first images; positives have a frame."""
    first = GAP + SIDE + GAP + TEXT
    size = first + FIRST * (SIDE + GAP) + GAP, HEAD + len(rankings) * (SIDE + GAP) + GAP
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for left, title in ((GAP, "reference"), (GAP + SIDE + GAP, "text"), (first, "first five")):
        pen.text((left, 6), title, fill=INK, font=font)
    for line, (query, names) in enumerate(rankings):
        top = HEAD + line * (SIDE + GAP)
        paste(sheet, split.paths[query.reference], GAP, top, PLAIN)
        lines = wrap(query.text, lambda text: pen.textlength(text, font=font), TEXT - 2 * GAP)
        corner = (GAP + SIDE + GAP, top + 8)
        pen.multiline_text(corner, "\n".join(lines), fill=INK, font=font, spacing=6)
        for rank, name in enumerate(names):
            frame = RIGHT if name in {query.target, *query.positives} else PLAIN
            paste(sheet, split.paths[name], first + rank * (SIDE + GAP), top, frame)
    return sheet


def paste(sheet: Image.Image, path: Path, left: int, top: int, frame: str) -> None:
    """Put a picture on the sheet, in a frame of a colour."""
    with Image.open(path) as image:
        small = image.convert("RGB").resize((SIDE - 8, SIDE - 8), Image.Resampling.LANCZOS)
    sheet.paste(small, (left + 4, top + 4))
    edge = (left, top, left + SIDE - 1, top + SIDE - 1)
    ImageDraw.Draw(sheet).rectangle(edge, outline=frame, width=4 if frame == RIGHT else 1)


def wrap(text: str, length: Callable[[str], float], width: int) -> list[str]:
    """Lines of a text that are no longer than a width in pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and length(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def retrieve(
    folder: Path, count: int, seed: int, quick: bool
) -> tuple[cir.Split, list[tuple[cir.Query, tuple[str, ...]]]]:
    """The validation split of drawn garments, and some queries with their first images."""
    registry, root = cir.Registry.load(), folder / "drawn"
    draw = registry.factory("generator", "garments")(size=192)
    draw(root, images=QUICK_IMAGES if quick else IMAGES, seed=7)
    training = {"epochs": QUICK_EPOCHS if quick else EPOCHS, "batch_size": 64, "lr": 5e-4}
    data = {"name": "fashioniq", "gallery": "merged"}
    run = cir.train("dqe", data=data, root=root, out=folder / "run", train=training, **SETTINGS)
    splits = registry.factory("dataset", "fashioniq")(gallery="merged")(root)
    split = next(split for split in splits if split.role == "val")
    gallery = run.retriever.encode_images({name: split.paths[name] for name in split.gallery})
    queries = queries_of(split, count, seed)
    references = [split.paths[query.reference] for query in queries]
    texts = [query.text for query in queries]
    embedded = run.retriever.encode_query(references, texts, raw_text=True)
    hits = run.retriever.search(embedded, gallery, k=FIRST)
    return split, list(zip(queries, hits.ids, strict=True))


def main() -> None:
    """Draw, train, search, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/retrieval.png"))
    parser.add_argument("--seed", type=int, default=0, help="seed that draws the queries")
    parser.add_argument("--queries", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few images, one epoch")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        split, rankings = retrieve(Path(folder), options.queries, options.seed, options.quick)
        sheet = picture(split, rankings).quantize(128)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out, optimize=True)
    print(f"{options.out}: {options.out.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
