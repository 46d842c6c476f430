"""What a command is, and how a table of commands becomes the command line of `python -m gluon_effnets`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
import warnings
from typing import Callable, NamedTuple, NoReturn, Optional, Sequence, Tuple, Union

from .. import __version__
from ..files.mistakes import TRACE_VARIABLE, sentence
from ..files.text import shown
from .completion import SHELLS, complete, how_to_register
from .reader import reader_left

__all__ = ["Command", "Group", "Parser", "run_command"]


_DESCRIPTION = "Efficient image-recognition networks on Apache MXNet/Gluon: train, measure and deploy them."


class Command(NamedTuple):
    """One command.

    Args:
        name: The word that calls it.
        help: What it does, in one sentence; it stands in the list of commands and begins the command's own help.
        add_arguments: Adds the arguments to the command's parser. It must not import what only `run` needs: every
            command is asked for its arguments whenever one of them runs.
        run: Takes the parsed arguments; its answer is the exit code, None for 0. Errors become one message; their trace
            stands before it where the variable GLUON_EFFNETS_TRACE is set.
        old_names: Words that called it in earlier versions and still do.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Optional[int]]
    old_names: Tuple[str, ...] = ()


class Parser(argparse.ArgumentParser):
    """A parser whose messages do not echo pages of what was typed."""

    def error(self, message: str) -> NoReturn:
        super().error(shown(message, 400))


class _Formatter(logging.Formatter):
    """Lines of a log without what a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record), 10_000)


class _Completion(argparse.Action):
    """Show how a shell completes commands, and exit, as --version does."""

    def __call__(self, parser, namespace, values, option_string=None):
        print(how_to_register(str(values)))
        parser.exit()


class Group(NamedTuple):
    """Commands that are called by two words, of which `name` is the first one."""

    name: str
    help: str
    commands: Tuple[Command, ...]


def run_command(commands: Sequence[Union[Command, Group]], argv: Optional[Sequence[str]] = None) -> int:
    """Run the command that the words `argv` call, by default the words of this process; return the exit code."""
    logging.basicConfig(level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(_Formatter("%(levelname)s: %(message)s"))
    # Of damaged pictures, our own messages speak.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    parser = Parser(prog="python -m gluon_effnets", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=__version__, help="Show the version and exit.")
    parser.add_argument(
        "--completion", choices=SHELLS, action=_Completion, help="Show what completes commands in a shell."
    )
    _add_commands(parser, "COMMAND", commands)
    complete(parser)
    try:
        args = parser.parse_args(argv)
        return args.run(args) or 0
    # All kinds: what libraries raise for a file that no check foresaw is a message, too.
    except Exception as error:
        if os.environ.get(TRACE_VARIABLE):
            traceback.print_exc()
        if not reader_left():
            print(f"error: {sentence(error)}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        reader_left()


def _add_commands(parser: argparse.ArgumentParser, metavar: str, commands: Sequence[Union[Command, Group]]) -> None:
    words = parser.add_subparsers(required=True, metavar=metavar)
    for command in commands:
        aliases = command.old_names if isinstance(command, Command) else ()
        added = words.add_parser(command.name, help=command.help, description=command.help, aliases=aliases)
        if isinstance(command, Group):
            _add_commands(added, "WHAT", command.commands)
        else:
            command.add_arguments(added)
            added.set_defaults(run=command.run)
