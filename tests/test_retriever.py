"""The Python API gives the numbers of the command line, for files and for pictures in memory."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import cir_plugins as cir
from cir_plugins import CIRError, Embeddings, Registry
from cir_plugins.cli.terminal import show_report
from cir_plugins.data.images import open_image
from cir_plugins.data.split import Split
from cir_plugins.plugins.hookspecs import hookimpl
from cir_plugins.retrieval.evaluate import SplitResult
from cir_plugins.retrieval.search import search
from cir_plugins.runs.build import read_splits
from cir_plugins.runs.evaluation import Evaluation
from tests.command import Call
from tests.places import ROOT

RULES = {"name": "fashioniq", "prefix": "A photo that {}", "lower": True, "max_words": 9}
QUIET: dict[str, Any] = {"device": "cpu", "progress": False}


class Tagged(cir.Method):
    """Contrastive learning with a caption edit and an option that only evaluation uses."""

    recipe = cir.Method.recipe
    caption_edit = staticmethod(lambda caption: f"tag {caption}")
    eval_only_options = frozenset({"flip"})

    def __init__(self, components: cir.Components, *, flip: bool = False) -> None:
        super().__init__(components)
        self.flip = flip

    def similarity(self, query: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cosine scores, the other way round with ``flip``."""
        scores = super().similarity(query, target)
        return -scores if self.flip else scores


class Plugin:
    """Offers the method of these tests."""

    @hookimpl
    def cir_methods(self) -> dict[str, Any]:
        """The method by its name."""
        return {"tagged": Tagged}


@pytest.fixture(scope="module")
def registry() -> Registry:
    registry = Registry.load({"tests": Plugin()})
    assert not registry.failures
    return registry


@pytest.fixture(scope="module")
def run(
    registry: Registry, garments_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> cir.Run:
    """A run of one epoch with caption rules and a caption edit of its own."""
    return cir.train(
        "tagged",
        data={**RULES, "gallery": "merged"},
        root=garments_root,
        out=tmp_path_factory.mktemp("runs") / "tagged",
        backbone={"name": "tiny_clip", "start": "random"},
        epochs=1,
        workers=0,
        registry=registry,
        **QUIET,
    )


@pytest.fixture(scope="module")
def retriever(run: cir.Run, registry: Registry) -> cir.Retriever:
    return cir.load(run.folder, registry=registry, progress=False)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, registry: Registry) -> None:
    monkeypatch.setattr(Registry, "load", classmethod(lambda cls: registry))


@pytest.fixture(scope="module")
def pictures(garments_root: Path) -> list[Path]:
    return sorted((garments_root / "images").iterdir())[:9]


def test_evaluate_gives_the_report_of_the_command(
    cir: Call, installed: None, run: Any, retriever: Any, tmp_path: Path
) -> None:
    """Caption rules, caption edit or precision forgotten in Python move recall by points."""
    output = cir("eval", run.folder, "--json", tmp_path / "report.json")
    assert output.code == 0, output.err
    evaluation = retriever.evaluate()
    assert json.loads((tmp_path / "report.json").read_text()) == evaluation.report
    assert evaluation.data_fingerprint == evaluation.report["data"]["fingerprint"]
    assert evaluation.data_fingerprint == run.evaluation.data_fingerprint
    assert f"data: fingerprint {evaluation.data_fingerprint}" in output.out
    assert evaluation.report == run.evaluation.report == run.evaluate().report
    assert evaluation.measures == evaluation.report["average"]
    assert (evaluation.dataset, evaluation.protocol) == ("fashioniq", "custom")
    assert evaluation.changed == {}
    assert evaluation.queries == sum(len(split.queries) for split in evaluation.splits)
    values = evaluation.values["merged.val"]["recall@10"]
    assert float(values.mean()) == evaluation.measures["recall@10"]
    assert evaluation.main_measures == ("map@10",)
    assert evaluation.main == evaluation.measures["map@10"]
    assert output.out.splitlines()[2].split() == ["map@10", f"{100 * evaluation.main:.2f}"]
    assert str(evaluation).splitlines()[1].split() == output.out.splitlines()[2].split()


