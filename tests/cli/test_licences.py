from __future__ import annotations

import re

import pytest

from tests.command import Call


@pytest.mark.parametrize(
    ("kind", "name", "row"),
    [
        ("method", "sprc", r"official code +none +no +https://github.com/chunmeifeng/SPRC"),
        ("method", "clip4cir", r"official code +MIT +yes +https://github.com/ABaldrati/CLIP4Cir"),
        ("backbone", "clip", r"pretrained metaclip\* +CC-BY-NC-4.0 +no +https://"),
        ("backbone", "clip", r"pretrained laion\* +MIT +yes +https://"),
        ("backbone", "tiny_clip", r"code and weights +MIT +yes +the file LICENSE"),
    ],
)
def test_show_tells_who_may_use_it(cir: Call, kind: str, name: str, row: str) -> None:
    """A shop learned of a licence that forbids its use after it had tuned a model."""
    done = cir("show", kind, name)
    assert done.code == 0
    assert "no legal advice" in done.out
    assert re.search(row, done.out)


def test_tiny_weights_do_not_inherit_the_remarks_of_large_ones(cir: Call) -> None:
    assert "metaclip" not in cir("show", "backbone", "tiny_clip").out
