from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from cir_plugins.data.readers.circo import CIRCO
from cir_plugins.data.readers.cirr import CIRR
from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError
from cir_plugins.retrieval.submission import (
    CIRCO_RANKING,
    CIRR_RECALL,
    CIRR_SUBSET,
    Form,
    check_submission,
    submission,
    write_submission,
)
from tests.layouts import write_json
from tests.places import SharedData


def cirr(count: int = 2) -> Split:
    gallery = tuple(f"img{number}" for number in range(60))
    queries = tuple(
        Query(str(70 + n), gallery[n], ("x",), "x", group=gallery[n + 1 : n + 6])
        for n in range(count)
    )
    return Split("test1", "test", queries, gallery, {}, drop_reference=True)


def circo(count: int = 2) -> Split:
    gallery = tuple(str(number) for number in range(100, 160))
    queries = tuple(Query(str(n), gallery[n], ("x",), "x") for n in range(count))
    return Split("test", "test", queries, gallery, {})


def shuffled(split: Split) -> dict[str, list[str]]:
    rng = random.Random(0)
    return {query.id: rng.sample(split.gallery, len(split.gallery)) for query in split.queries}


def test_cirr_recall_takes_fifty_without_the_reference(tmp_path: Path) -> None:
    split = cirr()
    rankings = {query.id: list(split.gallery) for query in split.queries}
    table = submission(CIRR_RECALL, rankings, split)
    assert list(table) == ["version", "metric", "70", "71"]
    assert (table["version"], table["metric"]) == ("rc2", "recall")
    assert table["70"] == list(split.gallery[1:51])
    assert table["71"] == [split.gallery[0], *split.gallery[2:51]]


def test_cirr_subset_takes_three_of_the_group() -> None:
    split = cirr()
    rankings = {query.id: list(reversed(split.gallery)) for query in split.queries}
    table = submission(CIRR_SUBSET, rankings, split)
    assert table["metric"] == "recall_subset"
    assert table["70"] == ["img5", "img4", "img3"]


def test_circo_takes_fifty_numbers() -> None:
    split = circo()
    table = submission(CIRCO_RANKING, shuffled(split), split)
    assert list(table) == ["0", "1"]
    assert isinstance(table["0"], list)
    assert table["0"] == [int(image) for image in shuffled(split)["0"][:50]]


@pytest.mark.parametrize("form", [CIRR_RECALL, CIRR_SUBSET, CIRCO_RANKING])
def test_what_is_written_is_accepted(tmp_path: Path, form: Form) -> None:
    split = circo() if form is CIRCO_RANKING else cirr()
    file = tmp_path / "new" / "out.json"
    write_submission(file, form, shuffled(split), split)
    check_submission(file, form, split)
    assert json.loads(file.read_text()) == submission(form, shuffled(split), split)
    assert [path.name for path in file.parent.iterdir()] == ["out.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    split, file = cirr(), tmp_path / "out.json"
    file.write_text("old")
    with pytest.raises(CIRError, match=r"out\.json has [\d,]+ bytes\naccepted by the .*: 100"):
        write_submission(file, replace(CIRR_RECALL, max_bytes=100), shuffled(split), split)
    assert file.read_text() == "old"
    (tmp_path / "folder").mkdir()
    with pytest.raises(CIRError, match=r"folder cannot be written: .*Is a directory"):
        write_submission(tmp_path / "folder", CIRR_RECALL, shuffled(split), split)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "out.json"]


def test_a_full_cirr_file_fits_the_server(tmp_path: Path) -> None:
    names = tuple(f"test1-{number}-3-img1" for number in range(1000, 1060))
    queries = tuple(Query(str(12_000 + n), names[n % 60], ("x",), "x") for n in range(4148))
    split = Split("test1", "test", queries, names, {}, drop_reference=True)
    rankings = {query.id: names for query in queries}
    write_submission(tmp_path / "out.json", CIRR_RECALL, rankings, split)
    assert 4_000_000 < (tmp_path / "out.json").stat().st_size <= 5_000_000


