"""The command `bench`: which command is where, and how errors end. The work is elsewhere."""

from __future__ import annotations

import logging
import os
import re
import sys
from itertools import pairwise
from typing import Annotated, Any, NoReturn

import typer

from unlearnable_bench.benchmark.commands import data, inspecting, poisons, pretraining, reporting, running, submissions
from unlearnable_bench.benchmark.commands.common import command

VERBOSE = ("-v", "--verbose")
WRONG_USE: Any = typer.BadParameter.__base__  # UsageError of click, which newer typers bring along themselves

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Measure availability poisons (unlearnable examples) against the defenses that learn from them anyway. "
    "Begin with `bench run --grid quick`. Add -v to any command to see tracebacks.",
)
data_app = typer.Typer(no_args_is_help=True, help="List, download and check datasets.")
poisons_app = typer.Typer(
    no_args_is_help=True, help="List, check, draw, remove, import, convert, export poisons and purified sets."
)
app.add_typer(data_app, name="data")
app.add_typer(poisons_app, name="poisons")

app.command("list")(inspecting.list_)
app.command("show")(inspecting.show)
app.command("doctor")(inspecting.doctor_)
app.command("check")(inspecting.check)
app.command("craft")(poisons.craft)
app.command("pretrain")(pretraining.pretrain)
app.command("run")(command(running.run))
app.command("retry")(command(running.retry))
app.command("status")(running.status)
app.command("attach")(running.attach)
app.command("cancel")(running.cancel)
app.command("logs")(running.logs)
app.command("submit")(command(submissions.submit))
app.command("accept")(submissions.accept)
app.command("report")(command(reporting.report))
app.command("serve")(reporting.serve)
app.command("publish")(reporting.publish)
app.command("compare")(command(reporting.compare))
app.command("paste")(reporting.paste)
data_app.command("ls")(data.ls)
data_app.command("get")(data.get)
data_app.command("verify")(data.verify)
poisons_app.command("ls")(poisons.ls)
poisons_app.command("verify")(poisons.verify)
poisons_app.command("tsne")(poisons.tsne)
poisons_app.command("prune")(poisons.prune)
poisons_app.command("import")(poisons.import_)
poisons_app.command("convert")(poisons.convert)
poisons_app.command("export")(poisons.export)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"unlearnable-bench {version('unlearnable-bench')}")
        raise typer.Exit


@app.callback()
def _before(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
) -> None:
    """Options that stand before a command."""


def main() -> NoReturn:
    """Run the command and turn errors into one sentence and an exit code."""
    verbose = any(flag in sys.argv[1:] for flag in VERBOSE)
    arguments = [argument for argument in sys.argv[1:] if argument not in VERBOSE]
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s: %(message)s")
    if empty := _empty(arguments):
        _stop(f"{empty} has no value; give it one or leave it out (is a variable of your shell not set?)", 2)
    try:
        sys.exit(app(arguments, prog_name="bench", standalone_mode=False))  # the code of typer.Exit, None for a good end
    except BrokenPipeError:  # the reader of our output, `head` for one, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except typer.Abort:
        _stop("interrupted", 130)
    except WRONG_USE as error:
        if sentence := _misuse(error):
            _stop(sentence, 2)
        sys.exit(2)  # help was printed for want of a command
    except KeyboardInterrupt:  # before a command began
        _stop("interrupted", 130)
    except Exception as error:
        code = _exit_code(error)
        if verbose or code is None:
            raise
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        _stop(text, code)


def _empty(arguments: list[str]) -> str:
    """The option, or the place, at which an argument is empty; '' where none is."""
    for before, argument in pairwise(["bench", *arguments]):
        if not argument:
            return before if before.startswith("-") else f"what follows `{before}`"
        if re.fullmatch("--[a-z-]+=", argument):
            return argument[:-1]
    return ""


def _misuse(error: Any) -> str:
    """What typer says of a wrong option, argument or command, with what to do; '' where it has printed help instead."""
    said = str(error.format_message()).strip().rstrip(".?").replace(". Did you mean", ", did you mean")
    said = said[:1].lower() + said[1:].replace("Input should be", "it should be").partition(", unable to parse")[0]
    if not said or error.ctx is None:
        return said
    example = re.search(r"Examples?: `(.+?)`", error.ctx.command.help or "")
    command = error.ctx.command_path
    more = f"for example `{example[1]}`" if said.startswith("missing") and example else f"see `{command} --help`"
    return f"{command.removeprefix('bench').strip()}: {said}; {more}".removeprefix(": ")


def _exit_code(error: Exception) -> int | None:
    """Return the exit code that an error's class names: 2 for wrong use or input, which missing files are too; None for an
    error of our own."""
    code: int | None = getattr(error, "exit_code", None)
    return 2 if code is None and isinstance(error, OSError) else code


def _stop(sentence: str, code: int) -> NoReturn:
    """End with a sentence on one line; names in it may be a stranger's, and must not steer a terminal."""
    from unlearnable_bench.results.submission import one_line

    print(f"bench: {one_line(sentence)}", file=sys.stderr)
    sys.exit(code)
