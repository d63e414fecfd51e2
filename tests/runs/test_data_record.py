"""A run knows its data: ``data.json``, and ``--resume`` after something changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cir_plugins.data.fingerprint import DataFingerprint
from cir_plugins.errors import CIRError
from cir_plugins.runs.build import read_splits
from cir_plugins.runs.data_record import DATA, read_data
from cir_plugins.runs.execute import execute
from cir_plugins.runs.folder import CONFIG, RECORD
from cir_plugins.training.trainer import LATEST
from tests.runs.test_execute import plan_of, registry

__all__ = ["registry"]  # the fixture

Change = Callable[[Path], None]


def edit(file: Path, change: Callable[[Any], Any]) -> None:
    file.write_text(json.dumps(change(json.loads(file.read_text()))))


def split_files(root: Path, folder: str) -> list[Path]:
    return sorted((root / folder).glob("*.train.json"))


def biggest(root: Path, folder: str) -> Path:
    return max(split_files(root, folder), key=lambda file: len(json.loads(file.read_text())))


def reorder_gallery(root: Path) -> None:
    edit(biggest(root, "image_splits"), lambda names: names[::-1])


def add_image(root: Path) -> None:
    file = biggest(root, "image_splits")
    picture = next((root / "images").iterdir())
    shutil.copy(picture, picture.with_stem("a-new-one"))
    edit(file, lambda names: [*names, "a-new-one"])


def replace_image(root: Path) -> None:
    name = json.loads(biggest(root, "captions").read_text())[0]["target"]
    (picture,) = (root / "images").glob(f"{name}.*")
    other = next(path for path in sorted((root / "images").iterdir()) if path != picture)
    shutil.copy(other, picture)


def change_captions(root: Path) -> None:
    edit(
        biggest(root, "captions"),
        lambda rows: [{**rows[0], "captions": ["is odd", "is even"]}, *rows[1:]],
    )


def remove_triplets(root: Path) -> None:
    captions = biggest(root, "captions")
    edit(captions, lambda rows: rows[:-1])
    edit(root / "meta" / captions.name.replace("cap", "kinds", 1), lambda kinds: kinds[:-1])


CASES: dict[str, tuple[Change, str]] = {
    "gallery reordered": (reorder_gallery, "another order of the gallery"),
    "image added": (add_image, r"\d+ gallery images instead of \d+; .*other gallery images"),
    "image replaced": (replace_image, "other contents of the images"),
    "captions changed": (change_captions, "other captions"),
    "triplets removed": (remove_triplets, r"\d+ queries instead of \d+"),
}


@pytest.fixture
def places(registry: Any, garments_root: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A data folder, to be changed, and a run on it."""
    root, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(garments_root, root)
    execute(plan_of(registry, root, train={"epochs": 1}), run, progress=False)
    return root, run


def resume(registry: Any, root: Path, run: Path) -> Any:
    plan = plan_of(registry, root, train={"epochs": 1})
    return execute(plan, run, resume=True, progress=False)


@pytest.mark.parametrize("case", list(CASES))
def test_resume_refuses_changed_data(registry: Any, places: tuple[Path, Path], case: str) -> None:
    """The mined negatives of a checkpoint are numbers of the gallery that was."""
    root, run = places
    change, phrase = CASES[case]
    change(root)
    before = (run / LATEST).read_bytes()
    with pytest.raises(CIRError, match=phrase) as caught:
        resume(registry, root, run)
    message = str(caught.value)
    assert message.startswith(f"the data changed since run {run} was begun: split 'merged.train': ")
    assert message.endswith("accepted: the same data, or another folder")
    assert (run / LATEST).read_bytes() == before


def test_resume_takes_the_same_data(registry: Any, places: tuple[Path, Path]) -> None:
    """A file that was touched or written anew is still the same."""
    root, run = places
    picture = next((root / "images").iterdir())
    picture.write_bytes(picture.read_bytes())
    outcome = resume(registry, root, run)
    assert outcome.report["data"] == json.loads((run / "results.json").read_text())["data"]


def test_a_run_records_its_splits(registry: Any, places: tuple[Path, Path]) -> None:
    root, run = places
    splits = read_splits(plan_of(registry, root), ("train", "val"))
    whole = DataFingerprint.of("fashioniq", splits)
    assert read_data(run) == whole
    results = json.loads((run / "results.json").read_text())
    assert results["data"] == whole.of_role("val").document


def test_data_is_recorded_before_training(
    registry: Any, garments_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed in its first epoch must know its data too."""

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cir_plugins.training.trainer.Trainer.fit", fail)
    with pytest.raises(KeyboardInterrupt):
        execute(plan_of(registry, garments_root), tmp_path / "run", progress=False)
    assert read_data(tmp_path / "run").dataset == "fashioniq"


def test_a_folder_that_was_being_made_goes_on(registry: Any, places: tuple[Path, Path]) -> None:
    root, run = places
    for file in run.iterdir():
        if file.name not in (CONFIG, DATA):
            file.unlink()
    reorder_gallery(root)  # nothing was trained on the data that was
    resume(registry, root, run)
    assert (run / RECORD).is_file()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), r"has no data\.json, .*accepted: another folder"),
        (lambda path: path.write_text("{"), r"data\.json is not valid JSON"),
        (lambda path: path.write_text("[]"), r"data\.json is damaged: its checksum differs"),
        (
            lambda path: path.write_text(path.read_text().replace("merged", "nerged")),
            r"data\.json is damaged: its checksum differs",
        ),
    ],
)
def test_a_damaged_record_is_refused(
    registry: Any, places: tuple[Path, Path], harm: Change, message: str
) -> None:
    root, run = places
    harm(run / DATA)
    with pytest.raises(CIRError, match=message):
        resume(registry, root, run)


def test_what_training_lacks_is_printed_and_stored(
    registry: Any, garments_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A third of the training data may be gone without a word in the results."""
    root = tmp_path / "data"
    shutil.copytree(garments_root, root)
    rows = json.loads(biggest(root, "captions").read_text())
    gone = {row["target"] for row in rows[2:4]}
    for name in gone:
        (picture,) = (root / "images").glob(f"{name}.*")
        picture.unlink()
    plan = plan_of(registry, root, train={"epochs": 1}, data={"missing": "drop"})
    outcome = execute(plan, tmp_path / "run", progress=True)
    training = json.loads((tmp_path / "run" / "results.json").read_text())["training"]
    assert training == outcome.training
    total = training["left_out"]["total"]
    assert total["queries"] >= 2
    assert training["left_out"]["splits"] == {"merged.train": total}
    assert training["data"] == outcome.data.of_role("train").document
    err = capsys.readouterr().err
    assert err.count("left out of training: ") == 1
    assert f"{total['queries']:,} queries, " in err
