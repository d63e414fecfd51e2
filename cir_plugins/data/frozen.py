"""A frozen data set: a file whose short id a paper can quote and a second person can check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cir_plugins import files
from cir_plugins.data.fingerprint import DataFingerprint
from cir_plugins.data.split import Split
from cir_plugins.errors import CIRError

_FORMAT = 1


@dataclass(frozen=True)
class Frozen:
    """The fingerprint of a data set as it was frozen.

    Attributes:
        file: Where it stands.
        data: Fingerprint of all its splits.
    """

    file: Path
    data: DataFingerprint

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits of the data."""
        return self.data.short

    def differences(self, data: DataFingerprint) -> list[str]:
        """What is different in other data, over the roles that it has; [] for the frozen one.

        The texts that a protocol makes of captions do not count.
        """
        roles = {split.role for split in data.splits}
        own = DataFingerprint(
            self.data.dataset, tuple(s for s in self.data.splits if s.role in roles)
        )
        return [] if own.short == data.short else own.changes(data)

    def require(self, data: DataFingerprint) -> None:
        """Nothing, if the data is the frozen one.

        Raises:
            CIRError: With everything that is different.
        """
        differences = self.differences(data)
        if differences:
            raise CIRError(
                f"this is not the data of {self.file} ({self.id}): {'; '.join(differences)}"
            )


def freeze(file: Path, dataset: str, splits: Sequence[Split]) -> Frozen:
    """Write the fingerprint of splits to a file; every picture is read.

    Raises:
        CIRError: A picture cannot be read, or the file cannot be written.
    """
    frozen = Frozen(file, DataFingerprint.of(dataset, splits))
    counts = [
        {"name": split.name, "role": split.role, "queries": len(split.queries)}
        | {"gallery": len(split.gallery), "left_out": dict(split.absent)}
        for split in splits
    ]
    content = {
        "format": _FORMAT,
        "id": frozen.id,
        "splits": counts,
        "fingerprint": frozen.data.as_json(),
    }
    files.write_json(file, content)
    return frozen


def read_frozen(file: Path) -> Frozen:
    """The frozen data of a file.

    Raises:
        CIRError: It cannot be read, is no such file, or was changed by hand.
    """
    content: Any = files.read_json(file, "frozen data")
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CIRError(f"{file} is no frozen data; accepted: what cir check --freeze FILE writes")
    data = DataFingerprint.from_json(content.get("fingerprint"), str(file))
    if data.short != content.get("id"):
        raise CIRError(f"{file} is damaged: its id is not that of its fingerprint, {data.short}")
    return Frozen(file, data)