def test_the_mean_of_several_main_measures_comes_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two of eight measures make the number that papers compare; nothing marked them."""
    measures = {"recall@1": 0.1, "recall@10": 0.3, "recall@50": 0.5}
    result = SplitResult("dress.val", measures, {}, 7, 9)
    split = Split("dress.val", "val", (), (), {}, main=("recall@10", "recall@50"))
    evaluation = Evaluation("fashioniq", "original", (result,), (split,))
    show_report(evaluation.report, evaluation.main_measures)
    names = ["mean of recall@10 and recall@50", "recall@10", "recall@50", "recall@1"]
    for text in (capsys.readouterr().out.split("measure", 1)[1], str(evaluation)):
        lines = [line.rsplit(maxsplit=1) for line in text.splitlines()[1:-1]]
        assert [name.strip() for name, _ in lines] == names
        assert [value for _, value in lines] == ["40.00", "30.00", "50.00", "10.00"]


def test_another_protocol_is_named_with_what_changed(
    cir: Call, installed: None, run: Any, retriever: Any, tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    output = cir("eval", run.folder, "--protocol", "original", "--json", file)
    assert "changed from the run: data.gallery 'merged' -> 'original'" in output.out
    assert "data.prefix" not in output.out
    report = json.loads(file.read_text())
    assert retriever.evaluate(protocol="original").report == report
    assert len(report["splits"]) > 1


@pytest.mark.parametrize("batch_size", [1, 64])
def test_a_search_ranks_as_the_evaluation_does(retriever: Any, batch_size: int) -> None:
    """In batches of one the scores are those of the evaluation to the bit."""
    (split,) = read_splits(retriever.plan, ("val",))
    paths = {name: split.paths[name] for name in split.gallery}
    gallery = retriever.encode_images(paths, batch_size=batch_size)
    queries = retriever.encode_query(
        [split.paths[query.reference] for query in split.queries],
        [query.captions for query in split.queries],
        batch_size=batch_size,
    )
    hits = retriever.search(queries, gallery, k=10)
    targets = [query.target for query in split.queries]
    first_ten = [target in ids for target, ids in zip(targets, hits.ids, strict=True)]
    evaluation = retriever.evaluate(batch_size=batch_size)
    assert first_ten == evaluation.values["merged.val"]["recall@10"].bool().tolist()
    ((_, ranked),) = retriever.rank(split="val", k=10)
    if batch_size == 64:
        assert [list(ids) for ids in hits.ids] == ranked


def test_texts_follow_the_runs_caption_rules(retriever: Any, pictures: list[Path]) -> None:
    query = retriever.encode_query(pictures[0], "Is Red.")
    assert query.ids == ("a photo that tag is red",)
    pair = retriever.encode_query(pictures[0], [("Is Red.", "has sleeves")])
    assert pair.ids == ("a photo that tag is red and tag has",)  # nine words at most
    assert retriever.encode_query(pictures[0], ("Is Red.", "has sleeves")).ids == pair.ids
    raw = retriever.encode_query(pictures[0], "Is Red.", raw_text=True)
    assert raw.ids == ("Is Red.",)
    assert not torch.equal(raw.vectors, query.vectors)


def test_paths_and_pictures_give_the_same_vectors(retriever: Any, pictures: list[Path]) -> None:
    files = retriever.encode_images(pictures)
    memory = retriever.encode_images([Image.open(path) for path in pictures])
    mixed = retriever.encode_images([str(pictures[0]), *map(open_image, pictures[1:])])
    by_id = retriever.encode_images({path.stem: path for path in pictures})
    assert torch.equal(files.vectors, memory.vectors)
    assert torch.equal(files.vectors, mixed.vectors)
    assert torch.equal(files.vectors, by_id.vectors)
    assert files.ids == tuple(map(str, pictures))
    assert memory.ids == tuple(map(str, range(9)))
    assert mixed.ids == (str(pictures[0]), *map(str, range(1, 9)))
    assert by_id.ids == tuple(path.stem for path in pictures)
    one = retriever.encode_images(pictures[0])
    assert (len(one), one.vectors.shape[0]) == (1, 1)
    torch.testing.assert_close(one.vectors, files.vectors[:1])
    assert files.vectors.norm(dim=1).allclose(torch.ones(9))


def test_one_image_or_text_stands_for_all(retriever: Any, pictures: list[Path]) -> None:
    both = retriever.encode_query(pictures[:2], "is red")
    each = [retriever.encode_query(path, "is red").vectors for path in pictures[:2]]
    torch.testing.assert_close(both.vectors, torch.cat(each))
    texts = retriever.encode_query(pictures[0], ["is red", "is blue", "is red"])
    assert torch.equal(texts.vectors[0], texts.vectors[2])
    assert not torch.equal(texts.vectors[0], texts.vectors[1])


def test_eval_only_options_follow_the_recipe(
    retriever: Any, garments_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another data set the recipe's value counts, and the weights stay those of the run."""
    recipe = replace(Tagged.recipe, datasets={"circo": {"method.flip": True}})
    monkeypatch.setattr(Tagged, "recipe", recipe)
    plan = retriever._plan_on("circo", garments_root, "", {})
    method = retriever._method_of(plan)
    assert plan.method.options["flip"] is True
    assert method.flip
    assert not retriever.method.flip
    state = retriever.method.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())


