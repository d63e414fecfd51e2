from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import cir_plugins as cir
from cir_plugins import CIRError
from cir_plugins.audits.page import write_audit
from cir_plugins.viewer.marks import slices_of_text

CHROMIUM = Path("/usr/bin/chromium")
QUIET: dict[str, Any] = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def retrievers(garments_root: Path) -> dict[str, cir.Retriever]:
    """Two methods without training; the name of the second is hostile."""
    data = {"name": "fashioniq", "root": str(garments_root)}
    names = {"sum": "image_text_sum", "<b>text</b>": "text_only"}
    return {
        name: cir.build(method, backbone="tiny_clip", data=data, **QUIET)
        for name, method in names.items()
    }


@pytest.fixture(scope="module")
def shown(
    retrievers: dict[str, cir.Retriever], tmp_path_factory: pytest.TempPathFactory
) -> tuple[cir.View, dict[str, Any]]:
    """A page and its data."""
    out = tmp_path_factory.mktemp("page") / "view"
    written = cir.view(retrievers, out, progress=False)
    return written, content_of(out)


def content_of(folder: Path) -> dict[str, Any]:
    text = (folder / "data.js").read_text(encoding="ascii")
    assert text.startswith("window.CIR_VIEW=")
    content: dict[str, Any] = json.loads(text.removeprefix("window.CIR_VIEW=").rstrip(";\n"))
    return content


def test_data_are_the_rankings_of_the_retrievers(
    shown: tuple[cir.View, dict[str, Any]], retrievers: dict[str, cir.Retriever]
) -> None:
    written, content = shown
    assert content["runs"] == list(retrievers)
    assert written.queries == len(content["queries"]) > 20
    images = content["images"]
    for number, retriever in enumerate(retrievers.values()):
        evaluation = retriever.evaluate()
        values = [v for s in evaluation.values.values() for v in s["recall@5"].tolist()]
        ranks = [query["ranks"][number] for query in content["queries"]]
        assert [float(0 < rank <= 5) for rank in ranks] == values
        ranked = [
            (s, q, ids)
            for s, top in retriever.rank(split="val", k=10)
            for q, ids in zip(s.queries, top, strict=True)
        ]
        for query, (split, source, ids) in zip(content["queries"], ranked, strict=True):
            assert [images[i] for i in query["top"][number]] == ids
            assert (query["split"], query["id"]) == (split.name, source.id)
            assert images[query["target"]] == source.target
            assert images[query["reference"]] == source.reference
            known = {images[i] for i in query["positives"]}
            assert known == set(source.positives) & set(images)


def test_every_image_has_a_small_picture(shown: tuple[cir.View, dict[str, Any]]) -> None:
    written, content = shown
    files = {f"{number}.jpg" for number in range(len(content["images"]))}
    assert {path.name for path in (written.page.parent / "pictures").iterdir()} == files
    with Image.open(written.page.parent / "pictures" / "0.jpg") as picture:
        assert max(picture.size) <= 144
    assert (written.pictures, written.unreadable, content["lost"]) == (len(files), (), [])


def test_slices_of_a_text() -> None:
    query = cir.Query("q", "a", ("has no sleeves", "and two belts"), "", "b")
    assert slices_of_text(query) == [
        "length: 6 to 10 words",
        "wording: negation",
        "wording: counting",
    ]


def test_slices_come_from_an_audit_of_the_same_data(
    retrievers: dict[str, cir.Retriever], tmp_path: Path
) -> None:
    one = {"sum": retrievers["sum"]}
    write_audit(cir.audit(retrievers["sum"]), tmp_path / "audit")
    cir.view(one, tmp_path / "view", audit=tmp_path / "audit", progress=False)
    content = content_of(tmp_path / "view")
    solved = content["slices"].index("shortcut: solved by sum")
    assert not [name for name in content["slices"] if name.startswith(("category", "attribute"))]
    for query in content["queries"]:
        assert (solved in query["slices"]) == (0 < query["ranks"][0] <= 10)
    marks = tmp_path / "audit" / "queries.json"
    whole = json.loads(marks.read_text())
    for damage, message in (
        ({**whole, "data": "0" * 16}, "is of data 0000000000000000"),
        ({**whole, "queries": whole["queries"][1:]}, "lacks 1 of the queries"),
        ({**whole, "slices": []}, "has a slice that the file does not name"),
        ({"data": whole["data"]}, "queries.json"),
    ):
        marks.write_text(json.dumps(damage))
        with pytest.raises(CIRError, match=message):
            cir.view(one, tmp_path / "view", audit=tmp_path / "audit", progress=False)


