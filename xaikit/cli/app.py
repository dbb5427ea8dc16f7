"""The command line: finds the commands, runs one, and turns every error into one line.

Every module of this package that defines `command` is a command named after the module, or by its NAME. Slow imports
belong inside it.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

import xaikit.cli
from xaikit import __version__
from xaikit.cli.exit_codes import INTERRUPTED, WRONG
from xaikit.cli.lines import tell
from xaikit.foundation.errors import XaikitWarning
from xaikit.foundation.interrupts import stoppable
from xaikit.foundation.texts import visible


class _Once(TyperCommand):
    """A command that refuses an option given twice, unless it may repeat; the parser keeps the last and is silent."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for option, count in Counter(option for option in order if option.param_type_name == "option").items():
            repeats = option.multiple or getattr(option, "is_flag", False)
            if count > 1 and not repeats:
                raise typer.BadParameter(f"{option.opts[0]}: expected once, got it {count} times; give one")
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="xaikit",
    help="Explains what a CNN saw in an image, and measures how good that explanation is.",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(f"xaikit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options of every command; `main` removes --debug, so it may be anywhere on the command line."""


def _register_commands() -> None:
    for entry in pkgutil.iter_modules(xaikit.cli.__path__):
        module = importlib.import_module(f"xaikit.cli.{entry.name}")
        if hasattr(module, "command"):
            app.command(name=getattr(module, "NAME", entry.name), cls=_Once)(module.command)


_register_commands()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: arguments without the program's name; None takes those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    with stoppable(), warnings.catch_warnings():
        if not debug and not sys.warnoptions:
            warnings.simplefilter("ignore")
            warnings.simplefilter("default", XaikitWarning)
        warnings.showwarning = _show_warning
        return _run([argument for argument in arguments if argument != "--debug"], debug)


def _run(arguments: list[str], debug: bool) -> int:
    try:
        code = get_command(app).main(arguments, prog_name="xaikit", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user gets one line
        if isinstance(error.__context__, BrokenPipeError):  # rich has closed the output, and exits
            return 0
        if debug:
            for line in traceback.format_exc().splitlines():
                typer.echo(visible(line), err=True)
        return _fail(_line(error), WRONG)
    if code == INTERRUPTED:
        return _fail("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _line(error: BaseException) -> str:
    """Return an error as one line; an unexpected error with its type and a hint to --debug."""
    from xaikit.foundation.errors import XaikitError

    format_message = getattr(error, "format_message", None)
    if format_message is not None:
        return " ".join(format_message().split()) or "see xaikit --help"
    text = " ".join(str(error).split())
    return text if isinstance(error, XaikitError) else f"{type(error).__name__}: {text} (--debug shows where)"


def _fail(message: str, code: int) -> int:
    tell(message)
    return code


def _show_warning(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
    tell(str(message))
