from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command import Answer, Call

# Set before any test imports a library that would ask a hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Folder of a data set that lies beside the repository; skips where it does not."""

    def folder(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"needs ../shared/data/{name} beside the repository")
        return SHARED / name

    return folder


@pytest.fixture(scope="session")
def garments_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn set of 120 small images in FashionIQ's layout; not to be changed."""
    from garments_plugin import write_garments

    root = tmp_path_factory.mktemp("drawn") / "set"
    write_garments(root, images=120, seed=0, size=48, workers=1, progress=False)
    return root


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads cost such small models as those of the tests more than they give."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def cir(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command in this process."""
    from cir_plugins import cli

    def call(*arguments: str | Path) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Answer(ended.value.code or 0, out, err)  # type: ignore[arg-type]

    return call
