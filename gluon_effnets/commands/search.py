"""The commands `search idle`, `search darts` and `search correlation`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .command import Command, Group
from .options import network_options, read_options, settings_option, table_format

__all__ = ["COMMANDS"]


def add_idle_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `search idle`."""
    parser.add_argument(
        "--base",
        default="mobilenet_v3_large",
        metavar="NAME",
        help="The network: mobilenet_v3_large (default), mobilenet_v3_small or efficientnet_b0.",
    )
    parser.add_argument("--budget", type=float, metavar="N", help="The most multiply-adds, e.g. 190e6 (default: any).")
    parser.add_argument("--image-size", type=int, metavar="N", help="At which they are counted (default: 224).")
    parser.add_argument(
        "--sides", choices=("left", "right", "both"), default="left", help="Which IdleBlocks there are (default: left)."
    )
    parser.add_argument(
        "--appended", type=int, metavar="I", help="Append I IdleBlocks instead of replacing blocks, by evolution."
    )
    parser.add_argument("--most", type=int, default=4, metavar="N", help="Appended behind one block (default: 4).")
    parser.add_argument(
        "--score",
        metavar="NAME",
        help="Of placements: one_shot, log_synflow, naswot, params or madds (default: log_synflow).",
    )
    parser.add_argument(
        "--supernet", type=Path, metavar="RUN", help="The run folder of a one-shot network; the score is then one_shot."
    )
    parser.add_argument("--latency", metavar="RUNTIME", help="Measure latencies in a runtime of docs/latency.md.")
    parser.add_argument("--repeats", type=int, default=40, metavar="N", help="Of that measurement (default: 40).")
    parser.add_argument(
        "--generations", type=int, default=20, metavar="N", help="Of the evolution, 50 networks each (default: 20)."
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="Of the evolution (default: 0).")
    parser.add_argument("--out", type=Path, metavar="DIR", help="The folder to write (default: runs/search/idle.NAME).")
    network_options(parser)
    table_format(parser)


def run_idle(args: argparse.Namespace) -> None:
    """Search, and print the front, the networks of the paper's rules and the winner."""
    from ..search.idle import AppendedSpace, IdleSpace, PlacementSpace
    from ..search.idle_search import Request, search_idle
    from ..search.report import search_table
    from ..search.strategies import Evolution

    for name in ("repeats", "generations", "image_size", "most"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be at least 1")
    size, options = args.image_size or 224, read_options(args.option)
    sides = ("left", "right") if args.sides == "both" else (args.sides,)
    space: IdleSpace = PlacementSpace(args.base, options, size, sides)
    if args.appended is not None:
        space = AppendedSpace(args.base, options, size, args.appended, args.most)
    request = Request(
        space,
        args.out or Path("runs/search") / f"idle.{args.base}",
        args.budget,
        args.score or ("one_shot" if args.supernet else "log_synflow"),
        args.supernet,
        args.latency,
        args.repeats,
        Evolution(generations=args.generations, seed=args.seed),
    )
    found = search_idle(request)
    shown = [*found.front, *(row for row in found.rows if row.rules and row not in found.front)]
    print(search_table(shown, request.score).written(args.format))
    if args.format in ("text", "markdown"):
        print("\n".join(["", *found.lines, f"winner: {found.winner.label} -> {request.out / 'winner.yaml'}"]))


def add_darts_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `search darts`."""
    parser.add_argument(
        "--space", default="darts", metavar="NAME", help="The operations: darts (default) or darts_sandglass."
    )
    parser.add_argument(
        "--data", required=True, metavar="KIND[:PATH]", help="Images: cifar10:DIR, digits or synthetic[:N]."
    )
    parser.add_argument(
        "--order", type=int, default=1, metavar="N", help="Of the gradient of the architecture, 1 or 2 (default: 1)."
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="Length of the search (default: 50).")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="Of weights and batches (default: 0).")
    settings_option(parser, "Change a key of the recipe, configs/darts_search.yaml")
    parser.add_argument("--out", type=Path, metavar="DIR", help="The run folder (default: runs/search/NAME).")
    network_options(parser)
    table_format(parser)


def run_darts(args: argparse.Namespace) -> int:
    """Search, or go on with a search, and print the cells; return the exit code."""
    from ..search.cell_search import CellRequest, search_cells
    from ..search.report import search_table

    if args.epochs is not None and args.epochs < 1:
        raise ValueError(f"--epochs is {args.epochs}; it must be at least 1")
    out = args.out or Path("runs/search") / args.space
    options = read_options(args.option)
    code, found = search_cells(
        CellRequest(args.space, args.data, out, args.order, args.epochs, args.seed, options, args.overrides)
    )
    if found is not None:
        print(search_table(found.rows, "share", "cells").written(args.format))
        if args.format in ("text", "markdown"):
            print(
                "\n".join(
                    ["", *found.lines, f"winner: {out / 'genotype.yaml'}, to be trained by {out / 'winner.yaml'}"]
                )
            )
    return code


def add_correlation_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `search correlation`."""
    parser.add_argument("experiment", help="The experiment that trained them, e.g. idle_search, or its YAML file.")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/experiments"),
        metavar="DIR",
        help="Where its runs are (default: %(default)s).",
    )
    table_format(parser)


def run_correlation(args: argparse.Namespace) -> None:
    """Print how far one-shot scores, proxies and costs agree with the networks trained one by one."""
    from ..experiments import read_experiment
    from ..search.agreement import agreement

    print(agreement(read_experiment(args.experiment), args.out).written(args.format))


COMMANDS = Group(
    "search",
    "Search for networks.",
    (
        Command(
            "idle",
            "Search where IdleBlocks stand; the same command goes on after any stop.",
            add_idle_arguments,
            run_idle,
        ),
        Command(
            "darts",
            "Search for the cells of a network by gradients; the same command goes on after any stop.",
            add_darts_arguments,
            run_darts,
        ),
        Command(
            "correlation",
            "Compare one-shot scores and proxies with networks that an experiment trained one by one.",
            add_correlation_arguments,
            run_correlation,
        ),
    ),
)
