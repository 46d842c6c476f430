"""The command `python -m gluon_effnets benchmark profile`: its arguments, and what it writes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Callable

from .options import network_options, read_options

__all__ = ["add_profile"]


def add_profile(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command; `command(name, function, help)` makes a parser that calls `function(args)`."""
    text = "where the time goes, operator by operator, and the floor of this processor (set OMP_NUM_THREADS=1)"
    added = command("profile", _profile, text)
    added.add_argument("names", nargs="*", metavar="NAME")
    added.add_argument("--all-families", action="store_true", help="one network of every family")
    added.add_argument("--runtime", nargs="+", choices=("onnxruntime", "mxnet", "mxnet-fused"), default=["onnxruntime"])
    added.add_argument("--width", type=int, metavar="I", help="of a slimmable network")
    added.add_argument("--aligned", action="store_true", help="the aligned form of ShuffleNets and CondenseNets")
    added.add_argument("--image-size", type=int, metavar="N", help="default: 224")
    added.add_argument("--batch", type=int, default=1)
    added.add_argument("--repeats", type=int, default=20)
    added.add_argument("--json", type=Path, metavar="FILE", help="everything that was measured")
    added.add_argument("--plot", type=Path, metavar="FILE.png", help="the kinds of operators as bars")
    network_options(added)


def _profile(args) -> None:
    from ..benchmarks.profile.floor import measure_machine
    from ..benchmarks.profile.run import REPRESENTATIVES, Form, deployed, profile
    from ..benchmarks.profile.tables import detail_tables, machine_line, plot_profiles, profile_row, summary_table
    from ..timing import conditions

    forms = [Form(name, args.width, args.aligned) for name in args.names]
    forms += [form for form in REPRESENTATIVES if args.all_families]
    if not forms:
        raise ValueError("name a network, or --all-families")
    machine = measure_machine()
    profiles = []
    for form in forms:
        for runtime in args.runtime:
            net = deployed(form, runtime, **read_options(args.option))
            print(f"{form.label} in {runtime} ...", file=sys.stderr, flush=True)
            profiles.append(
                profile(net, machine, runtime, args.image_size or 224, args.batch, args.repeats, form.label)
            )
            if not args.all_families:
                print(detail_tables(profiles[-1]))
    rows = [profile_row(one) for one in profiles]
    print(f"{summary_table(rows)}\n{machine_line(machine._asdict())}\n{args.repeats} repetitions; {conditions()}")
    if args.json:
        measured = {"conditions": conditions(), "repeats": args.repeats, "machine": machine._asdict(), "profiles": rows}
        args.json.write_text(json.dumps(measured, indent=1) + "\n")
    if args.plot:
        plot_profiles(profiles, args.plot)
