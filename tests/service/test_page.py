"""The page in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cir_plugins.search.index import Index
from tests.service.conftest import Running, serving

pytest.importorskip("fastapi", reason="needs the extra: pip install 'cir-plugins[serve]'")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright: pip install playwright"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "0123456789abcdef"
DONE = "#results[aria-busy=false] .rank"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, service: Running) -> Iterator[Any]:
    """The page, open; whatever the browser complains of fails the test."""
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    page.on(
        "console",
        lambda line: (
            line.type == "error" and "status of 4" not in line.text and complaints.append(line.text)
        ),
    )
    foreign = page.context
    foreign.on(
        "request",
        lambda request: (
            request.url.startswith((service.address, "blob:"))
            or complaints.append(f"asks {request.url}")
        ),
    )
    page.goto(service.address)
    page.wait_for_selector("#hits .hit")
    yield page
    page.close()
    assert complaints == []


def ids(page: Any) -> list[str]:
    page.wait_for_selector(DONE)
    return [str(each) for each in page.locator("#hits .name a").all_inner_texts()]


def found(index: Index, **query: Any) -> list[str]:
    return [hit.id for hit in index.search(k=24, **query)]


def test_upload_search_go_on_and_back(page: Any, service: Running) -> None:
    """The walk of a shop's engineer: own picture, a change, a hit to go on from, and back."""
    index = service.index
    file = index.picture(index.ids[3])
    page.set_input_files("#file", file)
    assert page.locator("#preview").get_attribute("src").startswith("blob:")
    page.fill("#text", "the same in black")
    page.press("#text", "Enter")
    first = ids(page)
    assert first == found(index, image=file, text="the same in black")
    assert "24 hits" in page.locator("#status").inner_text()

    page.locator(".hit").nth(3).click()
    page.wait_for_function("(id) => document.title.includes(id)", arg=f"Like {first[3]}")
    second = ids(page)
    assert second == found(index, reference=first[3], exclude=first[3])
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.type("in red")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('#trail li').length === 4")
    third = ids(page)
    assert third == found(index, reference=first[3], exclude=first[3], text="in red")

    page.locator("#trail button").nth(1).click()
    page.wait_for_function("() => document.querySelectorAll('#trail li').length === 2")
    assert ids(page) == first
    assert page.input_value("#text") == "the same in black"
    page.go_forward()
    page.wait_for_function("() => document.querySelectorAll('#trail li').length === 3")
    assert ids(page) == second


def test_filters_from_the_metadata(page: Any, service: Running) -> None:
    page.fill("#text", "a dress")
    page.locator("#filters summary").click()
    page.get_by_label("it's <b>bold</b>").check()
    page.get_by_label("blue").check()
    page.get_by_label("price, at least").fill("30")
    page.get_by_label("on sale").select_option("true")
    page.fill("#expression", "price < 90 or price > 120")
    page.get_by_role("button", name="Apply the filters").click()
    text = (
        r"brand in ['blue', 'it\'s <b>bold</b>'] and price >= 30 and `on sale` == true "
        "and (price < 90 or price > 120)"
    )
    hits = ids(page)
    assert hits == found(service.index, text="a dress", filter=text)
    assert text in page.locator("#status").inner_text()
    assert page.locator("#filter-count").inner_text() == "(4 set)"
    page.get_by_role("button", name="Clear them").click()
    page.wait_for_function("() => !document.querySelector('#status').textContent.includes('where')")
    assert ids(page) == found(service.index, text="a dress")


def test_link_opens_the_same_search(page: Any, service: Running) -> None:
    name = service.index.ids[7]
    page.locator("#filters summary").click()
    page.get_by_label("red", exact=True).check()
    page.goto(f"{service.address}?reference={name}&text=in+black&weight=0.8&filter.brand=blue")
    hits = ids(page)
    query = {"reference": name, "exclude": name, "text": "in black", "weight": 0.8}
    assert hits == found(service.index, **query, filter="brand == 'blue'")
    assert page.input_value("#weight") == "0.8"
    assert page.get_by_label("blue").is_checked()
    assert page.locator("#filter-count").inner_text() == "(1 set)"
    assert not page.get_by_label("blue").is_visible()  # whoever gets a link came for the hits
    page.reload()
    assert ids(page) == hits
    assert parse_qs(urlsplit(page.url).query)["text"] == ["in black"]


