"""Measures of a submission file, and what two files differ in, from the file and annotations alone.

Nothing here ranks or uses the measures of an evaluation: it is a second computation, in plain
Python, of what a server reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cir_plugins.data.split import Query, Split
from cir_plugins.retrieval.submission import Form

Rankings = Mapping[str, Sequence[str]]


def file_scores(form: Form, rankings: Rankings, split: Split) -> dict[str, float]:
    """Mean of each measure of the form over the split's queries; {} for a blind split.

    Recall@k and subset recall@k: whether the annotated target is among the first k. mAP@k: the
    precisions at the hits among the first k, over min(k, number of positives). A subset file has
    the group's ranking, so that the same count is its subset recall.

    Args:
        form: Form of the file.
        rankings: Query id -> image ids, best first.
        split: Its queries.

    Source: Liu et al., 2021, arXiv 2108.04024; Baldrati et al., 2023, arXiv 2303.15247.
    """
    labelled = [query for query in split.queries if query.target is not None]
    if not labelled:
        return {}
    scores = {}
    for measure in form.measures:
        values = [query_score(measure, rankings[query.id], query) for query in labelled]
        scores[measure] = sum(values) / len(values)
    return scores


def query_score(measure: str, images: Sequence[str], query: Query) -> float:
    """Value of a query with a target under a measure, from its ranked images."""
    kind, _, cut = measure.partition("@")
    first = images[: int(cut)]
    if kind != "map":
        return float(query.target in first)
    hits, precisions = 0, 0.0
    for place, image in enumerate(first, 1):
        if image in query.positives:
            hits += 1
            precisions += hits / place
    return precisions / min(int(cut), len(query.positives))


@dataclass(frozen=True)
class QueryDifference:
    """What two rankings of a query differ in.

    Attributes:
        query: Its id.
        first_difference: First rank at which the images differ, from 1; 0 for equal rankings.
        common: Number of images that both have.
        target_rank: Rank of the target in the first file; 0 for none, None for a blind query.
        other_target_rank: The same in the other file.
    """

    query: str
    first_difference: int
    common: int
    target_rank: int | None
    other_target_rank: int | None

    @property
    def document(self) -> dict[str, Any]:
        """The difference as plain values."""
        return asdict(self)


def file_differences(one: Rankings, other: Rankings, split: Split) -> list[QueryDifference]:
    """The difference of each query of the split, in its order."""
    found = []
    for query in split.queries:
        first, second = list(one[query.id]), list(other[query.id])
        places = [
            n for n, pair in enumerate(zip(first, second, strict=True), 1) if len(set(pair)) > 1
        ]
        found.append(
            QueryDifference(
                query.id,
                places[0] if places else 0,
                len(set(first) & set(second)),
                _rank(first, query.target),
                _rank(second, query.target),
            )
        )
    return found


def _rank(images: Sequence[str], target: str | None) -> int | None:
    if target is None:
        return None
    return images.index(target) + 1 if target in images else 0
