"""The ledger as tables: the claims of a paper, and the score of every paper."""

from __future__ import annotations

from typing import Iterable, List

from ..tables import Table
from .ledger import VERDICTS, Claim, Paper

__all__ = ["claims_table", "score_table"]


def claims_table(paper: Paper) -> Table:
    """A line per claim: what is claimed and where, published beside measured, and the verdict with its note.

    Args:
        paper: With its claims.
    """
    columns = ["claim", "place", "published", "measured here", "verdict", "note"]
    return Table(columns, [_cells(claim) for claim in paper.claims])


def _cells(claim: Claim) -> List[str]:
    needs = f"It takes {claim.needs}." if claim.needs else ""
    command = f"`{claim.command}`" if claim.command else ""
    note = " ".join(part for part in (claim.note, needs, command) if part)
    return [claim.claim, claim.place, claim.published or "", claim.measured or "", f"**{claim.verdict}**", note]


def score_table(papers: Iterable[Paper]) -> Table:
    """A line per paper: how many of its claims have which verdict.

    Args:
        papers: With their claims.
    """
    rows = []
    for paper in papers:
        verdicts = [claim.verdict for claim in paper.claims]
        name = paper.title.partition(",")[0].partition(" (")[0]
        rows.append([name, len(verdicts), *(verdicts.count(verdict) or None for verdict in VERDICTS)])
    return Table(["paper", "claims", *VERDICTS], rows)
