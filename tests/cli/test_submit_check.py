"""Submission files checked as the servers do, scored by a second reading, and compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cir_plugins as cir_api
from cir_plugins.data.split import Query
from cir_plugins.retrieval.submission_scores import QueryDifference, file_differences, query_score
from tests.command import Call
from tests.layouts import (
    cirr_entry,
    small_circo,
    write_circo_info,
    write_json,
    write_picture,
)
from tests.places import SharedData

Files = dict[str, Path]
TINY: dict[str, Any] = {"backbone": "tiny_clip", "device": "cpu", "progress": False}


def cirr_root(root: Path) -> Path:
    """A val and a test1 split of 54 images each, with six queries of two groups."""
    for name, where in (("val", "dev"), ("test1", "test1")):
        names = [f"{where}-{number}" for number in range(54)]
        entries = []
        for number in range(6):
            first = 6 * (number % 2)
            members = names[first : first + 6]
            target = None if name == "test1" else members[(number + 2) % 6]
            text = f"make it {number}"
            entries.append(cirr_entry(40 + number, members[number % 2], target, members, text))
        write_json(root / "captions" / f"cap.rc2.{name}.json", entries)
        write_json(
            root / "image_splits" / f"split.rc2.{name}.json",
            {image: f"./{where}/{image}.png" for image in names},
        )
        for shade, image in enumerate(names):
            write_picture(root / where / f"{image}.png", 5 * shade)
    return root


def circo_root(root: Path) -> Path:
    small_circo(root, pictures=False)
    for number in range(1, 61):
        write_picture(root / "images" / f"{number:012d}.jpg", 4 * number)
    write_circo_info(root, range(1, 61))
    return root


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Data folders, and submission files of both servers for the test and the val queries."""
    from cir_plugins.cli.submit import submit

    folder = tmp_path_factory.mktemp("servers")
    roots = {"cirr": cirr_root(folder / "cirr"), "circo": circo_root(folder / "circo")}
    files = {name: root for name, root in roots.items()}
    retriever = cir_api.build("image_text_sum", **TINY)
    for split in ("test", "val"):
        for data, root in roots.items():
            out = folder / split
            options = {"data": data, "root": root, "protocol": "", "options": {}, "split": split}
            for file in submit(retriever, out, **options):  # type: ignore[arg-type]
                files[f"{split}/{file.name}"] = file
    return files


@pytest.mark.parametrize("name", ["recall.json", "recall_subset.json", "circo.json"])
def test_a_written_file_is_accepted(cir: Call, written: Files, name: str) -> None:
    data = "circo" if name == "circo.json" else "cirr"
    output = cir("submit-check", written[f"test/{name}"], "--data", data, "--root", written[data])
    assert output.code == 0, output.err
    count = 2 if data == "circo" else 6
    assert f"{count} queries of split {'test' if data == 'circo' else 'test1'}" in output.out
    assert "recall@" not in output.out  # the targets are not public


@pytest.mark.parametrize("data", ["cirr", "circo"])
def test_the_val_file_scores_as_the_evaluation(
    cir: Call, written: Files, data: str, tmp_path: Path
) -> None:
    """Two readings of one ranking: a file that the server would score otherwise is of no use."""
    evaluation = cir_api.build("image_text_sum", **TINY).evaluate(data, written[data])
    scores: dict[str, float] = {}
    for name in ("circo.json",) if data == "circo" else ("recall.json", "recall_subset.json"):
        file = tmp_path / name
        arguments = ("submit-check", written[f"val/{name}"], "--data", data)
        output = cir(*arguments, "--root", written[data], "--split", "val", "--json", file)
        assert output.code == 0, output.err
        scores |= json.loads(file.read_text())["scores"]
    assert scores == pytest.approx(evaluation.measures, abs=1e-12)
    assert 0 < sum(scores.values()) < len(scores)


def test_two_files_are_compared_by_query(cir: Call, written: Files, tmp_path: Path) -> None:
    content = json.loads(written["val/recall.json"].read_text())
    content["40"][:2] = content["40"][1::-1]
    other, file = tmp_path / "other.json", tmp_path / "differences.json"
    write_json(other, content)
    arguments = ("--data", "cirr", "--root", written["cirr"], "--split", "val")
    output = cir(
        *("submit-check", written["val/recall.json"], *arguments),
        *("--against", other, "--json", file),
    )
    assert output.code == 0, output.err
    assert "5 of 6 queries are the same, 1 have another first image; 100.00 %" in output.out
    queries = json.loads(file.read_text())["against"]["queries"]
    assert [each["first_difference"] for each in queries] == [1, 0, 0, 0, 0, 0]
    subset = written["val/recall_subset.json"]
    mixed = cir("submit-check", subset, *arguments, "--against", other)
    assert mixed.complains("is a file for CIRR recall", "accepted: two files of one form")


def test_scores_and_differences_by_hand() -> None:
    query = Query("7", "r", ("x",), "x", "b", ("b", "d", "z"))
    # Hits at 2 and 4: precisions 1/2 and 1/2, over min(3, 4) positives.
    assert query_score("map@4", ["a", "b", "c", "d"], query) == pytest.approx(1 / 3)
    assert query_score("map@2", ["a", "b", "c", "d"], query) == pytest.approx(1 / 4)
    assert query_score("recall@1", ["a", "b"], query) == 0
    assert query_score("recall@2", ["a", "b"], query) == 1
    split = cir_api.Split("val", "val", (query,), ("a",), {})
    (found,) = file_differences({"7": ["a", "b", "c"]}, {"7": ["a", "c", "e"]}, split)
    assert found == QueryDifference("7", 2, 2, 2, 0)


