from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cir_plugins.bench.grids import triplet_of
from cir_plugins.bench.page import HEADS, write_page, write_run_page
from cir_plugins.bench.published import Published
from cir_plugins.bench.records import RunRecord
from cir_plugins.bench.sampling import sampler_report
from tests.bench.toy import record, result, suite, val_split

MINING = {
    "negative_pool": {"mean": 66.4, "quartiles": [33.0, 66.0, 98.0]},
    "empty": 0.004,
    "false_negatives": 0.0,
    "fallback": 0.25,
    "score_gap": {"span": [-2.0, 2.0], "counts": [0, 0, 3, 1]},
}

AT_RANDOM = {"negative_pool": MINING["negative_pool"], "empty": 0.0, "false_negatives": 0.0}

PRINTED = Published(
    id="a",
    method="of_the_same_gallery",
    dataset="fashioniq",
    split="val",
    gallery="original",
    reference="kept",
    captions="and",
    source="A paper, table 1",
    backbone="ResNet-50",
    verified=True,
    columns={"recall@10": 12.5},
)


class Links(HTMLParser):
    """Tags of a page and the addresses that it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag and what it loads."""
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def runs(tmp_path: Path) -> tuple[list[RunRecord], Path]:
    made = val_split(tmp_path)
    query = made.queries[0]
    ranking = {made.name: {triplet_of(query): [*query.positives, query.reference]}}
    curve = (
        {"epoch": 0, "loss": 1.0, "main": 0.5, "mining": AT_RANDOM},
        {"epoch": 1, "loss": 0.5, "main": 0.6, "mining": MINING},
    )
    records = [
        record("first <row>", 0, {"s": [0.0, 1.0]}, curve=curve, rankings=ranking),
        record("first <row>", 1, {"s": [0.0, 0.0]}, curve=curve),
        record("second", 0, {"s": [0.0]}, error="went <wrong>"),
    ]
    named = suite("first <row>", "second", seeds=(0, 1))
    return records, write_page(result(named, records, (made,)), tmp_path / "out")


def test_page_needs_no_other_file(tmp_path: Path) -> None:
    _, file = runs(tmp_path)
    assert file == tmp_path / "out" / "index.html"
    text = file.read_text()
    links = Links()
    links.feed(text)
    assert links.sources
    assert all(source.startswith("data:image/") for source in links.sources)
    assert not {"script", "link", "iframe"} & set(links.tags)
    assert not re.search(r"url\(|@import|http", text)


def test_page_shows_table_failures_and_conditions(tmp_path: Path) -> None:
    _, file = runs(tmp_path)
    text = re.sub(r"data:image/[^\"]+", "", file.read_text())
    for part in (
        "A &lt;made-up&gt; comparison.",
        "first &lt;row&gt;",
        "failed: second, seed 0: went &lt;wrong&gt;",
        "Mean ± standard deviation over the seeds.\nBrackets after Δ: 95 % interval.",
        "25.0 ± 35.4",
        "random ranking",
        "A CPU, 2 usable cores, 2 threads",
        "torch 2.6.0",
        "commit abc123",
        "Validation R@10 per epoch",
        "<td>33 / 66 / 98</td><td>–</td><td>25.0 %</td><td>0.4 %</td><td>0.0 %</td><td>–</td>",
        "2 of 2 found",
        "<h3>first &lt;row&gt;, seed 0</h3>",
    ):
        assert part in text, part
    assert all(f'<th scope="col">{head}</th>' in text for head in HEADS)
    assert text.count(">✓<") == 1 + 2
    assert text.count(">★<") == 1 + 1 + 1
    assert text.count(">R<") == 1 + 1


def test_page_of_failures_only(tmp_path: Path) -> None:
    made = result(suite("a"), [record("a", 0, {"s": [0.0]}, error="why")], ())
    text = write_page(made, tmp_path).read_text()
    assert "failed: a, seed 0: why" in text
    assert "Retrieved images" not in text
    assert "Mined negatives" not in text
    assert "<h2>Training</h2>" not in text


def test_published_numbers_of_the_same_protocol_stand_apart(tmp_path: Path) -> None:
    """Numbers of another gallery beside ours would be read as a comparison."""
    made = val_split(tmp_path)
    named = suite("first", seeds=(0,))
    shown = result(named, [record("first", 0, {made.name: [0.0, 1.0]})], (made,))
    same = PRINTED.model_copy(update={"gallery": str(named.data.get("gallery", "original"))})
    other = same.model_copy(update={"id": "b", "method": "of_another_gallery", "gallery": "val"})
    text = write_page(shown, tmp_path / "a", published=(same, other)).read_text()
    assert "not measured here" in text
    assert "of_the_same_gallery" in text
    assert "of_another_gallery" not in text
    assert "not measured here" not in write_page(shown, tmp_path / "b").read_text()


def test_page_of_one_run_shows_its_alarms(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    curve = [{"epoch": 0, "loss": 1.0, "mining": {**MINING, "empty": 0.75}}]
    write_run_page(file, "a <method>", curve, sampler_report(curve))
    text = file.read_text()
    assert "<h1>a &lt;method&gt;</h1>" in text
    assert "75.0 % of the queries have no negative" in text
    assert text.count("data:image/svg") == 2


def test_page_of_a_run_that_mined_nothing(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    curve = [{"epoch": 0, "loss": 1.0}]
    write_run_page(file, "a", curve, sampler_report(curve))
    assert "No negatives were mined" in file.read_text()


def test_page_is_written_without_a_picture_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of the drawing library lost the page after hours of training."""

    def fail(*_: object) -> str:
        raise ValueError("no such glyph")

    for name in ("curves.loss_picture", "grids", "sampler_svg"):
        monkeypatch.setattr(f"cir_plugins.bench.page.{name}", fail)
    _, file = runs(tmp_path)
    text = file.read_text()
    for title in (
        "Training loss per epoch",
        "Retrieved images",
        "Mined negatives of first &lt;row",
    ):
        assert f"left out, cannot be drawn: {title}" in text
    assert "Validation R@10 per epoch" in text
    assert "ValueError: no such glyph" in caplog.text
    curve = [{"epoch": 0, "loss": 1.0, "mining": MINING}]
    write_run_page(tmp_path / "report.html", "a", curve, sampler_report(curve))
    assert "cannot be drawn" in (tmp_path / "report.html").read_text()


def test_cut_off_tables_have_a_shadow(tmp_path: Path) -> None:
    """On a narrow screen a wide table ended without a sign that it goes on."""
    _, file = runs(tmp_path)
    text = file.read_text()
    rule = re.search(r"\.scroll \{(.*?)\}", text, re.DOTALL)
    assert rule is not None
    assert "overflow-x: auto" in rule[1]
    assert rule[1].count("no-repeat local") == rule[1].count("no-repeat scroll") == 2
    assert text.count("<table") == text.count('<div class="scroll"><table')
