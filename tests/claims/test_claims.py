"""The ledger of claims: every value is what is found now, and no entry says more than it has."""

import json

import pytest
import yaml

from gluon_effnets import _resources
from gluon_effnets.__main__ import main
from gluon_effnets.claims import PAPERS, VERDICTS, find, read_ledger
from gluon_effnets.intervals import mean_interval, paired_difference

pytestmark = pytest.mark.fast
CLAIMS = [(paper.name, claim) for paper in read_ledger() for claim in paper.claims]
NAMES = [f"{paper}.{claim.id}" for paper, claim in CLAIMS]


@pytest.mark.parametrize("claim", [claim for _, claim in CLAIMS if claim.check], ids=lambda claim: claim.id)
def test_measured_values_and_verdicts_are_those_found_now(claim):
    found = find(claim.check)
    assert (found.measured, found.verdict) == (claim.measured, claim.verdict)


@pytest.mark.parametrize("claim", [claim for _, claim in CLAIMS if not claim.check], ids=lambda claim: claim.id)
def test_an_entry_without_a_check_says_what_it_stands_on(claim):
    if claim.verdict == "shown":
        assert claim.measured and claim.command
    elif claim.verdict == "refuted":
        assert claim.note
    elif claim.verdict == "cannot be shown here":
        assert claim.needs and not claim.measured
    else:
        assert claim.verdict == "open" and not claim.measured
        assert claim.needs or claim.note


def test_names_and_papers():
    assert len(set(NAMES)) == len(NAMES) >= 60
    assert {paper for paper, _ in CLAIMS} == set(PAPERS)


def evidence(monkeypatch, these, others):
    rows = [
        {"group": "g", "comparison": name, "seed": seed, "top1": top1}
        for name, runs in (("a", these), ("b", others))
        for seed, top1 in enumerate(runs)
    ]
    monkeypatch.setattr(_resources, "results", lambda name: {"rows": rows})
    return find({"kind": "seeds", "group": "g", "this": "a", "other": "b"})


@pytest.mark.parametrize(
    "these, others, verdict",
    [
        ([70.0, 71.0, 70.5], [68.0, 69.1, 68.4], "direction shown"),
        ([68.0, 69.1, 68.4], [70.0, 71.0, 70.5], "opposite direction"),
        ([70.0, 60.0, 70.5], [68.0, 69.1, 68.4], "not shown: noise"),
        ([75.0, 75.1], [68.0, 68.1], "not shown: noise"),  # too few seeds, whatever they say
        ([], [68.0], "open"),
    ],
)
def test_a_direction_needs_three_seeds_and_an_interval_beyond_zero(these, others, verdict, monkeypatch):
    assert evidence(monkeypatch, these, others).verdict == verdict


def test_runs_of_an_experiment_are_compared_by_their_score(monkeypatch):
    files = {}
    monkeypatch.setattr(_resources, "results", lambda name: files.get(name, {}))
    check = {"kind": "seeds", "file": "experiments/e", "this": "a", "other": "b"}
    assert find(check) == ("no runs yet", "open")
    files["experiments/e"] = {
        "rows": [
            {"comparison": name, "seed": seed, "score": score + seed, "scores": {"top1": 0.0}}
            for name, score in (("a", 61.0), ("b", 60.0))
            for seed in range(3)
        ]
    }
    assert find(check) == ("+1.00 points (+1.00 to +1.00), 3 seeds", "direction shown")
    assert find({**check, "key": "scores.top1"}).verdict == "not shown: noise"


def test_checks_name_networks_that_their_experiments_have():
    checks = [claim.check for _, claim in CLAIMS if (claim.check or {}).get("file", "").startswith("experiments/")]
    assert len(checks) >= 9
    for check in checks:
        content = (_resources.folder("configs") / f"{check['file']}.yaml").read_text()
        names = yaml.safe_load(content)["comparisons"]
        assert check["this"] in names and check["other"] in names