def test_the_official_examples_validate(cir: Call, shared_data: SharedData, tmp_path: Path) -> None:
    folder = shared_data("circo")
    for split in ("test", "val"):
        example = folder / "submission_examples" / f"submission_{split}.json"
        output = cir("submit-check", example, "--data", "circo", "--root", folder, "--split", split)
        assert output.code == 0, output.err
        assert "image ids were not looked up" in output.out


def change(key: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda content: {**content, key: value}


def without(key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda content: {name: value for name, value in content.items() if name != key}


def images(edit: Callable[[list[Any]], list[Any]], key: str = "40") -> Callable[[Any], Any]:
    return lambda content: {**content, key: edit(content[key])}


RECALL, SUBSET, CIRCO = "test/recall.json", "test/recall_subset.json", "test/circo.json"
BROKEN: dict[str, tuple[str, Any, str]] = {
    "a list": (RECALL, lambda content: list(content), "accepted: one object"),
    "no version": (RECALL, without("version"), "has no 'version'\naccepted: 'rc2'"),
    "old version": (RECALL, change("version", "rc1"), "'version' = 'rc1'"),
    "no metric": (RECALL, without("metric"), "has no 'metric'\naccepted: 'recall' or"),
    "other metric": (RECALL, change("metric", "map"), "'metric' = 'map'"),
    "metric of the subset": (RECALL, change("metric", "recall_subset"), "has 50 images"),
    "a query less": (RECALL, without("41"), "1 of 6 queries have no ranking, such as '41'"),
    "a query more": (RECALL, change("99", []), "query '99' is not in split 'test1'"),
    "a padded id": (
        RECALL,
        lambda content: {f"0{key}" if key == "40" else key: v for key, v in content.items()},
        "no ranking, such as '40'",
    ),
    "an image less": (RECALL, images(lambda names: names[:49]), "has 49 images\naccepted: 50"),
    "an image more": (RECALL, images(lambda names: [*names, "test1-53"]), "has 51 images"),
    "an image twice": (RECALL, images(lambda names: [*names[:49], names[0]]), "an image twice"),
    "an ending": (
        RECALL,
        images(lambda names: [f"{names[0]}.png", *names[1:]]),
        "which is not in the gallery",
    ),
    "an image of val": (RECALL, images(lambda names: ["dev-1", *names[1:]]), "names 'dev-1'"),
    "the reference": (
        RECALL,
        images(lambda names: ["test1-0", *[name for name in names if name != "test1-0"][:49]]),
        "holds its reference",
    ),
    "a text": (RECALL, change("40", "test1-1"), "accepted: a list of images"),
    "scores": (RECALL, images(lambda names: [[name, 0.5] for name in names]), "names as strings"),
    "numbers": (RECALL, images(lambda names: list(range(50))), "names as strings"),
    "null": (RECALL, change("40", None), "query '40' has None"),
    "outside the group": (
        SUBSET,
        images(lambda names: [*names[:2], "test1-50"]),
        "not in the query's group",
    ),
    "two of the group": (SUBSET, images(lambda names: names[:2]), "has 2 images\naccepted: 3"),
    "numbers as text": (
        CIRCO,
        images(lambda names: [str(name) for name in names], "0"),
        "accepted: a list of whole numbers",
    ),
    "fractions": (CIRCO, images(lambda n: [float(i) for i in n], "0"), "a list of whole numbers"),
    "true": (CIRCO, images(lambda n: [True, *n[1:]], "1"), "a list of whole numbers"),
    "negative": (CIRCO, images(lambda n: [-1, *n[1:]], "1"), "whole numbers from 0"),
    "no such picture": (CIRCO, images(lambda n: [999, *n[1:]], "1"), "'999', which is not in"),
    "a header": (CIRCO, change("version", "rc2"), "accepted: a list of images"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(cir: Call, written: Files, tmp_path: Path, name: str) -> None:
    """The servers take few files a day, and say little about a bad one."""
    source, edit, reason = BROKEN[name]
    file = tmp_path / "broken.json"
    write_json(file, edit(json.loads(written[source].read_text())))
    data = "circo" if source == CIRCO else "cirr"
    output = cir("submit-check", file, "--data", data, "--root", written[data])
    assert output.complains(*reason.split("\n")), output


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda content: content[:-40], "is not valid JSON, perhaps cut off"),
        (lambda content: b"", "is not valid JSON"),
        (lambda content: b"\xff" + content, "is not UTF-8 text"),
        (lambda content: content[:1] + b'"40": [], ' + content[1:], "has '40' twice"),
        (lambda content: content + b" " * 5_000_000, "accepted by the CIRR recall server"),
    ],
)
def test_broken_bytes_are_refused(
    cir: Call, written: Files, tmp_path: Path, edit: Callable[[bytes], bytes], reason: str
) -> None:
    file = tmp_path / "broken.json"
    file.write_bytes(edit(written[RECALL].read_bytes()))
    output = cir("submit-check", file, "--data", "cirr", "--root", written["cirr"])
    assert output.complains(reason), output


def test_wrong_options_are_errors(cir: Call, written: Files, tmp_path: Path) -> None:
    file = written[RECALL]
    assert cir("submit-check", file, "--data", "cirr").complains("--root DIR is missing")
    arguments = ("submit-check", file, "--root", written["cirr"])
    assert cir(*arguments, "--data", "fashioniq").complains("has no test server")
    assert cir(*arguments, "--data", "cirr", "--split", "train").complains("unknown value")
    shutil.copytree(written["cirr"], tmp_path / "cirr")
    (tmp_path / "cirr" / "captions" / "cap.rc2.test1.json").unlink()
    output = cir("submit-check", file, "--data", "cirr", "--root", tmp_path / "cirr")
    assert output.complains("nothing to read in")
