"""The README's picture of a retrieval: garments drawn, a small model trained, its first five shown.

``python examples/retrieval_picture.py`` takes two minutes on two cores and no download. The queries
are drawn from the validation split by seed, whatever the model makes of them.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import cir_plugins as cir

FIRST = 5  # images shown of a ranking
SIDE, GAP, HEAD = 120, 12, 26
RIGHT, WRONG, INK = "#1a7f37", "#d0d7de", "#1f2328"
SETTINGS = {
    "backbone": "tiny_blip2",
    "loss": "info_nce",
    "sampler": {"name": "target_relative", "lower": 0.0, "upper": 0.3},
    "mining": {"negatives": "both", "per_query": 2, "every": 1, "start": 1},
}


def queries_of(split: cir.Split, count: int, seed: int) -> list[cir.Query]:
    """Queries of different references, drawn by seed."""
    queries = list(split.queries)
    random.Random(seed).shuffle(queries)
    return list({query.reference: query for query in queries}.values())[:count]


def picture(split: cir.Split, rankings: list[tuple[cir.Query, str, list[str]]]) -> Image.Image:
    """One line per query: the reference, the text, the first images; right ones have a frame."""
    text_width = 2 * SIDE
    width = GAP + SIDE + GAP + text_width + FIRST * (SIDE + GAP) + GAP
    sheet = Image.new("RGB", (width, HEAD + len(rankings) * (SIDE + GAP) + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    first = GAP + SIDE + GAP + text_width
    for left, title in ((GAP, "reference"), (GAP + SIDE + GAP, "text"), (first, "first five")):
        pen.text((left, 6), title, fill=INK, font=font)
    for line, (query, text, names) in enumerate(rankings):
        top = HEAD + line * (SIDE + GAP)
        right = {query.target, *query.positives}
        paste(sheet, split.paths[query.reference], GAP, top, WRONG)
        wrapped = wrap(text, pen, font, text_width - 2 * GAP)
        pen.multiline_text((GAP + SIDE + GAP, top + 8), wrapped, fill=INK, font=font, spacing=6)
        for place, name in enumerate(names):
            colour = RIGHT if name in right else WRONG
            paste(sheet, split.paths[name], first + place * (SIDE + GAP), top, colour)
    return sheet


def paste(sheet: Image.Image, path: Path, left: int, top: int, frame: str) -> None:
    """Put a picture on the sheet, in a frame of a colour."""
    with Image.open(path) as image:
        small = image.convert("RGB").resize((SIDE - 8, SIDE - 8), Image.Resampling.LANCZOS)
    sheet.paste(small, (left + 4, top + 4))
    edge = (left, top, left + SIDE - 1, top + SIDE - 1)
    ImageDraw.Draw(sheet).rectangle(edge, outline=frame, width=4 if frame == RIGHT else 1)


def wrap(text: str, pen: ImageDraw.ImageDraw, font: ImageFont.ImageFont, width: int) -> str:
    """The text in lines that fit a width in pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and pen.textlength(longer, font=font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def main() -> None:
    """Draw, train, search, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/retrieval.png"))
    parser.add_argument("--seed", type=int, default=0, help="seed that draws the queries")
    parser.add_argument("--queries", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few images, no training to speak of")
    options = parser.parse_args()
    registry = cir.Registry.load()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "drawn"
        draw = registry.factory("generator", "garments")(size=192)
        draw(root, images=120 if options.quick else 1000, seed=7)
        retriever = cir.train(
            "dqe",
            data={"name": "fashioniq", "gallery": "merged"},
            root=root,
            out=Path(folder) / "run",
            train={"epochs": 2 if options.quick else 3, "batch_size": 64, "lr": 5e-4},
            **SETTINGS,
        )
        splits = registry.factory("dataset", "fashioniq")(gallery="merged")(root)
        split = next(split for split in splits if split.role == "val")
        gallery = retriever.encode_images([split.paths[name] for name in split.gallery])
        rankings = []
        for query in queries_of(split, options.queries, options.seed):
            text = split.captions.texts(query.captions, query.category)[0]
            embedding = retriever.encode_query(split.paths[query.reference], text)
            hits = retriever.search(embedding, gallery, k=FIRST)
            rankings.append((query, text, [Path(name).stem for name in hits.ids]))
        options.out.parent.mkdir(parents=True, exist_ok=True)
        sheet = picture(split, rankings).quantize(128)
        sheet.save(options.out, optimize=True)
    print(f"{options.out}: {options.out.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
