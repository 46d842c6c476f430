"""The search for IdleBlocks from costs to the winner; whatever was measured or scored before a kill stays."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..files.write import make_folder, write_text
from ..progress import progress_bar
from ..train.config import Recipe, find_recipe, load_recipe
from .correlation import rank_correlation
from .idle import AppendedSpace, IdleSpace, PlacementSpace
from .journal import Journal
from .latency import LatencyTable, kept_table
from .oneshot import OneShot, read_run
from .proxies import PROXIES
from .report import Found, Row, draw_search, front, search_table, write_winner
from .space import Choice
from .strategies import Evolution, enumerate_all, evolve

__all__ = ["SCORES", "Found", "Request", "make_scorer", "search_idle"]

SCORES = ("one_shot", "log_synflow", "naswot", "params", "madds")
_RECIPES = {
    "mobilenet_v3_large": "idle_mbv3",
    "mobilenet_v3_small": "mobilenet_v3_small",
    "efficientnet_b0": "idle_efficientnet_b0",
}


@dataclasses.dataclass(frozen=True)
class Request:
    """What is searched.

    space : the networks.
    out : the folder of journal, table, picture and winner.
    budget : the most multiply-adds; None: any number.
    score : one of `SCORES`.
    supernet : the run folder of a one-shot network, for the score 'one_shot'.
    latency : a runtime of `benchmark latency`, of placements alone.
    repeats : of that measurement.
    evolution : its numbers, for appended IdleBlocks.
    """

    space: IdleSpace
    out: Path
    budget: Optional[float] = None
    score: str = "log_synflow"
    supernet: Optional[Path] = None
    latency: Optional[str] = None
    repeats: int = 40
    evolution: Evolution = Evolution()


def make_scorer(
    space: IdleSpace, score: str, supernet: Optional[Path]
) -> Tuple[Callable[[Choice], Dict[str, float]], str, Dict[str, Any]]:
    """Return a scorer, the key of its score that is to be large, and what the scores depend on.

    Raises:
        ValueError: An unknown score, or one without what it needs.
    """
    if score not in SCORES:
        raise ValueError(f"there is no score {score!r}: choose --score {', '.join(SCORES)}")
    if (score == "one_shot") != (supernet is not None):
        raise ValueError("the score one_shot and --supernet RUN go together: RUN is a finished run of single_path")
    if supernet is not None:
        one_shot = OneShot(space, supernet)
        return one_shot, "top1", one_shot.about
    if score in PROXIES:
        return PROXIES[score](space), score, {}
    return (lambda choice: {score: float(getattr(space.cost(choice), score))}), score, {}


def search_idle(request: Request) -> Found:
    """Score the networks within the budget, and write journal, search.json, table.csv, pareto.png and winner.yaml.

    Raises:
        ValueError: Nothing fits, or the folder holds another search.
        FileNotFoundError: There is no such run.
    """
    space, budget = request.space, request.budget
    _check_budget(space, budget)
    recipe = read_run(request.supernet) if request.supernet else _shipped(space.base)
    scorer, key, about = make_scorer(space, request.score, request.supernet)
    make_folder(request.out)
    table = _latency(request)

    def fits(choice: Choice) -> bool:
        return budget is None or space.cost(choice).madds <= budget

    journal = Journal(request.out / f"{request.score}.jsonl", {**_about(space), **about}, scorer)
    greedy: List[Choice] = []
    if isinstance(space, PlacementSpace):
        greedy, choices = space.greedy(), enumerate_all(space, fits)
        for choice in progress_bar([*greedy, *choices], desc=f"score {request.score}", unit=" networks"):
            journal(choice)
    else:
        choices = evolve(space, journal, key, fits, request.evolution)
    rules = _rules(space, greedy, budget)

    def row(choice: Choice) -> Row:
        cost, label = space.cost(choice), space.label(choice)
        names = [name for name, other in rules.items() if other == choice]
        return Row(label, cost.params, cost.madds, table and table.of(choice), journal(choice)[key], names)

    rows = {choice: row(choice) for choice in choices}
    winner = max(choices, key=lambda choice: (rows[choice].score, -rows[choice].cost))
    path = [row(choice) for choice in greedy]
    found = Found(list(rows.values()), front(list(rows.values())), rows[winner], _lines(request, rows, table))
    _write(request, found, path, space.recipe(winner))
    write_winner(recipe, space.recipe(winner), rows[winner].label, request.out / "winner.yaml")
    return found


def _about(space: IdleSpace) -> Dict[str, Any]:
    about = {"base": space.base, "options": space.options}
    if isinstance(space, AppendedSpace):
        return {**about, "num_idle": space.num_idle, "most": space.most}
    return {**about, "sides": list(space.sides)}


def _check_budget(space: IdleSpace, budget: Optional[float]) -> None:
    if budget is None or not isinstance(space, PlacementSpace):
        return
    least = space.cost(space.greedy()[-1]).madds
    if not budget >= least:
        raise ValueError(
            f"budget {budget / 1e6:.1f} M is out of reach: with an IdleBlock wherever one can stand {space.base} "
            f"has {least / 1e6:.1f} M multiply-adds"
        )


def _shipped(base: str) -> Recipe:
    return load_recipe(find_recipe(_RECIPES[base]))


def _latency(request: Request) -> Optional[LatencyTable]:
    if request.latency is None:
        return None
    if not isinstance(request.space, PlacementSpace):
        raise ValueError("--latency is for placements in place of blocks: leave it out with --appended")
    path = request.out / f"latency.{request.latency}.json"
    return kept_table(request.space, request.latency, path, request.repeats)


def _rules(space: IdleSpace, greedy: List[Choice], budget: Optional[float]) -> Dict[str, Choice]:
    """The paper's rules and the networks that they give."""
    if not greedy:
        return {}
    rules = {"none": greedy[0], "maximum": greedy[-1]}
    if budget is not None:
        rules["adjacent"] = next(choice for choice in greedy if space.cost(choice).madds <= budget)
    return rules


def _lines(request: Request, rows: Dict[Choice, Row], table: Optional[LatencyTable]) -> List[str]:
    scores = [row.score for row in rows.values()]
    lines = [table.error()] if table else []
    if len(rows) > 2:
        by = {"MAdds": [row.madds for row in rows.values()], "parameters": [row.params for row in rows.values()]}
        found = {name: rank_correlation(scores, values) for name, values in by.items()}
        told = " and ".join(f"{value:+.2f} with {name}" for name, value in found.items() if value is not None)
        lines += [f"rank correlation of {request.score}: {told}"] if told else []
    if request.score in PROXIES:
        lines.append("a proxy counts MBBlocks by construction: it says something among networks of equal cost alone")
    return lines


def _write(request: Request, found: Found, greedy: List[Row], winner: Dict[str, Any]) -> None:
    table = search_table(found.rows, request.score)
    content = {
        **_about(request.space),
        "budget": request.budget,
        "score": request.score,
        "winner": {**winner, **found.winner._asdict()},
        "front": [row._asdict() for row in found.front],
        "adjacent": [row._asdict() for row in greedy],
        "said": found.lines,
    }
    write_text(request.out / "search.json", json.dumps(content, indent=1) + "\n")
    write_text(request.out / "table.csv", table.csv() + "\n")
    draw_search(found.rows, request.score, request.out / "pareto.png", request.budget, greedy)
