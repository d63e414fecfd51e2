from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cir_plugins as cir
from tests.places import ROOT


def test_tables_of_two_methods(garments_root: Path, tmp_path: Path) -> None:
    """The script that made ``audits.md``: its numbers are those of the commands it stands for."""
    folders = {}
    for name, method in {"sum": "image_text_sum", "text": "text_only"}.items():
        run = cir.train(
            method,
            data="fashioniq",
            root=garments_root,
            out=tmp_path / name,
            backbone="tiny_clip",
            device="cpu",
            progress=False,
        )
        folders[name] = run.folder
    command = [sys.executable, str(ROOT / "benchmarks" / "audits" / "tables.py")]
    command += [f"{name}={folder}" for name, folder in folders.items()]
    out = tmp_path / "tables"
    subprocess.run([*command, "--baseline", "sum", "--out", str(out)], check=True, cwd=ROOT)
    content = json.loads((out / "audits.json").read_text(encoding="utf-8"))
    alone = cir.load(folders["text"]).evaluate(progress=False)
    assert content["comparison"]["rows"][1]["map@10"] == alone.measures["map@10"]
    record = content["protocols"]["text"][alone.protocol]
    assert record["average"]["map@10"] == alone.measures["map@10"]
    shortcut = {row["name"]: row for row in content["audits"]["text"]["tables"]["shortcut"]["rows"]}
    solved = shortcut["solved by text alone"]
    assert solved["measures"]["recall@10"] == 1.0  # what text alone solves, text alone solves
    lines = (out / "audits.md").read_text(encoding="utf-8")
    assert f"{100 * solved['share']:.1f}: " in lines
    assert lines.count("\n| text |") == 2
