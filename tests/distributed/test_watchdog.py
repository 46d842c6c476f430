"""The watchdog and its agreement on the update to stop after, with threads in the place of processes."""

from __future__ import annotations

import random
import signal
import socket
import threading
import time

import pytest
from waiting import PATIENCE_S, wait_until

from gluon_effnets.train import connection, watchdog
from gluon_effnets.train.connection import Address
from gluon_effnets.train.evaluation import EvaluationBoundaries
from gluon_effnets.train.exit_codes import WORKER_LOST
from gluon_effnets.train.signals import EvaluationStopped
from gluon_effnets.train.watchdog import Coordinator, Link, _find_hanging, _Worker

pytestmark = pytest.mark.fast


class Told:
    """An `Activity` that is told."""

    def __init__(self, works: bool):
        self._works = works

    def advanced(self):
        return self._works


class Job:
    """A coordinator and the links of its workers, which note exit codes instead of ending the process."""

    def __init__(self, size: int, timeout_s: float = 60.0, activity=None):
        self.said, self.left = [], {}
        self.coordinator = Coordinator(size, timeout_s, say=self.said.append)
        leave = [lambda code, rank=rank: self.left.setdefault(rank, code) for rank in range(size)]
        address = self.coordinator.address
        self.links = [Link(rank, address, timeout_s, leave[rank], activity) for rank in range(size)]

    def wait_until_left(self, ranks):
        wait_until(lambda: set(ranks) <= self.left.keys())


