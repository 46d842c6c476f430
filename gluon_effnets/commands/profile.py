"""The command `benchmark profile`: where the time of networks goes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .command import Command
from .options import network_options, read_options

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `benchmark profile`."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="Models, see python -m gluon_effnets list.")
    parser.add_argument("--all-families", action="store_true", help="Profile one network of every family.")
    parser.add_argument(
        "--runtime",
        nargs="+",
        choices=("onnxruntime", "mxnet", "mxnet-fused"),
        default=["onnxruntime"],
        help="Runtimes to profile in (default: onnxruntime).",
    )
    parser.add_argument("--width", type=int, metavar="I", help="Profile this width of a slimmable network.")
    parser.add_argument(
        "--aligned", action="store_true", help="Profile the aligned form of ShuffleNets and CondenseNets."
    )
    parser.add_argument("--image-size", type=int, metavar="N", help="Side of the images (default: 224).")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="Number of images in a batch (default: 1).")
    parser.add_argument(
        "--repeats", type=int, default=20, metavar="N", help="Repetitions of each network (default: 20)."
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="Also write everything that was measured to a file.")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="Also draw the kinds of operators as bars.")
    network_options(parser)


def run(args: argparse.Namespace) -> None:
    """Profile, print the tables, and write the files that are asked for."""
    from ..benchmarks.profile.lower_bound import measure_machine
    from ..benchmarks.profile.run import REPRESENTATIVES, Variant, deployed, profile
    from ..benchmarks.profile.tables import detail_tables, machine_line, plot_profiles, profile_row, summary_table
    from ..files.write import write_text
    from ..timing import conditions, conditions_line

    variants = [Variant(name, args.width, args.aligned) for name in args.names]
    variants += [variant for variant in REPRESENTATIVES if args.all_families]
    if not variants:
        raise ValueError("name a network, or --all-families")
    machine = measure_machine()
    profiles = []
    for variant in variants:
        for runtime in args.runtime:
            net = deployed(variant, runtime, **read_options(args.option))
            print(f"{variant.label} in {runtime} ...", file=sys.stderr, flush=True)
            profiles.append(
                profile(net, machine, runtime, args.image_size or 224, args.batch, args.repeats, variant.label)
            )
            if not args.all_families:
                print(detail_tables(profiles[-1]) + "\n")
    rows = [profile_row(one) for one in profiles]
    told = conditions_line(conditions())
    print(f"{summary_table(rows)}\n\n{machine_line(machine._asdict())}\n{args.repeats} repetitions; {told}")
    if args.json:
        measured = {"conditions": told, "repeats": args.repeats, "machine": machine._asdict(), "profiles": rows}
        write_text(args.json, json.dumps(measured, indent=1) + "\n")
    if args.plot:
        plot_profiles(profiles, args.plot)


COMMAND = Command(
    "profile",
    "Show where the time goes, operator by operator, beside the least time on this processor (set OMP_NUM_THREADS=1).",
    add_arguments,
    run,
)