def test_bad_rankings_are_errors() -> None:
    split = cirr()
    good = shuffled(split)
    with pytest.raises(CIRError, match="CIRR recall: 1 of 2 queries have no ranking, such as '71'"):
        submission(CIRR_RECALL, {"70": good["70"]}, split)
    with pytest.raises(CIRError, match=r"query '9' is not in split 'test1' \(1 such queries\)"):
        submission(CIRR_RECALL, {**good, "9": []}, split)
    short = [image for image in good["70"] if image != "img0"][:49]
    with pytest.raises(CIRError, match="query '70' has 49 images\naccepted: 50"):
        submission(CIRR_RECALL, {**good, "70": short}, split)
    with pytest.raises(CIRError, match="query '70' names an image twice"):
        submission(CIRR_RECALL, {**good, "70": ["img7"] * 50}, split)
    with pytest.raises(CIRError, match="query '70' names 'x', which is not in the gallery"):
        submission(CIRR_RECALL, {**good, "70": ["x", *good["70"]]}, split)
    with pytest.raises(CIRError, match=r"CIRR subset recall: .* has 2 images\naccepted: 3"):
        submission(CIRR_SUBSET, {**good, "70": ["img1", "img2"]}, split)


def test_circo_needs_all_queries_in_order() -> None:
    split = circo(3)
    shorter = replace(split, queries=split.queries[1:])
    with pytest.raises(CIRError, match=r"query ids of split 'test' are not 0, 1, 2"):
        submission(CIRCO_RANKING, shuffled(shorter), shorter)


def test_bad_files_are_errors(tmp_path: Path) -> None:
    split, file = cirr(1), tmp_path / "a.json"
    good = submission(CIRR_RECALL, shuffled(split), split)
    ranking = good["70"]
    assert isinstance(ranking, list)
    write_json(file, {**good, "metric": "recall_subset"})
    with pytest.raises(CIRError, match="has 'metric' = 'recall_subset'\naccepted: 'recall'"):
        check_submission(file, CIRR_RECALL, split)
    write_json(file, {key: value for key, value in good.items() if key != "version"})
    with pytest.raises(CIRError, match="has no 'version'\naccepted: 'rc2'"):
        check_submission(file, CIRR_RECALL, split)
    write_json(file, {**good, "70": "img1"})
    with pytest.raises(CIRError, match="query '70' has 'img1'\naccepted: a list of images"):
        check_submission(file, CIRR_RECALL, split)
    write_json(file, {**good, "70": ["img0", *ranking[1:]]})
    with pytest.raises(CIRError, match="the ranking of query '70' holds its reference"):
        check_submission(file, CIRR_RECALL, split)
    write_json(file, {"0": [str(number) for number in range(50)]})
    with pytest.raises(CIRError, match=r"query '0' has .*\naccepted: a list of whole numbers"):
        check_submission(file, CIRCO_RANKING, circo(1))
    file.write_text("{")
    with pytest.raises(CIRError, match=r"a\.json is not valid JSON"):
        check_submission(file, CIRCO_RANKING, circo(1))


@pytest.mark.parametrize("name", ["val", "test"])
def test_the_official_circo_examples_are_accepted(
    name: str, tmp_path: Path, shared_data: SharedData
) -> None:
    folder = shared_data("circo")
    example = folder / "submission_examples" / f"submission_{name}.json"
    listed = {str(image) for images in json.loads(example.read_text()).values() for image in images}
    split = next(split for split in CIRCO().annotations(folder) if split.name == name)
    split = replace(split, gallery=tuple(sorted(listed)))
    check_submission(example, CIRCO_RANKING, split)
    content = json.loads(example.read_text())
    content["1"] = content["1"][:49] + content["1"][:1]
    write_json(tmp_path / "a.json", content)
    with pytest.raises(CIRError, match="query '1' names an image twice"):
        check_submission(tmp_path / "a.json", CIRCO_RANKING, split)


def test_real_cirr_queries_make_an_official_file(tmp_path: Path, shared_data: SharedData) -> None:
    split = CIRR(splits=("test1",)).annotations(shared_data("cirr"))[0]
    rankings = {query.id: split.gallery for query in split.queries}
    write_submission(tmp_path / "a.json", CIRR_RECALL, rankings, split)
    table = json.loads((tmp_path / "a.json").read_text())
    assert len(table) == 4148 + 2
    assert all(len(value) == 50 for key, value in table.items() if key.isdigit())
    write_submission(tmp_path / "b.json", CIRR_SUBSET, rankings, split)
    table = json.loads((tmp_path / "b.json").read_text())
    assert all(len(value) == 3 for key, value in table.items() if key.isdigit())
