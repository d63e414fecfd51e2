"""What one request may ask of the service."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Bounds of a request and of the work that waits.

    Attributes:
        upload_bytes: Bytes of an uploaded picture.
        upload_pixels: Pixels that it may decode to.
        formats: Formats of uploads; the content tells, not a name or a header.
        pictures: Uploads and reference ids of one query, together.
        text: Characters of a text.
        filter: Characters of a filter.
        k: Hits of a query.
        body_seconds: Time in which a request's body must have come.
        batch: Queries that are encoded together.
        waiting: Queries that may wait; further ones are sent away with status 503.
        decoding: Pictures that are decoded at a time; each takes up to 4 bytes a pixel.
    """

    upload_bytes: int = 10 * MIB
    upload_pixels: int = 25_000_000
    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
    pictures: int = 4
    text: int = 1000
    filter: int = 2000
    k: int = 200
    body_seconds: float = 30.0
    batch: int = 32
    waiting: int = 256
    decoding: int = 2

    @property
    def form_bytes(self) -> int:
        """Bytes of a multipart body: its pictures and a MiB for everything else."""
        return self.pictures * self.upload_bytes + MIB

    @property
    def json_bytes(self) -> int:
        """Bytes of a JSON body, whose pictures are in base64."""
        return self.pictures * (self.upload_bytes * 4 // 3 + 4) + MIB