def test_runs_of_different_queries_are_an_error(
    retrievers: dict[str, cir.Retriever], garments_root: Path, tmp_path: Path
) -> None:
    data = {"name": "fashioniq", "root": str(garments_root), "gallery": "merged"}
    other = cir.build("text_only", backbone="tiny_clip", data=data, **QUIET)
    with pytest.raises(CIRError, match="'sum' and 'other' are of different queries or galleries"):
        cir.view({"sum": retrievers["sum"], "other": other}, tmp_path, progress=False)
    with pytest.raises(CIRError, match="no run to show"):
        cir.view({}, tmp_path, progress=False)
    with pytest.raises(CIRError, match="side is 8; accepted: 32 to 1024"):
        cir.view(retrievers, tmp_path, side=8)


@pytest.fixture
def page(shown: tuple[cir.View, dict[str, Any]]) -> Iterator[Any]:
    """The page in a browser; anything that it loads or that goes wrong there is an error."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=os.fspath(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        tab = browser.new_page(viewport={"width": 1300, "height": 900})
        requests: list[str] = []
        errors: list[str] = []
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(shown[0].page.as_uri())
        yield tab
        assert not [url for url in requests if not url.startswith("file://")]
        assert not errors
        browser.close()


def ids(page: Any) -> list[str]:
    """Ids of the queries that the page shows."""
    lines = page.locator("article .text > .soft").all_inner_texts()
    return [line.split(" of ")[0] for line in lines if " of " in line and "“" not in line]


def test_the_page_filters_sorts_and_remembers(
    page: Any, shown: tuple[cir.View, dict[str, Any]]
) -> None:
    queries = shown[1]["queries"]

    def expected(*chosen: dict[str, Any]) -> list[str]:
        return [query["id"] for query in chosen][:20]

    assert ids(page) == expected(*queries)
    assert page.locator("h1").inner_text() == "sum, <b>text</b> on fashioniq"
    page.select_option("#category", queries[-1]["category"])
    some = [query for query in queries if query["category"] == queries[-1]["category"]]
    assert ids(page) == expected(*some)
    page.select_option("#order", "worst")
    assert ids(page) == expected(*sorted(some, key=lambda query: -query["ranks"][0]))
    page.reload()
    assert ids(page) == expected(*sorted(some, key=lambda query: -query["ranks"][0]))
    page.get_by_role("button", name="Show all").click()
    page.select_option("#outcome", "better")
    better = [query for query in queries if query["ranks"][0] < query["ranks"][1]]
    assert ids(page) == expected(*better)
    page.select_option("#first", "1")
    page.select_option("#second", "0")
    assert ids(page) == expected(*(q for q in queries if q["ranks"][1] < q["ranks"][0]))
    page.get_by_role("button", name="Show all").click()
    attribute = next(name for query in queries for name in query["changed"])
    page.select_option("#attribute", attribute)
    assert ids(page) == expected(*(q for q in queries if attribute in q["changed"]))
    page.get_by_role("button", name="Show all").click()
    page.select_option("#slice", shown[1]["slices"][0])
    assert ids(page) == expected(*(query for query in queries if 0 in query["slices"]))
    page.get_by_role("button", name="Show all").click()
    page.fill("#words", queries[3]["id"].upper())
    assert queries[3]["id"] in ids(page)
    page.fill("#words", "no such word")
    assert page.locator("#queries").inner_text() == "No query is like this."


def test_the_page_works_by_keyboard(page: Any, shown: tuple[cir.View, dict[str, Any]]) -> None:
    queries = shown[1]["queries"]
    assert len(queries) > 20
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.locator("article.current").get_attribute("data-place") == "1"
    page.keyboard.press("k")
    assert page.locator("article:focus").get_attribute("data-place") == "0"
    page.keyboard.press("n")
    assert ids(page) == [query["id"] for query in queries[20:40]]
    page.keyboard.press("p")
    page.keyboard.press("/")
    page.keyboard.type("zz")
    assert page.input_value("#words") == "zz"
    page.keyboard.press("Escape")
    assert page.locator("#words:focus").count() == 0
    assert page.input_value("#words") == "zz"


@pytest.mark.parametrize("width", [1300, 375])
def test_no_width_needs_scrolling_sideways(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("article").count() == 20
    pictures = page.locator("article").first.locator("img")
    assert pictures.first.evaluate("image => image.complete && image.naturalWidth > 0")
    assert set(page.locator("article img").evaluate_all("all => all.map(i => i.loading)")) == {
        "lazy"
    }
