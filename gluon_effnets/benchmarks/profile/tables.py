"""Profiles of networks as JSON, Markdown tables and a picture."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any, Dict, List, Sequence

from ..._requirements import optional_import
from .floor import KINDS
from .run import REST, REST_IN_MXNET, Profile

__all__ = ["detail_tables", "machine_line", "plot_profiles", "profile_row", "summary_table"]

# Names of kinds in the head of a table.
_SHORT = {"first convolution": "first", "fully connected": "FC", "squeeze-and-excite": "SE", "channels moved": "moved"}
_REST = "rest"


def profile_row(profile: Profile) -> Dict[str, Any]:
    """A profile for a JSON file: its fields, every operator as [name, type, kind, side, milliseconds]."""
    row = dataclasses.asdict(profile)
    row["events"] = [[*event[:-1], round(event.milliseconds, 4)] for event in profile.events]
    return row


def machine_line(machine: Dict[str, Dict[Any, float]]) -> str:
    """What the floor is reckoned with, in one line; `machine` as a dictionary, with texts for keys from a file."""
    peaks = ", ".join(f"{name} {rate / 1e9:.1f}" for name, rate in machine["peaks"].items())
    rates = ", ".join(f"{int(size) >> 10} KiB {rate / 1e9:.0f}" for size, rate in machine["bandwidths"].items())
    return f"peak in 10^9 multiply-adds/s: {peaks}; bandwidth in 10^9 bytes/s by working set: {rates}"


def summary_table(rows: Sequence[Dict[str, Any]]) -> str:
    """A line per profile (of `profile_row`): latency, floor, and the shares of all kinds in percent."""
    kinds = [kind for kind in KINDS if any(kind in row["kinds"] for row in rows)]
    head = ["network", "runtime", "minimum, ms", "median, ms", "as profiled, ms", "floor, ms", "minimum / floor"]
    head += [f"{_SHORT.get(kind, kind)}, %" for kind in kinds] + [f"{_REST}, %", "reorders"]
    lines = []
    for row in rows:
        numbers = [f"{row[key]:.2f}" for key in ("minimum", "median", "profiled", "floor")]
        shares = _percents(row)
        parts = [f"{shares[kind]:.0f}" if kind in shares else "" for kind in (*kinds, _REST)]
        reorders = row["kinds"].get("layout", {"operators": 0})["operators"]
        lines.append([row["name"], row["runtime"], *numbers, f"{row['minimum'] / row['floor']:.2f}", *parts, reorders])
    return _markdown(head, lines)


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
        f"floor {profile.floor:.2f} ms; {profile.reorders.operators} reorders"
    )
    fused = ", ".join(f"{number} {name}" for name, number in profile.fused.items()) or "nothing"

    def shares(parts):
        return [
            [name, share.operators, f"{share.milliseconds:.3f}", f"{100 * share.milliseconds / profile.profiled:.1f}",
             f"{share.madds / 1e6:.2f}", f"{share.floor:.3f}",
             f"{share.milliseconds / share.floor:.2f}" if share.floor else ""]
            for name, share in parts
        ]  # fmt: skip

    head = ["operators", "ms", "%", "MAdds, 10^6", "floor, ms", "ms / floor"]
    by_side = [(f"{side} high" if side else "no map", share) for side, share in profile.sides.items()]
    types = sorted(profile.operators.items(), key=lambda item: -item[1].milliseconds)
    events = sorted(profile.events, key=lambda event: -event.milliseconds)[:slowest]
    return "\n".join(
        [
            f"### {title}\n\n{total}; part of convolutions: {fused}\n",
            _markdown(["kind", *head], shares(profile.kinds.items())),
            _markdown(["output", *head], shares(by_side)),
            _markdown(["type", "operators", "ms"], [[t, s.operators, f"{s.milliseconds:.3f}"] for t, s in types]),
            _markdown(
                ["slowest", "type", "kind", "output", "ms"],
                [[f"`{e.name}`", e.op, e.kind, f"{e.side} high", f"{e.milliseconds:.3f}"] for e in events],
            ),
        ]
    )


def plot_profiles(profiles: Sequence[Profile], path: Path) -> None:
    """A bar per profile, its kinds side by side in milliseconds, and a line at its floor.

    Raises ImportError without matplotlib.
    """
    matplotlib = optional_import("matplotlib", extra="train", why="the picture of profiles")
    matplotlib.use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(10, 1.5 + 0.45 * len(profiles)), constrained_layout=True)
    colours = pyplot.get_cmap("tab20").colors
    kinds = (*KINDS, REST, REST_IN_MXNET)
    for kind, colour in zip(kinds, colours):
        parts = [profile.kinds[kind].milliseconds if kind in profile.kinds else 0 for profile in profiles]
        before = [sum(p.kinds[k].milliseconds for k in kinds[: kinds.index(kind)] if k in p.kinds) for p in profiles]
        if any(parts):
            axes.barh(range(len(profiles)), parts, left=before, color=colour, label=kind)
    for place, profile in enumerate(profiles):
        axes.plot([profile.floor] * 2, [place - 0.45, place + 0.45], color="black", label=None if place else "floor")
    axes.set_yticks(range(len(profiles)))
    axes.set_yticklabels([f"{profile.name} ({profile.runtime})" for profile in profiles])
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds, as profiled")
    axes.legend(fontsize="small", ncol=2)
    figure.savefig(path)
    pyplot.close(figure)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines: List[Sequence[Any]] = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
