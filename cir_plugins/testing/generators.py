"""The contract of generators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cir_plugins.errors import CIRError
from cir_plugins.testing.contract import calling, require, require_built
from cir_plugins.types import Generated


def check_generator(generator: Any, folder: Path, *, images: int = 60) -> None:
    """Check that a generator writes data sets as the host relies on.

    The same seed gives the same bytes, another seed others; a folder that is in use is a
    ``CIRError`` and stays as it was.

    Args:
        generator: The generator, built.
        folder: A folder in which three small data sets are written.
        images: Images of each, as few as the generator takes.

    Raises:
        ContractError: With what to fix.
    """
    require_built("generator", generator)
    folder = Path(folder)
    contents = []
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        with calling("the generator", f"{images} images, seed {seed}"):
            generated = generator(
                folder / name, images=images, seed=seed, workers=1, progress=False
            )
        require(
            isinstance(generated, Generated),
            f"a generator returns Generated, not {generated!r:.80}",
        )
        contents.append(_contents(folder / name))
    require(bool(contents[0]), "nothing was written")
    require(contents[0] == contents[1], "the same seed writes other bytes the second time")
    require(contents[0] != contents[2], "another seed writes the same bytes")
    _check_used_folder(generator, folder / "first", images)
    require(_contents(folder / "first") == contents[0], "a folder in use was changed")


def _contents(folder: Path) -> dict[str, bytes]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def _check_used_folder(generator: Any, folder: Path, images: int) -> None:
    with calling("the generator", "a folder that is in use"):
        try:
            generator(folder, images=images, seed=2, workers=1, progress=False)
        except CIRError:
            return
    require(False, "a folder that is in use must raise CIRError")