def toy(*rows: list[float], ids: str = "abcdefg") -> Embeddings:
    return Embeddings(tuple(ids[: len(rows)]), torch.tensor(rows))


def find(query: Embeddings, gallery: Embeddings, k: int = 10, **options: Any) -> Any:
    return search(query, gallery, k, lambda q, t: q @ t.T, torch.device("cpu"), **options)


def test_hits_are_best_first_ties_by_index() -> None:
    gallery = toy([0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.5, 0.5])
    hits = find(toy([1.0, 0.0], [0.0, 1.0]), gallery, k=3)
    assert hits.ids == (("b", "c", "d"), ("a", "d", "b"))
    assert hits.scores == ((1.0, 1.0, 0.5), (1.0, 0.5, 0.0))
    assert hits[1] == [("a", 1.0), ("d", 0.5), ("b", 0.0)]
    assert list(hits) == [hits[0], hits[1]]
    assert len(hits) == 2
    assert "query 1" in str(hits)
    assert "   1  1.0000  a" in str(hits)


def test_excluded_images_leave_the_hits() -> None:
    gallery = toy([0.0, 1.0], [1.0, 0.0], [1.0, 0.0])
    query = toy([1.0, 0.0], [0.0, 1.0])
    assert find(query, gallery, exclude="b").ids == (("c", "a"), ("a", "c"))
    assert find(query, gallery, exclude=["b", "none"]).ids == (("c", "a"), ("a", "c"))
    assert find(query, gallery, exclude=[["b"], ["a"]]).ids == (("c", "a"), ("b", "c"))
    assert find(query, gallery, exclude=[[], []], k=1).ids == (("b",), ("a",))
    assert find(query, gallery, exclude=Path("b")).ids == (("c", "a"), ("a", "c"))
    assert find(query, gallery, exclude=["b", ["a"]]).ids == (("c", "a"), ("b", "c"))
    with pytest.raises(CIRError, match="exclude has ids for 3 queries, there are 2"):
        find(query, gallery, exclude=[["a"], ["b"], ["c"]])


