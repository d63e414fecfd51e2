from __future__ import annotations

import json
from pathlib import Path

import pytest

import cir_plugins as cir
from tests.command import Call
from tests.layouts import small_preferences


@pytest.mark.usefixtures("one_thread")
def test_a_run_against_peoples_choices(cir: Call, garments_root: Path, tmp_path: Path) -> None:
    """The command's score of a set is the mean of those that the Python API gives."""
    run, report = tmp_path / "run", tmp_path / "report.json"
    words = ("--data", "fashioniq", "--root", garments_root, "--out", run, "--device", "cpu")
    sets = ("backbone=tiny_clip", "train.epochs=0", "run.workers=0")
    output = cir("train", "image_text_sum", *words, *(w for s in sets for w in ("--set", s)))
    assert output.code == 0, output.err
    file = small_preferences(tmp_path / "data")
    output = cir("preference", run, "--items", file, "--root", file.parent, "--json", report)
    assert output.code == 0, output.err
    assert json.loads(report.read_text()) == expected(run, file.parent)
    assert "3 items, 0 ties, 0 left out" in output.out
    assert cir("preference", run, "--root", file.parent).complains("--items FILE is missing")


def expected(run: Path, root: Path) -> dict[str, float | int | str]:
    retriever = cir.load(run, device="cpu", progress=False)
    items = [
        ("r", "IS RED  and is long", ("a", "b"), ("c", "d"), 1),
        ("q", "is blue", ("d", "b"), ("a", "c"), 2),
        ("r", "is green", ("a", "c"), ("b", "d"), 1),
    ]
    gallery = retriever.encode_images([root / "images" / f"{name}.png" for name in "abcd"])
    higher, agrees, ties = [], [], 0
    for reference, text, *pair, preferred in items:
        picture = root / "images" / f"{reference}.png"
        query = retriever.encode_query(picture, text, raw_text=True)
        (hits,) = retriever.search(query, gallery, k=4)
        score = {Path(str(name)).stem: value for name, value in hits}
        first, second = (sum(score[name] for name in one) / 2 for one in pair)
        if first > second:
            higher.append(preferred == 1)
        ties += first == second
        agrees.append((1 if first > second else 2) == preferred)
    return {
        "dataset": "hp_fashioniq",
        "preference_ratio": sum(higher) / max(1, len(higher)),
        "agreement": sum(agrees) / 3,
        "first_preferred": 2 / 3,
        "items": 3,
        "first_higher": len(higher),
        "ties": ties,
        "left_out": 0,
    }
