"""Resuming when an epoch has another number of updates: other workers, or another batch."""

from __future__ import annotations

import pytest

from gluon_effnets.train.checkpoint import list_checkpoints

EVERY = ["duration=4ep", "checkpoint_every=1it"]  # 4 updates of 8 images an epoch


def numbers(run):
    return [int(path.name[len("update-") :]) for path in list_checkpoints(run.state.out)]


def counts(run):
    optimizer = run.state.trainer._optimizer
    return {optimizer.num_update, *optimizer._index_update_count.values()}


@pytest.mark.parametrize(("batch", "resumed", "total"), [(16, 3, 8), (4, 12, 32), (8, 6, 16)])
def test_the_place_is_kept_in_epochs(start, capsys, batch, resumed, total):
    start(*EVERY).train_until_killed(6)
    run = start(*EVERY, f"data.batch_size={batch}").resume()
    assert (run.state.update, run.state.total_updates) == (resumed, total)
    assert counts(run) == {resumed}
    told = f"the place in the run is kept in epochs: update 6 -> {resumed}" in capsys.readouterr().out
    assert told == (batch != 8)
    before = [line for line in run.log() if line["epoch"] <= 1.5]
    run.train()
    assert run.state.update == total
    assert counts(run) == {total}
    log = run.log()
    assert log[: len(before)] == before, "the history stays"
    assert [line["epoch"] for line in log] == sorted(line["epoch"] for line in log)
    assert log[-1]["epoch"] == 4


def test_checkpoints_of_larger_numbers_do_not_win(start):
    start(*EVERY).train_until_killed(6)
    run = start(*EVERY, "data.batch_size=16").resume()
    run.train_until_killed(5)
    assert numbers(run) == [1, 4, 5], "the best one stays, at its place in epochs"
    assert not (run.state.out / "checkpoints" / "superseded").exists(), "older ones have the numbers of their places"
    again = start(*EVERY, "data.batch_size=16").resume()
    assert again.state.update == 5


def test_a_kill_before_the_larger_numbers_are_gone_repeats_updates_only(start):
    start(*EVERY).train_until_killed(6)
    start(*EVERY, "data.batch_size=16").resume()
    again = start(*EVERY, "data.batch_size=16").resume()
    assert again.state.update == 3
    back = start(*EVERY).resume()
    assert back.state.update == 6
