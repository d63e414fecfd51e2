"""``cir submit-check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cir_plugins.cli.options import Data, Root, need

if TYPE_CHECKING:
    from cir_plugins.data.split import Split
    from cir_plugins.retrieval.submission import Form
    from cir_plugins.retrieval.submission_scores import QueryDifference

_MOST_LINES = 10


File = Annotated[Path, typer.Argument(metavar="FILE", help="A file for the test server.")]
Role = Annotated[str, typer.Option("--split", help="test for the server's queries, or val.")]
Against = Annotated[
    Path | None,
    typer.Option("--against", metavar="FILE", help="Another file: what differs."),
]
Json = Annotated[
    Path | None,
    typer.Option("--json", help="Also write counts, scores and differences here."),
]


def submit_check(
    file: File,
    data: Data = "",
    root: Root = None,
    split: Role = "test",
    against: Against = None,
    json: Json = None,
) -> None:
    """Check a file for the test server of CIRR or CIRCO as the server does, without it.

    Images are not needed. On the val split, whose targets are known, the file is scored too.
    """
    from cir_plugins.errors import CIRError
    from cir_plugins.files import write_json
    from cir_plugins.retrieval.submission import read_submission
    from cir_plugins.retrieval.submission_scores import file_differences, file_scores

    folder = need(root, "--root DIR")
    of_split, forms, known = _server_side(need(data, "--data NAME"), folder, split)
    form, rankings = read_submission(file, forms, of_split, gallery_known=known)
    scores = file_scores(form, rankings, of_split)
    document: dict[str, Any] = {"file": file.name, "form": form.name, "split": of_split.name}
    document |= {"queries": len(of_split.queries), "images": form.count}
    document |= {"gallery_checked": known, "scores": scores}
    _show(file, form, of_split, known, scores)
    if against is not None:
        other_form, other = read_submission(against, forms, of_split, gallery_known=known)
        if other_form != form:
            raise CIRError(
                f"{against} is a file for {other_form.name}, {file} one for {form.name}\n"
                "accepted: two files of one form"
            )
        found = file_differences(rankings, other, of_split)
        document["against"] = {
            "file": against.name,
            "scores": file_scores(form, other, of_split),
            "queries": [each.document for each in found],
        }
        _show_differences(found, form, document["against"]["scores"], scores)
    if json is not None:
        write_json(json, document)


def _server_side(data: str, root: Path, role: str) -> tuple[Split, tuple[Form, ...], bool]:
    """The queries that a server has, its forms, and whether its whole gallery is known.

    Raises:
        CIRError: If the data set has no server, or the folder no such split.
    """
    from cir_plugins.cli.submit import SERVERS, need_server
    from cir_plugins.config.resolve import plan_reader
    from cir_plugins.errors import CIRError, unknown_name
    from cir_plugins.plugins.registry import Registry

    need_server(data)
    if role not in ("test", "val"):
        raise unknown_name("value of --split", role, ("test", "val"))
    server = SERVERS[data]
    name = server.blind if role == "test" else role
    planned = plan_reader(Registry.load(), data, {})
    reader = planned.build(splits=(name,))
    with planned.guarded(f"cannot read {root}"):
        splits = [split for split in reader.annotations(root) if split.name == name]
    if not splits:
        raise CIRError(f"data set '{data}' in {root} has no split '{name}'")
    official = getattr(reader, "gallery_is_official", None)
    return splits[0], tuple(server.files.values()), official is None or official(root)


def _show(file: Path, form: Form, split: Split, known: bool, scores: dict[str, float]) -> None:
    from cir_plugins.data.percent import percent

    typer.echo(
        f"{file} is as the {form.name} server takes it: {len(split.queries):,} queries of split "
        f"{split.name}, {form.count} images each, {file.stat().st_size:,} of "
        f"{form.max_bytes:,} bytes"
    )
    if not known:
        typer.echo("note: the list of all images is not there: image ids were not looked up in it")
    for name, value in scores.items():
        typer.echo(f"{name:<18}{percent(value):>6}")


def _show_differences(
    found: list[QueryDifference], form: Form, other: dict[str, float], scores: dict[str, float]
) -> None:
    from cir_plugins.cli.terminal import make_console, plain_table
    from cir_plugins.data.percent import percent

    differing = [each for each in found if each.first_difference]
    first = sum(each.first_difference == 1 for each in found)
    common = sum(each.common for each in found) / (len(found) * form.count)
    typer.echo(
        f"against: {len(found) - len(differing):,} of {len(found):,} queries are the same, "
        f"{first:,} have another first image; {percent(common)} % of the images are common"
    )
    for name, value in other.items():
        difference = percent(value - scores[name], signed=True)
        typer.echo(f"{name:<18}{percent(value):>6}  {difference}")
    table = plain_table("query", "first difference at", "common images", "target at", "against")
    for each in sorted(differing, key=lambda one: (one.common, one.first_difference))[:_MOST_LINES]:
        ranks = (_rank(each.target_rank), _rank(each.other_target_rank))
        table.add_row(each.query, str(each.first_difference), str(each.common), *ranks)
    if differing:
        make_console().print(table)
        if len(differing) > _MOST_LINES:
            typer.echo(f"{len(differing) - _MOST_LINES:,} more queries differ; --json FILE has all")


def _rank(rank: int | None) -> str:
    return "" if rank is None else str(rank) if rank else "-"
