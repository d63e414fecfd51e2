"""Items that are no texts."""

from __future__ import annotations

from typing import Any

from PIL import Image


def both(word: int, shade: int) -> dict[str, Any]:
    return {"text": f"w{word}", "image": picture(shade)}


def picture(shade: int) -> Image.Image:
    return Image.new("RGB", (32, 32), (shade, 255 - shade, (shade * 7) % 256))
