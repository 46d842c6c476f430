"""The ledger: a YAML file per paper in results/claims/, an entry per claim."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from .. import _resources
from ..files.schema import list_of, one_of, optional, record, text
from ..files.yaml_text import read_yaml

__all__ = ["PAPERS", "VERDICTS", "Claim", "Paper", "read_ledger"]

PAPERS = ("idleblock", "mobilenext", "condensenetv2", "dsnet", "shufflenet")
VERDICTS: Dict[str, str] = {
    "shown": "the number, or the behavior, is what this package has",
    "refuted": "it has another one",
    "direction shown": "on a small scale, beyond the interval of the seeds; the paper's number is not shown by it",
    "opposite direction": "on a small scale, beyond the interval of the seeds, the other way round",
    "not shown: noise": "on a small scale, within the interval of the seeds",
    "cannot be shown here": "it takes ImageNet, a phone or text that nobody can read; the entry says what",
    "open": "what it takes is here, and was not yet done",
}


class Claim(NamedTuple):
    """One claim of a paper.

    Attributes:
        id: A name that no other claim of the paper has.
        claim: What is claimed, in our words.
        place: Where: a table, a section, a README, an article about the paper.
        verdict: A key of `VERDICTS`.
        published: The number as it was printed; None where there is none.
        check: What finds the value anew (see checks.py); None where nothing here can.
        measured: What the check found; None without a check.
        command: What a stranger can run to see it; empty where `claims --rerun` is all.
        note: How the verdict is meant, and what stands against it.
        needs: What it would take to show it.
    """

    id: str
    claim: str
    place: str
    verdict: str
    published: Optional[str] = None
    check: Optional[Mapping[str, Any]] = None
    measured: Optional[str] = None
    command: str = ""
    note: str = ""
    needs: str = ""


class Paper(NamedTuple):
    """A paper and its claims.

    Attributes:
        name: A word of `PAPERS`.
        title: Title and arXiv number.
        sources: What of it could be read.
        checked: When the values were found last.
        claims: In the order of the paper.
    """

    name: str
    title: str
    sources: str
    checked: str
    claims: Tuple[Claim, ...]


def _check(value: Any, where: str) -> None:
    record({"kind": one_of("cost", "change", "test", "seeds", "latency", "result")}, closed=False)(value, where)


_ENTRY = record(
    {"id": text(), "claim": text(), "place": text(), "verdict": one_of(*VERDICTS)},
    {
        "published": optional(text()),
        "check": _check,
        "measured": text(),
        "command": text(),
        "note": text(),
        "needs": text(),
    },
)
_FILE = record({"title": text(), "sources": text(), "checked": text(), "claims": list_of(_ENTRY, least=1)})


def read_ledger(paper: Optional[str] = None) -> List[Paper]:
    """The ledger of one paper, or of all.

    Args:
        paper: A word of `PAPERS`; None: all.

    Raises:
        ValueError: There is no such paper, or its file is damaged.

    Example:
        >>> [claim.verdict for paper in read_ledger("idleblock") for claim in paper.claims][0]
        'shown'
    """
    if paper not in (None, *PAPERS):
        raise ValueError(f"no claims of {paper!r}; there are claims of {', '.join(PAPERS)}")
    return [_read(name) for name in ([paper] if paper else PAPERS)]


def _read(name: str) -> Paper:
    path = _resources.folder("results") / "claims" / f"{name}.yaml"
    content = read_yaml(path)
    _FILE(content, path.name)
    claims = tuple(Claim(**entry) for entry in content.pop("claims"))
    twice = {claim.id for claim in claims if sum(claim.id == other.id for other in claims) > 1}
    if twice:
        raise ValueError(f"{path.name} has two claims {min(twice)!r}")
    return Paper(name, **content, claims=claims)
