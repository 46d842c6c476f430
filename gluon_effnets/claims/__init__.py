"""What the five papers claim and what this package found of it: the ledger in results/claims/, and its checks."""

from .checks import Finding, find
from .ledger import PAPERS, VERDICTS, Claim, Paper, read_ledger
from .tables import claims_table, score_table

__all__ = ["PAPERS", "VERDICTS", "Claim", "Finding", "Paper", "claims_table", "find", "read_ledger", "score_table"]
