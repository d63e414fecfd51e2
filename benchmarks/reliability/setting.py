"""What the campaigns disturb: a small drawn data set, commands on it, and undisturbed results."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from commands import must, warm
from outcomes import Outcomes

TINY_CLIP4CIR = {"projection": 16, "hidden": 24}
SUITE = """
seeds = [0]
[data]
name = "fashioniq"
categories = ["dress", "toptee"]
[make.garments]
images = 60
seed = 7
size = 32
workers = 1
[defaults]
backbone = "tiny_clip"
[defaults.train]
epochs = 1
batch_size = 8
lr = 1e-3
[[rows]]
method = "contrastive"
[[rows]]
method = "image_only"
"""


@dataclass(frozen=True)
class Setting:
    """A folder with everything that commands read.

    Attributes:
        folder: The folder; ``data``, ``suite.toml``, ``official`` are in it.
    """

    folder: Path

    @property
    def data(self) -> Path:
        """Folder of 60 drawn garments in FashionIQ's layout."""
        return self.folder / "data"

    @property
    def trained(self) -> Path:
        """A run of two epochs."""
        return self.folder / "trained"

    @property
    def metadata(self) -> Path:
        """A table of the images."""
        return self.folder / "products.csv"

    @property
    def log(self) -> Path:
        """File for the output of one command."""
        return self.folder / "output.txt"

    @property
    def suite(self) -> Path:
        """A suite of two rows that draws its data."""
        return self.folder / "suite.toml"

    @property
    def official(self) -> list[Path]:
        """Official files of a small CLIP4Cir."""
        return [self.folder / "official" / name for name in ("clip.pt", "combiner.pt")]

    def train(self, out: Path, *more: object, method: str = "contrastive") -> list[object]:
        """Words of a training of two epochs."""
        return [
            *("train", method, "--data", "fashioniq", "--root", self.data, "--out", out),
            *("--device", "cpu", "--set", 'data.categories=["dress","toptee"]'),
            *_sets("backbone=tiny_clip", "train.epochs=2", "train.batch_size=8", "train.lr=1e-3"),
            *more,
        ]

    def encode(self, run: Path, out: Path, *more: object) -> list[object]:
        """Words of an encoding of the images in shards of eight."""
        return ["encode", run, "--images", self.data, "--out", out, "--shard-size", 8, *more]

    def index(self, run: Path, out: Path, *more: object) -> list[object]:
        """Words of an index of the images, with metadata."""
        images = ("--images", self.data / "images", "--metadata", self.metadata)
        return ["index", run, *images, "--out", out, "--batch-size", 4, *more]

    def search(self, index: Path, report: Path) -> list[object]:
        """Words of a search by a text, with a filter."""
        words = ("--text", "a red dress", "-k", 5, "--filter", "price < 50")
        return ["search", index, *words, "--json", report]

    def bench(self, out: Path, *more: object) -> list[object]:
        """Words of the suite."""
        return ["bench", self.suite, "--out", out, "--device", "cpu", *more]

    def convert(self, out: Path) -> list[object]:
        """Words of a conversion."""
        small = [f"method.{name}={value}" for name, value in TINY_CLIP4CIR.items()]
        sets = _sets("backbone=tiny_clip", "backbone.start=random", *small)
        return ["convert", "clip4cir", *self.official, "--out", out, *sets]

    def evaluation(self, run: Path, report: Path, *more: object) -> list[object]:
        """Words of an evaluation of a run of these data."""
        return ["eval", run, "--json", report, "--device", "cpu", *more]


def quick_folder() -> str | None:
    """A folder in memory, or None for the usual one.

    A killed process loses nothing that was written, whatever the disk.
    """
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def run_campaign(
    description: str | None, campaign: Callable[[int, int, Setting, str], Outcomes], tries: int
) -> int:
    """The exit code of a campaign with the options of the command line, its counts printed.

    Args:
        description: What ``--help`` prints.
        campaign: Counts from a number of tries, a seed, the setting and a part of kinds' names.
        tries: How many, where ``--tries`` is left out.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tries", type=int, default=tries)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of a kind's name")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        outcomes = campaign(options.tries, options.seed, prepare(Path(folder)), options.only)
    return outcomes.finish()


def _sets(*assignments: str) -> list[str]:
    return [word for assignment in assignments for word in ("--set", assignment)]


def prepare(folder: Path) -> Setting:
    """The setting in a new folder; what commands import is imported in this process."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    import torch
    from tqdm import tqdm

    torch.set_num_threads(1)
    # tqdm's own lock is shared with forked processes: one that is killed while it prints would
    # leave it locked for all others.
    tqdm.set_lock(threading.RLock())
    folder.mkdir(parents=True, exist_ok=True)
    setting = Setting(folder)
    setting.suite.write_text(SUITE)
    _write_official(setting)
    words = ["make-data", "garments", "--out", setting.data, "--images", 60]
    must([*words, "--set", "size=32", "--workers", 1], setting.log)
    names = sorted(path.name for path in (setting.data / "images").iterdir())
    lines = ["image,price", *(f"{name},{number}" for number, name in enumerate(names))]
    setting.metadata.write_text("\n".join(lines))
    must(setting.train(setting.trained), setting.log)
    _import_all(setting)
    return setting


def _import_all(setting: Setting) -> None:
    """Import what commands need: forked processes start with it."""
    import cir_plugins.bench.page
    import cir_plugins.bench.runner
    import cir_plugins.runs.untrusted
    import cir_plugins.search.build
    from cir_plugins.cli import main

    cir_plugins.search.build.SHARD_SIZE = 8  # several shards of 60 images
    assert sys.modules[cir_plugins.__name__]
    report = setting.folder / "warm.json"
    words = setting.evaluation(setting.trained, report)
    warm(lambda: main([str(word) for word in words]))
    report.unlink()


def _write_official(setting: Setting) -> None:
    import torch

    from baselines_plugin.methods.clip4cir import CLIP4Cir
    from cir_plugins import Components
    from cir_plugins.builtin.clip import TinyClip
    from cir_plugins.builtin.losses import InfoNCE
    from cir_plugins.builtin.samplers import InBatch

    torch.manual_seed(5)
    components = Components(TinyClip(start="random"), InfoNCE(), InBatch())
    source = CLIP4Cir(components, **TINY_CLIP4CIR)  # type: ignore[arg-type]
    combiner = source.composer.combiner
    assert combiner is not None
    clip, composer = setting.official
    clip.parent.mkdir()
    torch.save({"epoch": 1, "CLIP": source.backbone.model.state_dict()}, clip)
    torch.save({"epoch": 2, "Combiner": combiner.state_dict()}, composer)
