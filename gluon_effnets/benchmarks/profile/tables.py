"""Profiles of networks as JSON, Markdown tables and a picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, Iterable, Sequence, Tuple

from ...pictures import load_pyplot, save_picture
from ...tables import Table
from .lower_bound import KINDS
from .run import REST, REST_IN_MXNET, Profile, Share

__all__ = ["detail_tables", "machine_line", "plot_profiles", "profile_row", "summary_table"]

# Names of kinds in the head of a table.
_SHORT = {"first convolution": "first", "fully connected": "FC", "squeeze-and-excite": "SE", "channels moved": "moved"}
_REST = "rest"


def profile_row(profile: Profile) -> Dict[str, Any]:
    """A profile for a JSON file: its fields, every operator as [name, type, kind, side, milliseconds].

    There 'floor' is the key of the lower bound.
    """
    row = _with_floor(dataclasses.asdict(profile))
    row["events"] = [[*event[:-1], round(event.milliseconds, 4)] for event in profile.events]
    return row


def _with_floor(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {"floor" if key == "lower_bound" else key: _with_floor(inner) for key, inner in value.items()}


def machine_line(machine: Dict[str, Dict[Any, float]]) -> str:
    """What the lower bound is computed from, in one line; `machine` is a dictionary, whose keys a file makes texts."""
    peaks = ", ".join(f"{name} {rate / 1e9:.1f}" for name, rate in machine["peaks"].items())
    rates = ", ".join(f"{int(size) >> 10} KiB {rate / 1e9:.0f}" for size, rate in machine["bandwidths"].items())
    return f"peak in 10^9 multiply-adds/s: {peaks}; bandwidth in 10^9 bytes/s by working set: {rates}"


def summary_table(rows: Sequence[Dict[str, Any]]) -> str:
    """A line per profile (of `profile_row`): latency, lower bound, and the shares of all kinds in percent."""
    kinds = [kind for kind in KINDS if any(kind in row["kinds"] for row in rows)]
    times = [(title, ".2f") for title in ("minimum, ms", "median, ms", "as profiled, ms", "floor, ms")]
    percents = [(f"{_SHORT.get(kind, kind)}, %", ".0f") for kind in (*kinds, _REST)]
    columns = ["network", "runtime", *times, ("minimum / floor", ".2f"), *percents, "reorders"]
    lines = []
    for row in rows:
        numbers = [row[key] for key in ("minimum", "median", "profiled", "floor")]
        shares = _percents(row)
        parts = [shares.get(kind) for kind in (*kinds, _REST)]
        reorders = row["kinds"].get("layout", {"operators": 0})["operators"]
        lines.append([row["name"], row["runtime"], *numbers, row["minimum"] / row["floor"], *parts, reorders])
    return Table(columns, lines).markdown()


def _percents(row: Dict[str, Any]) -> Dict[str, float]:
    """Share of every kind in the profiled time; 'rest' for what is of no kind."""
    renamed = {REST: _REST, REST_IN_MXNET: _REST}
    return {
        renamed.get(kind, kind): 100 * share["milliseconds"] / row["profiled"] for kind, share in row["kinds"].items()
    }


def detail_tables(profile: Profile, slowest: int = 10) -> str:
    """Tables of one profile: by kind, by height of the maps, by the runtime's operator, and the slowest operators."""
    title = f"{profile.name}, {profile.runtime}, {' x '.join(map(str, profile.shape))}"
    total = (
        f"minimum {profile.minimum:.2f} ms, median {profile.median:.2f} ms, as profiled {profile.profiled:.2f} ms, "
        f"floor {profile.lower_bound:.2f} ms; {profile.reorders.operators} reorders"
    )
    fused = ", ".join(f"{number} {name}" for name, number in profile.fused.items()) or "nothing"

    def shares(title: str, parts: Iterable[Tuple[str, Share]]) -> str:
        figures = [("ms", ".3f"), ("%", ".1f"), ("MAdds, 10^6", ".2f"), ("floor, ms", ".3f"), ("ms / floor", ".2f")]
        lines = [
            (
                name,
                share.operators,
                share.milliseconds,
                100 * share.milliseconds / profile.profiled,
                share.madds / 1e6,
                share.lower_bound,
                share.milliseconds / share.lower_bound if share.lower_bound else None,
            )
            for name, share in parts
        ]
        return Table([title, "operators", *figures], lines).markdown()

    by_side = [(f"{side} high" if side else "no map", share) for side, share in profile.sides.items()]
    types = sorted(profile.operators.items(), key=lambda item: -item[1].milliseconds)
    events = sorted(profile.events, key=lambda event: -event.milliseconds)[:slowest]
    by_type = Table(["type", "operators", ("ms", ".3f")], [(t, s.operators, s.milliseconds) for t, s in types])
    of_slowest = Table(
        ["slowest", "type", "kind", "output", ("ms", ".3f")],
        [(f"`{e.name}`", e.op, e.kind, f"{e.side} high", e.milliseconds) for e in events],
    )
    return "\n\n".join(
        [
            f"### {title}",
            f"{total}; part of convolutions: {fused}",
            shares("kind", profile.kinds.items()),
            shares("output", by_side),
            by_type.markdown(),
            of_slowest.markdown(),
        ]
    )


def plot_profiles(profiles: Sequence[Profile], path: Path) -> None:
    """A bar per profile, its kinds side by side in milliseconds, and a line at its lower bound.

    Raises ImportError without matplotlib.
    """
    pyplot = load_pyplot("the picture of profiles")
    figure, axes = pyplot.subplots(figsize=(10, 1.5 + 0.45 * len(profiles)), constrained_layout=True)
    colors = pyplot.get_cmap("tab20").colors
    kinds = (*KINDS, REST, REST_IN_MXNET)
    for kind, color in zip(kinds, colors):
        parts = [profile.kinds[kind].milliseconds if kind in profile.kinds else 0 for profile in profiles]
        before = [sum(p.kinds[k].milliseconds for k in kinds[: kinds.index(kind)] if k in p.kinds) for p in profiles]
        if any(parts):
            axes.barh(range(len(profiles)), parts, left=before, color=color, label=kind)
    for place, profile in enumerate(profiles):
        axes.plot(
            [profile.lower_bound] * 2, [place - 0.45, place + 0.45], color="black", label=None if place else "floor"
        )
    axes.set_yticks(range(len(profiles)))
    axes.set_yticklabels([f"{profile.name} ({profile.runtime})" for profile in profiles])
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds, as profiled")
    axes.legend(fontsize="small", ncol=2)
    save_picture(figure, path, dpi=100)
