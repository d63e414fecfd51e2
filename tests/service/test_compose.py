from __future__ import annotations

import re
from typing import Any

import pytest

from tests.places import ROOT

yaml = pytest.importorskip("yaml", reason="needs PyYAML: pip install pyyaml")


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((ROOT / "examples/serve/compose.yaml").read_text(encoding="utf-8"))


def test_compose_file_names_what_it_uses(compose: Any) -> None:
    services = compose["services"]
    assert {"index", "service", "milvus"} <= set(services)
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        assert "build" in service or re.search(r":\S+$", service["image"])  # a version, not latest
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source.startswith("./") or source in compose["volumes"]


def test_commands_of_the_compose_file_exist(compose: Any) -> None:
    """An option that was renamed would be found by the first user alone."""
    import typer

    from cir_plugins.cli import make_app

    commands = typer.main.get_command(make_app()).commands  # type: ignore[attr-defined]
    for name in ("index", "service"):
        program, command, *words = compose["services"][name]["command"]
        assert program == "cir"
        options = {option for each in commands[command].params for option in each.opts}
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= options


def test_the_exposed_service_needs_a_token_and_is_local(compose: Any) -> None:
    service = compose["services"]["service"]
    assert service["environment"]["CIR_TOKEN"].startswith("${CIR_TOKEN:?")
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert not any("ports" in other for other in compose["services"].values() if other != service)
