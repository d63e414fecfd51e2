"""A feature cache filled by several processes, each image encoded by one of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.encoding.cache import Encode, FeatureCache, Shelf


def fill(
    cache: FeatureCache,
    shelf: Shelf,
    paths: Sequence[Path],
    size: int,
    encode: Encode,
    processes: ProcessGroup,
) -> list[str]:
    """Content hash of each image, once the shelf holds the features of all.

    The chunks that lack an image are shared out; each is encoded whole and of images that several
    have the first one's features are kept, as by one process alone, to the same bits. Where a
    process does not see what another wrote, as on a disk of its own, it encodes that too.

    Args:
        cache: The cache.
        shelf: Its part for the backbone.
        paths: Images.
        size: Images per chunk.
        encode: Makes chunks of ``size`` of the paths it is given.
        processes: The processes; all have the same paths.

    Raises:
        CIRError: In all processes, if an image cannot be read, or the first one's disk has less
            room than the missing features take.
    """
    own = processes.shard(len(paths))
    with processes.synchronise_errors():
        hashed = cache.contents(paths[own.start : own.stop])
    names = [name for part in processes.all_gather_object(hashed) for name in part]
    chunks = [range(i, min(i + size, len(paths))) for i in range(0, len(paths), size)]
    absent = processes.broadcast(lambda: _announced(shelf, names, chunks))
    keeper: dict[str, int] = {}
    for number in absent:
        for place in chunks[number]:
            keeper.setdefault(names[place], number)
    with processes.synchronise_errors():
        mine = processes.shard_of(absent)
        fresh = encode([paths[i] for number in mine for i in chunks[number]]) if mine else iter(())
        try:
            for number, (_, features) in zip(mine, fresh, strict=True):
                inside = [names[i] for i in chunks[number]]
                shelf.add(inside, features, {name for name in inside if keeper[name] == number})
        finally:
            shelf.flush()
    with processes.synchronise_errors():
        shelf.refresh()
        if any(name not in shelf for name in names):
            for _ in cache.chunks(shelf, paths, size, encode):
                pass
    return names


def _announced(shelf: Shelf, names: Sequence[str], chunks: Sequence[range]) -> list[int]:
    """Numbers of the chunks that lack an image, their room on the disk made sure."""
    absent = [k for k, chunk in enumerate(chunks) if any(names[i] not in shelf for i in chunk)]
    missing = {names[i] for k in absent for i in chunks[k] if names[i] not in shelf}
    shelf.announce(len(missing))
    return absent
