from __future__ import annotations

from pathlib import Path

from tests.plugin_folder import run_cir, write_plugins

LOSS = """
from cir_plugins import hookimpl

class Unscaled:
    def __call__(self, scores, target, negatives):
        return -scores.gather(1, target[:, None])[:, 0]

@hookimpl
def cir_losses():
    return {"unscaled": Unscaled}
"""


def test_a_loss_without_scaled_is_named(tmp_path: Path, garments_root: Path) -> None:
    """It was a traceback after the first batch, with nothing of the plugin in it."""
    plugins = write_plugins(tmp_path / "plugins", {"outside": LOSS})
    data = ["--data", "fashioniq", "--root", str(garments_root), "--out", str(tmp_path / "run")]
    sets = ["--set", "backbone=tiny_clip", "--set", "loss=unscaled"]
    result = run_cir("train", "contrastive", *data, *sets, plugins=plugins)
    assert result.returncode == 2
    assert "error: loss 'unscaled' of plugin 'outside' has no attribute 'scaled'" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()