@pytest.mark.parametrize("seed", range(8))
def test_all_stop_after_the_same_update(seed):
    size, begun, chance = 4, 100, random.Random(seed)
    job, exchange, ended = Job(size), threading.Barrier(size, timeout=PATIENCE_S), {}
    delays = [chance.random() * 0.004 for _ in range(size)]

    def train(rank):
        for update in range(begun, begun + 10_000):
            if job.links[rank].must_stop(update):
                ended[rank] = update
                return
            time.sleep(delays[rank])
            exchange.wait()  # no worker passes an update that another does not enter

    threads = [threading.Thread(target=train, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    time.sleep(chance.random() * 0.1)
    for rank in chance.sample(range(size), 1 + seed % size):
        job.links[rank].ask_to_stop(signal.SIGTERM)
    for thread in threads:
        thread.join(timeout=PATIENCE_S)
    assert len(ended) == size
    assert len(set(ended.values())) == 1
    assert ended[0] < begun + 10_000 - 1


@pytest.mark.parametrize("seed", range(8))
def test_all_leave_the_same_evaluation_though_one_has_more_batches(seed):
    """None may wait in the exchange behind an evaluation that another one has left."""
    size, chance = 3, random.Random(seed)
    job, exchange, ended = Job(size), threading.Barrier(size, timeout=PATIENCE_S), {}
    batches = [3 + chance.randrange(2) for _ in range(size)]

    def train(rank):
        for update in range(10_000):
            for evaluation in range(2):
                boundaries = EvaluationBoundaries(update, evaluation)
                try:
                    for _ in range(batches[rank]):
                        boundaries.stop_if_asked(job.links[rank])
                        time.sleep(0.001)
                    boundaries.last().stop_if_asked(job.links[rank])
                except EvaluationStopped:
                    ended[rank] = update, evaluation
                    return
                exchange.wait()
            if job.links[rank].must_stop(update + 0.5):
                ended[rank] = update, "behind"
                return

    threads = [threading.Thread(target=train, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    time.sleep(chance.random() * 0.1)
    job.links[chance.randrange(size)].ask_to_stop(signal.SIGTERM)
    for thread in threads:
        thread.join(timeout=PATIENCE_S)
    assert len(ended) == size and len(set(ended.values())) == 1 and ended[0][0] < 9_999


def test_a_wish_before_the_first_update_stops_there():
    job = Job(2)
    job.links[1].ask_to_stop(signal.SIGINT)
    wait_until(lambda: all(link._stop_at is not None for link in job.links))
    assert [link.must_stop(7) for link in job.links] == [signal.SIGINT, signal.SIGINT]


def test_a_wish_before_the_last_worker_has_come_reaches_it_too():
    said, left = [], []
    coordinator = Coordinator(2, 60.0, say=said.append)
    first = Link(0, coordinator.address, 60.0, left.append)
    first.ask_to_stop(signal.SIGTERM)
    wait_until(lambda: coordinator._workers[0].earliest_stop is not None)
    second = Link(1, coordinator.address, 60.0, left.append)
    wait_until(lambda: None not in (first._stop_at, second._stop_at))
    assert [link.must_stop(7) for link in (first, second)] == [signal.SIGTERM, signal.SIGTERM]
    assert (said, left) == ([], [])


def test_a_wish_after_the_last_update_comes_too_late():
    job = Job(2)
    job.links[0].pass_last_boundary()
    job.links[1].ask_to_stop(signal.SIGINT)
    wait_until(lambda: job.links[1]._stop_at is not None)
    assert job.links[1].must_stop(7) == 0


def test_the_first_message_ends_all_and_is_the_only_one(monkeypatch):
    job = Job(3)
    monkeypatch.setattr(watchdog, "CONNECT_S", 0.2)  # now only how long a worker that failed waits for the end
    threads = [threading.Thread(target=link.fail, args=(f"from {link.rank}", 1)) for link in job.links]
    for thread in threads:
        thread.start()
    job.wait_until_left(range(3))
    assert set(job.left.values()) == {1}
    (said,) = job.said
    assert said.startswith("error") and "from " in said


def test_a_worker_that_vanishes_is_named():
    job = Job(3)
    job.links[2].progress("in update 12")
    wait_until(lambda: job.coordinator._workers[2].place == "in update 12")
    job.links[2]._closing = True  # its own threads do not matter any more
    job.links[2]._connection.close()
    job.wait_until_left([0, 1])
    assert (job.left[0], job.left[1]) == (WORKER_LOST, WORKER_LOST)
    (said,) = job.said
    assert f"worker 2 ({socket.gethostname()}) ended without a word (last seen in update 12)" in said
    assert "goes on from the last checkpoint" in said


def test_a_worker_that_finishes_is_not_lost():
    job = Job(2)
    job.links[1].close()
    wait_until(lambda: 1 not in job.coordinator._workers)
    job.links[1]._connection.close()
    time.sleep(0.2)
    assert (job.said, job.left) == ([], {})


def test_the_end_of_the_coordinator_is_told_by_one_worker(capsys):
    job = Job(3)
    job.links[0].progress("in the report")
    wait_until(lambda: all(link._place_of_server == "in the report" for link in job.links))
    job.coordinator._ended = True  # it can say no more
    for worker in list(job.coordinator._workers.values()):
        worker.connection.close()
    job.wait_until_left(range(3))
    told = capsys.readouterr().err
    assert told.count("error: worker 0") == 1
    assert f"worker 0 ({socket.gethostname()}) ended without a word (last seen in the report): killed" in told


def test_a_hanging_worker_ends_all_within_the_time():
    # Above what a busy machine lets a thread wait, which would count as silence. The work of all the threads here would
    # count as that of each worker.
    job, begin = Job(2, timeout_s=4.0, activity=Told(works=False)), time.monotonic()
    for link in job.links:
        link.progress("in update 1", is_short=True)

    def left():
        job.links[0].progress("exchanging gradients", exchange=True, is_short=True)
        return job.left

    wait_until(left)
    job.wait_until_left(range(2))
    # The clock by which a worker counts goes on with its beats.
    assert time.monotonic() - begin >= 4 - watchdog.HEARTBEAT_S
    assert "worker 1" in job.said[0] and "hangs in update 1" in job.said[0]


@pytest.mark.parametrize("is_short", [False, True])
def test_work_alone_is_progress_but_within_an_update_not_for_ever(is_short):
    job = Job(1, activity=Told(works=True))
    (link,) = job.links
    link.progress("in update 7", is_short=is_short)
    wait_until(lambda: link._moved > link._marked)
    link._marked -= 10 * link.timeout_s
    begun = link._moved
    seen = link._clock.now
    wait_until(lambda: link._clock.now > seen + 2 * watchdog.HEARTBEAT_S)
    assert (link._moved > begun) != is_short


def test_what_neither_works_nor_reports_makes_no_progress():
    job = Job(1, activity=Told(works=False))
    (link,) = job.links
    link.progress("writing the report")
    wait_until(lambda: link._clock.now > link._marked + 2 * watchdog.HEARTBEAT_S)
    assert link._moved == link._marked


def test_a_worker_that_leaves_early_is_named(monkeypatch):
    monkeypatch.setattr(watchdog, "CONNECT_S", 0.2)
    job = Job(2)
    job.links[1].progress("in update 3")
    job.links[1].leave_early()
    job.wait_until_left(range(2))
    assert set(job.left.values()) == {WORKER_LOST}
    assert f"worker 1 ({socket.gethostname()}) left before the end of the run, in update 3" in job.said[0]


def test_a_worker_that_has_finished_may_leave():
    job = Job(2)
    for link in reversed(job.links):
        link.close()
        link.leave_early()
    assert (job.said, job.left) == ([], {})


def test_the_first_worker_waits_for_those_that_still_need_it():
    job, waited = Job(2), threading.Event()
    threading.Thread(target=lambda: (job.coordinator.wait_for_others(), waited.set()), daemon=True).start()
    assert not waited.wait(0.2)
    job.links[1].close()
    assert waited.wait(PATIENCE_S)


def test_those_that_are_left_are_watched_when_others_have_finished():
    job = Job(2, timeout_s=4.0, activity=Told(works=False))
    job.links[1].close()
    job.wait_until_left([0])
    assert "worker 0" in job.said[0] and job.left == {0: WORKER_LOST}


def worker(rank, exchanges, idle, heard=100.0):
    return _Worker(None, rank, f"host{rank}", heard, f"at {exchanges}", exchanges, idle)


@pytest.mark.parametrize(
    ("workers", "told"),
    [
        ([worker(0, 9, 70), worker(1, 9, 5)], None),  # one still moves
        ([worker(0, 9, 70), worker(1, 8, 5)], None),  # the slow one moves, in a long evaluation perhaps
        ([worker(0, 9, 1), worker(1, 8, 70)], "worker 1 (host1) hangs at 8"),  # however busy the others
        ([worker(0, 8, 70), worker(1, 9, 70)], "worker 0 (host0) hangs at 8"),
        ([worker(0, 9, 70), worker(1, 8, 70), worker(2, 8, 70)], "worker 1 (host1) hangs at 8, worker 2 (host2)"),
        ([worker(0, 9, 70), worker(1, 9, 70)], "no worker has made progress for 60 s: worker 0 (host0) at 9; "),
        (
            [worker(0, 9, 1), worker(1, 9, 1, heard=30)],
            "no sign of life for 70 s from worker 1 (host1) (last seen at 9)",
        ),
        ([worker(0, 9, 1), worker(1, 8, 25, heard=60)], "no sign of life for 40 s from worker 1 (host1)"),
        ([worker(0, 9, 1), worker(1, 8, 15, heard=60)], None),
    ],
)
def test_who_hangs(workers, told):
    text = _find_hanging(workers, timeout_s=60.0, now=100.0)
    assert text is None if told is None else told in text


def test_strangers_are_sent_away():
    job = Job(1)
    for hello in (b'{"token": "wrong", "rank": 0, "host": "x"}\n', b"GET / HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", job.coordinator.address.port), timeout=PATIENCE_S) as stranger:
            stranger.sendall(hello)
            assert stranger.recv(100) == b""
    assert (job.said, job.left) == ([], {})
    assert list(job.coordinator._workers) == [0]


def test_a_coordinator_out_of_reach(monkeypatch):
    monkeypatch.setattr(connection, "CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as other:  # listens, but knows nothing of us
        address = Address(["127.0.0.1"], other.getsockname()[1], "token")
        with pytest.raises(OSError, match="worker 3 on .* cannot reach worker 0: tried port .*\n.*high ports"):
            Link(3, address, 60.0)