def test_an_uploaded_picture_is_in_no_link(page: Any, service: Running) -> None:
    page.set_input_files("#file", service.index.picture(service.index.ids[3]))
    page.press("#text", "Enter")
    ids(page)
    page.reload()
    page.wait_for_selector("text=uploads are not kept")
    assert page.locator(".hit").count() == 0


def test_errors_are_shown_and_mended(page: Any, service: Running, tmp_path: Path) -> None:
    page.fill("#text", "a dress")
    page.locator("#filters summary").click()
    page.fill("#expression", "prise < 50")
    page.press("#expression", "Enter")
    alert = page.locator("#message")
    alert.wait_for()
    assert "unknown field in the filter 'prise'; nearest: price" in alert.inner_text()
    page.fill("#expression", "price < 50")
    page.press("#expression", "Enter")
    assert ids(page) == found(service.index, text="a dress", filter="price < 50")
    assert alert.is_hidden()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    page.set_input_files("#file", broken)
    page.get_by_role("button", name="Search").click()
    alert.wait_for()
    assert "the uploaded picture" in alert.inner_text()
    page.fill("#expression", "price < 0")
    page.get_by_role("button", name="Remove the picture").click()
    page.press("#expression", "Enter")
    page.wait_for_selector("text=No picture fits where price < 0")


def test_answers_come_into_sight(page: Any, tmp_path: Path) -> None:
    """Below open filters neither hits nor a message showed: the page looked as if it were dead."""
    page.set_viewport_size({"width": 375, "height": 700})
    page.fill("#text", "a dress")
    page.locator("#filters summary").click()
    page.fill("#expression", "price < 90")
    page.press("#expression", "Enter")
    ids(page)
    seen = "(id) => document.querySelector(id).getBoundingClientRect().top < innerHeight - 40"
    page.wait_for_function(seen, arg="#hits")
    page.fill("#expression", "prise < 90")
    page.press("#expression", "Enter")
    page.locator("#message").wait_for()
    page.wait_for_function(seen, arg="#message")
    assert page.locator("#trail img, #trail .blank").count() == 2
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    page.set_input_files("#file", broken)
    page.wait_for_function("() => document.querySelector('#preview').hidden")
    assert "broken.png" in page.locator("#chosen").inner_text()


def test_the_example_of_a_filter_is_one(page: Any, service: Running) -> None:
    example = page.get_attribute("#expression", "placeholder")
    assert example == "price < 129 and brand == 'blue'"
    assert service.index.search(text="a dress", filter=example)


def test_a_service_that_has_gone_is_a_message(browser: Any, index: Index) -> None:
    page = browser.new_page()
    with serving(index) as running:
        page.goto(running.address)
        page.wait_for_selector("#hits .hit")
    page.fill("#text", "a dress")
    page.press("#text", "Enter")
    page.wait_for_selector("text=The service does not answer")
    page.close()


def test_metadata_is_text_and_never_code(page: Any) -> None:
    """Titles of a shop's table come from elsewhere; one of them was a script."""
    page.fill("#text", "a dress")
    page.press("#text", "Enter")
    ids(page)
    assert page.locator("dd", has_text="<img src=x onerror=alert(1)>").count() == 24
    assert page.locator("dd img, dd b, label b").count() == page.locator("#choose b").count()


def test_drop_and_paste_choose_a_picture(page: Any) -> None:
    """A picture that misses the field must not replace the page."""
    for event, carrier in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        page.evaluate(
            """([event, carrier]) => {
              const canvas = document.createElement("canvas");
              canvas.width = canvas.height = 32;
              return new Promise((done) => canvas.toBlob((blob) => {
                const data = new DataTransfer();
                data.items.add(new File([blob], `${event}.png`, { type: "image/png" }));
                const kind = carrier === "dataTransfer" ? DragEvent : ClipboardEvent;
                dispatchEvent(new kind(event, { [carrier]: data, cancelable: true }));
                done();
              }));
            }""",
            [event, carrier],
        )
        page.wait_for_selector(f"#chosen >> text={event}.png")
        page.press("#text", "Enter")
        page.wait_for_function("(name) => document.title.includes(name)", arg=f"Like {event}.png")
        assert len(ids(page)) == 24


