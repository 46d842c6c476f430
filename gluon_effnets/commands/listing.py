"""The command `list`: the registered models and what they cost."""

from __future__ import annotations

import argparse
from typing import List

from .. import _resources, list_models, model_info
from ..tables import Table, natural_order
from .command import Command
from .detectors import detectors_table
from .options import table_format

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `list`."""
    text = "Wildcards for the names, e.g. 'idle_*' '*_x0_5' (default: *)."
    parser.add_argument("patterns", nargs="*", default=["*"], metavar="PATTERN", help=text)
    parser.add_argument("--family", help="List the models of this family only, e.g. idle.")
    parser.add_argument("--pretrained", action="store_true", help="List the models that have published weights.")
    parser.add_argument("--has-recipe", action="store_true", help="List those that have a recipe of their own.")
    parser.add_argument("--detectors", action="store_true", help="List the detectors, not the models they stand on.")
    table_format(parser)


def run(args: argparse.Namespace) -> None:
    """Print the models, or the detectors, that match."""
    exact = args.format in ("csv", "json")
    if args.detectors:
        if args.family or args.pretrained:
            raise ValueError("--family and --pretrained are for models; give wildcards of the detectors' names")
        print(detectors_table(args.patterns, exact, args.has_recipe).written(args.format))
        return
    names = _models(args)
    if exact:
        print(_exact(names).written(args.format))
        return
    print(_readable(names).written(args.format))
    if any(_condensed(name) for name in names):
        print(("" if args.format == "text" else "\n") + "(in brackets: condensed, as it is deployed)")


def _models(args: argparse.Namespace) -> List[str]:
    for pattern in args.patterns:
        if not list_models(pattern):
            raise ValueError(f"no model matches {pattern!r}; python -m gluon_effnets list shows all")
    families = sorted({model_info(name).family for name in list_models()})
    if args.family and args.family not in families:
        raise ValueError(f"unknown family {args.family!r}; there are {', '.join(families)}")
    filters = {"family": args.family, "has_recipe": args.has_recipe or None, "pretrained": args.pretrained or None}
    names = list_models(args.patterns, **filters)
    if not names:
        asked = " ".join(f"--{key.replace('_', '-')}" for key, value in filters.items() if value)
        of = "" if args.patterns == ["*"] else f" of {' '.join(map(repr, args.patterns))}"
        raise ValueError(f"no model{of} is left by {asked}; python -m gluon_effnets list shows all")
    return sorted(names, key=natural_order)


def _readable(names: List[str]) -> Table:
    """Costs in millions, behind them in brackets the costs of the condensed network."""
    rows = []
    for name in names:
        info, condensed = model_info(name), _condensed(name)
        params = f"{info.params / 1e6:.2f} M" if info.params else ""
        madds = f"{info.madds / 1e6:.1f} M" if info.madds else ""
        if condensed:
            params += f" ({condensed['params'] / 1e6:.2f} M)"
            madds += f" ({condensed['madds'] / 1e6:.1f} M)"
        rows.append((name, params, madds, info.family, info.recipes))
    return Table(["model", "params", "MAdds", "family", "recipes"], rows)


def _exact(names: List[str]) -> Table:
    rows = []
    for name in names:
        info, condensed = model_info(name), _condensed(name)
        costs = (info.params, info.madds, condensed.get("params"), condensed.get("madds"))
        rows.append((name, *costs, info.family, info.recipes))
    return Table(["model", "params", "madds", "condensed_params", "condensed_madds", "family", "recipes"], rows)


def _condensed(name: str) -> dict:
    return _resources.results("computed").get(name, {}).get("condensed", {})


COMMAND = Command("list", "List the models, with parameters, multiply-adds and recipes.", add_arguments, run)