@pytest.mark.parametrize("tokens", [1, 4])
def test_search_by_blocks_is_a_plain_sort(tokens: int) -> None:
    """Of 200,000 images a block holds 16 queries, and several tokens come in slices."""
    torch.manual_seed(0)
    queries = Embeddings(tuple(map(str, range(23))), torch.randn(23, 8))
    vectors = torch.randn(200_000, tokens, 8).squeeze(1)
    gallery = Embeddings(tuple(map(str, range(200_000))), vectors)

    def similarity(q: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return (q @ t.flatten(0, -2).T).view(len(q), len(t), -1).amax(-1)

    hits = search(queries, gallery, 7, similarity, torch.device("cpu"))
    plain = similarity(queries.vectors, vectors).argsort(dim=1, descending=True, stable=True)
    assert [list(map(int, ids)) for ids in hits.ids] == plain[:, :7].tolist()


def test_mistakes_end_in_one_message(
    retriever: Any, pictures: list[Path], tmp_path: Path, registry: Registry
) -> None:
    gallery = retriever.encode_images(pictures[:2])
    query = retriever.encode_query(pictures[0], "is red")
    other = Embeddings(("x",), torch.zeros(1, 7))
    for call, message in (
        (lambda: retriever.encode_images([]), "there is no image to encode"),
        (lambda: retriever.encode_images({}), "there is no image to encode"),
        (lambda: retriever.encode_images([3]), "an image cannot be int; accepted: a path,"),
        (lambda: retriever.encode_images(tmp_path / "no.png"), r"no\.png does not exist"),
        (lambda: retriever.encode_images(pictures, batch_size=0), "batch_size cannot be 0"),
        (lambda: retriever.encode_query(pictures[0], []), "there is no text to encode"),
        (lambda: retriever.encode_query(pictures[:2], ["a"] * 3), "2 images and 3 texts make no"),
        (
            lambda: retriever.encode_query(pictures[0], [("a", "b")], raw_text=True),
            "raw_text takes one text per query",
        ),
        (lambda: retriever.search(query, gallery, k=0), "k cannot be 0"),
        (lambda: retriever.search(gallery, query), "the gallery is what encode_query gave: are"),
        (
            lambda: retriever.search(query, other),
            f"gallery's embeddings have size 7, the query's {query.vectors.shape[1]}",
        ),
        (lambda: retriever.search(query, gallery, k="3"), "k cannot be '3'; accepted: a whole"),
        (lambda: retriever.search(query, gallery, k=2.0), "k cannot be 2.0"),
        (lambda: retriever.search(query, gallery, exclude=3), "exclude cannot hold int; accepted"),
        (lambda: retriever.search(query, pictures), "the gallery cannot be list; accepted: what"),
        (lambda: retriever.encode_images(None), "an image cannot be NoneType"),
        (lambda: retriever.encode_images(pictures[0].parent), "is a folder\naccepted: a file"),
        (lambda: retriever.encode_images(Image.new("RGB", (1, 999))), "in memory has 1 × 999 pix"),
        (lambda: retriever.encode_query(pictures[0], None), "a text cannot be NoneType"),
        (lambda: retriever.encode_query("is red", pictures[0]), "a text cannot be .*Path"),
        (lambda: retriever.encode_query(pictures[0], "\ud800"), "half of a character"),
        (lambda: retriever.evaluate(split="valid"), "unknown role of splits 'valid'; nearest: val"),
        (lambda: retriever.evaluate(batch_size="8"), "batch_size cannot be '8'"),
        (lambda: retriever.evaluate("fashionIQ"), "unknown dataset 'fashionIQ'; nearest: fashion"),
        (lambda: retriever.rank(k=0), "k cannot be 0"),
        (lambda: cir.train(out=tmp_path / "none", resume=True), "is no run folder that could be"),
        (
            lambda: cir.train("dqe", out="x", train={"epochs": 1}, epochs=2),
            "train.epochs is set twice",
        ),
        (lambda: retriever.evaluate("cirr"), "no folder of data set 'cirr' is named"),
        (lambda: cir.load(tmp_path), "is no run folder"),
        (lambda: cir.build("image_text_som"), "unknown method 'image_text_som'; nearest: image_te"),
        (lambda: cir.build(3), "3 is no component; accepted: a name, or a dict"),  # type: ignore[arg-type]
        (
            lambda: cir.train("contrastive", data="cirr", root=tmp_path, out="x", epoch=3),
            r"unknown .*'epoch'; nearest: epochs",
        ),
    ):
        with pytest.raises(CIRError, match=message) as caught:
            call()
        assert len(str(caught.value)) < 1500


def test_built_retrievers_need_a_folder_to_evaluate(garments_root: Path) -> None:
    retriever = cir.build("image_text_sum", backbone="tiny_clip", text_weight=0.3, **QUIET)
    assert retriever.plan.method.options == {"text_weight": 0.3}
    with pytest.raises(CIRError, match="no folder of data set 'fashioniq' is named; acc"):
        retriever.evaluate()
    evaluation = retriever.evaluate("fashioniq", garments_root, protocol="val")
    assert evaluation.protocol == "val"
    assert str(retriever) == "Retriever(image_text_sum, backbone=tiny_clip, device=cpu)"
    assert f"{evaluation.queries:,} queries" in str(evaluation)


def test_a_built_method_is_that_of_its_run(garments_root: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"backbone": {"name": "tiny_clip", "start": "random"}, **QUIET}
    built = cir.build({"name": "image_text_sum", "text_weight": 0.4}, **options)
    run = cir.train(
        {"name": "image_text_sum", "text_weight": 0.4},
        data="fashioniq",
        root=garments_root,
        out=tmp_path / "run",
        workers=0,
        **options,
    )
    assert built.evaluate("fashioniq", garments_root).report == run.evaluation.report


def test_settings_go_to_their_tables() -> None:
    from cir_plugins.runs.arguments import settings_config

    settings = {"sampler": {"upper": 0.3}, "backbone": "tiny_clip", "epochs": 3, "seed": 1}
    assert settings_config(settings) == {
        "sampler": {"upper": 0.3},
        "backbone": {"name": "tiny_clip"},
        "train": {"epochs": 3},
        "run": {"seed": 1},
    }
    assert settings_config({"train": {"lr": 0.1}, "epochs": 2}) == {
        "train": {"lr": 0.1, "epochs": 2}
    }


def test_a_run_is_resumed_by_its_folder_alone(
    run: Any, registry: Registry, garments_root: Path
) -> None:
    again = cir.train(out=run.folder, resume=True, registry=registry, progress=False)
    assert again.evaluation.report == run.evaluation.report
    with pytest.raises(CIRError, match=r"train\.epochs: 1 in the run, now 2"):
        cir.train(out=run.folder, resume=True, registry=registry, progress=False, epochs=2)


def test_the_first_example_of_the_page_runs(
    garments_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = ROOT / "docs" / "python.md"
    code = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert len(code.splitlines()) <= 12
    monkeypatch.chdir(garments_root)
    exec(compile(code, str(page), "exec"), {})
    assert "1  0." in capsys.readouterr().out
