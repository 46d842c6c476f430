"""The command `claims`: what the papers claim, and what was found of it."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, List

from .command import Command
from .options import table_format

if TYPE_CHECKING:
    from ..claims import Claim, Paper

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `claims`."""
    parser.add_argument("--paper", metavar="PAPER", help="The claims of one paper (default: the score of every paper).")
    parser.add_argument("--all", action="store_true", help="The claims of all papers.")
    parser.add_argument(
        "--rerun",
        choices=("cheap",),
        help="Find again what takes seconds, with costs counted on the networks, and tell what differs.",
    )
    table_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print the tables; exit code 1 if a value or verdict differs from the ledger."""
    from ..claims import claims_table, read_ledger, score_table

    papers = read_ledger(args.paper)
    if args.rerun:
        return _rerun(papers)
    if not (args.paper or args.all):
        print(score_table(papers).written(args.format))
        if args.format == "text":
            print(f"\nOf a paper: python -m gluon_effnets claims --paper {'|'.join(paper.name for paper in papers)}")
    elif args.format == "json":
        print(json.dumps([claim._asdict() for paper in papers for claim in paper.claims], indent=1, ensure_ascii=False))
    else:
        for paper in papers:
            print(_listed(paper) if args.format == "text" else claims_table(paper).written(args.format))
    return 0


def _listed(paper: Paper) -> str:
    """A paragraph per claim: tables of sentences do not fit a terminal."""
    lines = [f"{paper.title}", ""]
    for claim in paper.claims:
        numbers = [f"published {claim.published}" if claim.published else "", f"measured {claim.measured or '-'}"]
        lines.append(f"[{claim.verdict}] {claim.id}: {claim.claim} ({claim.place})")
        lines.append("    " + "; ".join(part for part in numbers if part))
        lines += [f"    {text}" for text in (claim.note, claim.needs and f"It takes {claim.needs}.") if text]
        again = _again(paper, claim)
        if again:
            lines.append(f"    again: {again}")
    return "\n".join(lines) + "\n"


def _again(paper: Paper, claim: Claim) -> str:
    """The command with which a reader finds the value again; empty where nothing here can."""
    if claim.command:
        return claim.command
    if claim.check is None:
        return ""
    if claim.check["kind"] == "test":
        return f"make test ARGS={claim.check['name']}"
    return f"python -m gluon_effnets claims --paper {paper.name} --rerun cheap"


def _rerun(papers: List[Paper]) -> int:
    """Find every value again; exit code 1 if one differs from the ledger."""
    from ..claims import find

    number = differing = 0
    for paper in papers:
        for claim in paper.claims:
            if claim.check is None:
                continue
            found, number = find(claim.check, anew=True), number + 1
            if (found.measured, found.verdict) != (claim.measured, claim.verdict):
                differing += 1
                print(f"{paper.name}.{claim.id}: {found.measured}, {found.verdict}; "
                      f"the ledger has {claim.measured}, {claim.verdict}")  # fmt: skip
    print(f"{number} values found again; {differing} of them differ from the ledger")
    return 1 if differing else 0


COMMAND = Command(
    "claims", "Show what the papers claim and what was found of it, and check it again.", add_arguments, run
)