@pytest.mark.parametrize(
    "theirs, verdict",
    [([1.2] * 6, "shown"), ([0.8] * 6, "refuted"), ([1.2, 0.8] * 3, "not shown: noise"), (None, "open")],
)
def test_a_lead_is_that_of_paired_times(theirs, verdict, monkeypatch, tmp_path):
    (tmp_path / "latency").mkdir()
    (tmp_path / "latency" / "this.json").touch()
    rows = [{"model": "a", "runtime": "r", "threads": 1, "batch": 1, "ms": [1.0] * 6}]
    rows += [] if theirs is None else [{**rows[0], "model": "b", "ms": theirs}]
    monkeypatch.setattr(_resources, "folder", lambda name: tmp_path)
    monkeypatch.setattr(_resources, "results", lambda name: {"runs": [{"rows": rows}]})
    assert find({"kind": "latency", "model": "a", "base": "b", "runtime": "r"}).verdict == verdict


def test_seeds_are_compared_in_pairs(monkeypatch):
    # The seeds differ by 20 points, the networks by 1 with the same seed.
    found = evidence(monkeypatch, [51.0, 61.1, 71.0], [50.0, 60.0, 70.1])
    assert found.verdict == "direction shown" and found.measured.startswith("+1.00 points")


def test_intervals_are_students():
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert (mean, round(low, 3), round(high, 3)) == (2.0, -0.484, 4.484)  # 4.303 / sqrt(3)
    assert paired_difference([5.0, 7.0], [4.0, 6.0]) == (1.0, 1.0, 1.0)
    assert mean_interval([4.0]).has_zero
    with pytest.raises(ValueError, match="no pairs"):
        paired_difference([1.0], [1.0, 2.0])


def test_a_cost_outside_of_the_printed_one_is_refuted():
    check = {"kind": "cost", "what": "madds", "model": "mobilenext_x0_35", "from": 70, "to": 74}
    assert find(check) == ("75.14 M", "refuted")
    assert find(check, anew=True).measured == "75.14 M"


def test_the_command(capsys):
    assert main(["claims", "--format", "json"]) == 0
    assert {row["paper"].partition(" (")[0] for row in json.loads(capsys.readouterr().out)} >= {"ShuffleNet"}
    assert main(["claims", "--paper", "shufflenet"]) == 0
    assert "[refuted] code_differs: " in capsys.readouterr().out
    assert main(["claims", "--paper", "shufflenet", "--format", "json"]) == 0
    assert all(claim["verdict"] in VERDICTS for claim in json.loads(capsys.readouterr().out))
    assert main(["claims", "--paper", "mobilenext"]) == 0
    told = capsys.readouterr().out
    assert "again: python -m gluon_effnets claims --paper mobilenext --rerun cheap\n" in told
    assert "again: make test ARGS=tests/models/test_mobilenext.py::test_every_block_gives_the_official_output\n" in told
    assert main(["claims", "--paper", "nothing"]) == 1
    assert "no claims of 'nothing'; there are claims of idleblock" in capsys.readouterr().err


def test_what_differs_is_told(capsys, monkeypatch):
    monkeypatch.setattr("gluon_effnets.claims.find", lambda check, anew: find(check)._replace(measured="other"))
    assert main(["claims", "--paper", "shufflenet", "--rerun", "cheap"]) == 1
    told = capsys.readouterr().out
    assert "shufflenet.g1_cost: other, shown; the ledger has 142.5 M, shown" in told
    assert "values found again" in told


@pytest.mark.parametrize(
    "change, message",
    [
        (("verdict: shown", "verdict: proven"), "verdict is 'proven'; it must be shown or refuted"),
        (("id: g1_cost", "id: g3_cost"), "two claims 'g3_cost'"),
        (("kind: cost", "kind: shell"), "kind is 'shell'"),
    ],
)
def test_a_damaged_ledger_is_one_sentence(change, message, tmp_path, monkeypatch):
    text = (_resources.folder("results") / "claims" / "shufflenet.yaml").read_text()
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "shufflenet.yaml").write_text(text.replace(*change, 1))
    monkeypatch.setattr(_resources, "folder", lambda name: tmp_path)
    with pytest.raises(ValueError, match=message):
        read_ledger("shufflenet")
