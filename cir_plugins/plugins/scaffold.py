"""A new plugin's project, written from templates."""

from __future__ import annotations

import importlib.util
import keyword
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from cir_plugins.errors import CIRError
from cir_plugins.files import disk_error
from cir_plugins.plugins.registry import Registry

KINDS = ("backbone", "sampler", "loss", "method", "dataset", "index")
_TEMPLATES = Path(__file__).parent / "template"
# Template -> file of the project; {name} stands for the plugin's name.
_FILES: Mapping[str, str] = MappingProxyType(
    {
        "pyproject.toml.j2": "pyproject.toml",
        "readme.md.j2": "README.md",
        "gitignore.j2": ".gitignore",
        "suite.toml.j2": "suite.toml",
        "hooks.py.j2": "{name}/__init__.py",
        "backbone.py.j2": "{name}/backbone.py",
        "sampler.py.j2": "{name}/sampler.py",
        "loss.py.j2": "{name}/loss.py",
        "method.py.j2": "{name}/method.py",
        "dataset.py.j2": "{name}/dataset.py",
        "index.py.j2": "{name}/index.py",
        "typed.j2": "{name}/py.typed",
        "test_backbone.py.j2": "tests/test_backbone.py",
        "test_sampler.py.j2": "tests/test_sampler.py",
        "test_loss.py.j2": "tests/test_loss.py",
        "test_method.py.j2": "tests/test_method.py",
        "test_dataset.py.j2": "tests/test_dataset.py",
        "test_index.py.j2": "tests/test_index.py",
        "test_plugin.py.j2": "tests/test_plugin.py",
    }
)


def write_plugin(name: str, folder: Path, registry: Registry) -> list[Path]:
    """The files written to a new folder: a plugin's project with a small component of its kinds.

    Args:
        name: Name of the package, of its entry point, and first word of its components' names.
        folder: A folder that does not exist yet.
        registry: The installed plugins, whose names are taken.

    Raises:
        CIRError: If the name cannot be a package's or is taken, or the folder exists or cannot
            be written.
    """
    _check_name(name, registry)
    texts = render(name)
    try:
        if folder.exists():
            raise CIRError(
                f"{folder} exists; accepted: a folder that does not exist yet, with --out"
            )
        for file, text in texts.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise disk_error(folder, error) from error
    return [folder / file for file in texts]


def render(name: str) -> dict[str, str]:
    """The project's files, relative path -> text, for a name that is known to be good."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True
    )
    title = "".join(word.capitalize() for word in name.split("_"))
    return {
        file.format(name=name): environment.get_template(template).render(name=name, title=title)
        for template, file in _FILES.items()
    }


def _check_name(name: str, registry: Registry) -> None:
    good = name.isascii() and name.isidentifier() and name == name.lower()
    if not good or not name[0].isalpha() or keyword.iskeyword(name):
        raise CIRError(
            f"a plugin cannot be named '{name}'\n"
            "accepted: a Python name in lower case, such as my_plugin"
        )
    owners = {offer.plugin for offer in registry.offers()}
    owners |= {failure.plugin for failure in registry.failures}
    names = {offer.name for offer in registry.offers()}
    clashes = names & {f"{name}_{kind}" for kind in KINDS}
    if name in owners or clashes:
        raise CIRError(f"the name '{name}' is taken by an installed plugin (see cir list)")
    if importlib.util.find_spec(name) is not None:
        raise CIRError(f"the name '{name}' is taken by an installed module; choose another")