def test_keyboard_alone_is_enough(page: Any, service: Running) -> None:
    page.keyboard.press("/")
    page.keyboard.type("a dress")
    page.keyboard.press("Enter")
    first = ids(page)
    page.locator(".hit").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    columns = page.evaluate(
        "getComputedStyle(document.querySelector('#hits')).gridTemplateColumns.split(' ').length"
    )
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label.startswith(f"Hit {2 + columns}: {first[1 + columns]}, score ")
    page.keyboard.press("Enter")
    page.wait_for_function("(id) => document.title.includes(id)", arg=f"Like {first[1 + columns]}")


def test_screen_readers_find_names(page: Any) -> None:
    """A control without a name is announced as nothing but its kind."""
    page.fill("#text", "a dress")
    page.press("#text", "Enter")
    ids(page)
    page.locator("#filters summary").click()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, a, img")].filter((each) => {
          if (each.hidden) return false;
          const labels = each.labels ? [...each.labels].map((one) => one.textContent).join("") : "";
          const name = each.getAttribute("aria-label") || labels || each.textContent
            || each.getAttribute("alt");
          return name === null || (!name.trim() && each.getAttribute("alt") !== "");
        }).map((each) => each.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("[role=search], main, nav, h1").count() == 4
    assert page.locator("#status[role=status]").count() == 1
    assert page.locator("html[lang=en]").count() == 1


@pytest.mark.parametrize("width", [320, 375, 1300])
def test_narrow_windows_scroll_one_way(page: Any, service: Running, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    page.set_input_files("#file", service.index.picture(service.index.ids[3]))
    page.fill("#text", "a very long text about a dress " * 5)
    page.press("#text", "Enter")
    ids(page)
    page.locator(".hit").nth(2).click()
    page.wait_for_function("() => document.querySelectorAll('#trail li').length === 3")
    ids(page)
    page.locator("#filters summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, summary, input[type=text], select")]
          .filter((each) => each.offsetParent && each.getBoundingClientRect().height < 43.5)
          .map((each) => each.outerHTML.slice(0, 80))"""
    )
    assert small == []  # fingers need 44 pixels
    page.goto(f"{service.address}docs")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_show_more_goes_on_after_the_last_hit(page: Any, service: Running) -> None:
    page.fill("#text", "a dress")
    page.press("#text", "Enter")
    first = ids(page)
    page.get_by_role("button", name="Show more").click()
    page.wait_for_function("() => document.querySelectorAll('#hits .hit').length === 48")
    hits = ids(page)
    assert hits == [hit.id for hit in service.index.search(text="a dress", k=48)]
    assert hits[:24] == first
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Hit 25:")


def test_weight_is_the_methods_own_until_moved(page: Any, service: Running) -> None:
    name = service.index.ids[7]
    page.goto(f"{service.address}?reference={name}&text=in+black")
    ids(page)
    assert page.locator("#weight-value").inner_text() == "the method's own"
    page.locator("#weight").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => location.search.includes('weight=0.55')")
    query = {"reference": name, "exclude": name, "text": "in black", "weight": 0.55}
    assert ids(page) == found(service.index, **query)


def test_page_asks_for_the_token(browser: Any, index: Index) -> None:
    page = browser.new_page()
    with serving(index, token=TOKEN) as running:
        page.goto(f"{running.address}?text=a+dress")
        page.wait_for_selector("#gate[open]")
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=That is not the token")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        assert ids(page) == found(index, text="a dress")
        page.wait_for_function("() => document.querySelector('.hit img').complete")
        assert TOKEN not in page.content()
        assert page.evaluate("document.cookie") == ""
        page.close()
