from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Call, Output
from tests.places import SHARED_DATA, SharedData

# Set before any test imports a library that would look for a hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
# With several threads some processors sum in another order for other shapes: numbers that are equal
# to the bit with one thread differ in the last bits. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> SharedData:
    """Folder of a shared data set beside the repository; skips where it is missing."""

    def folder(name: str) -> Path:
        if not (SHARED_DATA / name).is_dir():
            pytest.skip(f"needs ../shared/data/{name} beside the repository")
        return SHARED_DATA / name

    return folder


@pytest.fixture(scope="session")
def garments_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn set of 120 small images in FashionIQ's layout; read only."""
    from garments_plugin import write_garments

    root = tmp_path_factory.mktemp("drawn") / "set"
    write_garments(root, images=120, seed=0, size=48, workers=1, progress=False)
    return root


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One torch thread: more of them slow down the small models of the tests."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def cir(capsys: pytest.CaptureFixture[str]) -> Call:
    """A function that runs a command in this process."""
    from cir_plugins import cli

    def call(*arguments: str | Path) -> Output:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Output(caught.value.code or 0, out, err)  # type: ignore[arg-type]

    return call
