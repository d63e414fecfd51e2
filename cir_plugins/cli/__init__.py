"""The command line: ``cir``. One file per group of commands; bodies import what they need.

An error that a user can fix ends in one message on stderr and exit code 2, without a traceback.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from cir_plugins.cli import (
    audit,
    bench,
    compare,
    components,
    convert,
    data,
    encode,
    index,
    new_plugin,
    preference,
    report,
    search,
    serve,
    submit_check,
    train,
    view,
)
from cir_plugins.cli import eval as evaluation
from cir_plugins.cli.interrupt import command_of, interruption, terminable
from cir_plugins.errors import CIRError, unknown_name

USAGE = 2
# Errors of the user's disk or rights.
_USER_ERRORS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
        *(errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EFBIG),
    }
)


class _Commands(typer.core.TyperGroup):
    """Commands: misspelt names get the nearest ones, interrupted commands no traceback."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of that name."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            raise unknown_name("command", args[0], self.commands, hint="see cir --help")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Result of the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            # Nothing that a command leaves half done is in the way of the same command.
            raise interruption(error, f"begin again with: {command_of(ctx.obj)}") from error
        except Exception:
            raise
        except BaseException as error:  # a plugin ends the program, perhaps with code 0
            from cir_plugins.plugins.guard import reason_of

            raise CIRError(f"the command was ended by a component: {reason_of(error)}") from error


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"cir-plugins {version('cir-plugins')}")
        raise typer.Exit


def make_app() -> typer.Typer:
    """The application with all its commands."""
    app = typer.Typer(
        name="cir",
        cls=_Commands,
        help="Composed image retrieval: train, evaluate and compare methods made of plugins.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def options(
        version: Annotated[
            bool,
            typer.Option(
                "--version", help="Show the version.", callback=_show_version, is_eager=True
            ),
        ] = False,
    ) -> None:
        pass

    app.command("list")(components.list_components)
    app.command("show")(components.show)
    app.command("make-data")(data.make_data)
    app.command("check")(data.check)
    app.command("train")(train.train)
    app.command("eval")(evaluation.evaluate)
    app.command("compare")(compare.compare)
    app.command("audit")(audit.audit)
    app.command("view")(view.view)
    app.command("preference")(preference.preference)
    app.command("encode")(encode.encode)
    app.command("index")(index.index)
    app.command("search")(search.search)
    app.command("serve")(serve.serve)
    app.command("bench")(bench.bench)
    app.command("submit-check")(submit_check.submit_check)
    app.command("report")(report.report)
    app.command("convert")(convert.convert)
    app.command("new-plugin")(new_plugin.new_plugin)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 done, 1 errors found, 2 wrong input, 130 interrupted, 143 terminated.

    Args:
        arguments: Arguments after ``cir``; None for those of the process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with terminable():
            make_app()(words, prog_name="cir", obj=tuple(words))
    except CIRError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in _USER_ERRORS:
            raise
        where = f" {error.filename}" if error.filename else ""
        _fail(f"cannot read or write{where}: {error.strerror}")


def _fail(message: str) -> None:
    typer.echo(f"error: {message}", err=True)
    sys.exit(USAGE)
