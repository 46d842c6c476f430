"""What counts as work of a process, what does not, and time that a stopped process has not lived through."""

from __future__ import annotations

import threading
import time

import pytest
from waiting import wait_until

from gluon_effnets.train import activity as module
from gluon_effnets.train.activity import Activity, RunningClock, list_threads

pytestmark = pytest.mark.fast


@pytest.fixture
def no_work(monkeypatch):
    """A process that neither computes nor reads nor writes, on a machine that writes nothing."""
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    for name in ("_bytes", "_waits", "_written_by_machine"):
        monkeypatch.setattr(module, name, lambda: 0)
    monkeypatch.setattr(module, "_waits_for_disk", lambda: False)


def test_computing_is_work():
    activity = Activity()

    def compute():
        sum(range(100_000))
        return activity.advanced()

    wait_until(compute)


def test_sleeping_is_none():
    activity, start, worked = Activity(), time.monotonic(), []
    while time.monotonic() - start < 2:
        time.sleep(0.5)
        worked.append(activity.advanced())
    assert not any(worked)


def test_reading_and_writing_is_work(no_work, monkeypatch):
    numbers = iter([0, 1_000, 10_000_000])
    monkeypatch.setattr(module, "_bytes", lambda: next(numbers))
    activity = Activity()
    assert not activity.advanced()
    assert activity.advanced()


@pytest.mark.parametrize(("each_s", "is_work"), [(0.005, True), (0.02, False)])
def test_many_short_waits_are_work_and_polling_is_none(no_work, monkeypatch, each_s, is_work):
    now = 0.0
    monkeypatch.setattr(module, "_waits", lambda: int(now / each_s))
    activity, worked = Activity(clock=lambda: now), []
    for _ in range(40):
        now += 0.5
        worked.append(activity.advanced())
    assert any(worked) == is_work


@pytest.mark.skipif(not list_threads(), reason="this system does not tell")
def test_waits_and_bytes_of_the_main_thread_are_seen(tmp_path):
    path, waits, read = tmp_path / "file", module._waits(), module._bytes()
    path.write_bytes(bytes(1_000_000))
    path.read_bytes()
    assert module._bytes() - read >= 2_000_000
    for _ in range(50):
        time.sleep(0.001)
    assert module._waits() - waits >= 50


@pytest.mark.parametrize("waits", [False, True])
def test_what_the_machine_writes_is_work_of_who_waits_for_it(no_work, monkeypatch, waits):
    numbers = iter([50_000_000, 100_000_000])
    monkeypatch.setattr(module, "_written_by_machine", lambda: next(numbers))
    activity = Activity()
    monkeypatch.setattr(module, "_waits_for_disk", lambda: waits)
    assert activity.advanced() == waits


def test_little_by_little_is_no_work(no_work, monkeypatch):
    now = used = 0.0
    monkeypatch.setattr(time, "process_time", lambda: used)
    activity = Activity(clock=lambda: now)
    for _ in range(1000):
        now, used = now + 0.5, used + 0.5 * 0.01
        assert not activity.advanced()
    worked = []
    for _ in range(10):
        now, used = now + 0.5, used + 0.5 * 0.05
        worked.append(activity.advanced())
    assert any(worked)


@pytest.mark.parametrize("by", ["number", "name"])
def test_threads_of_others_do_not_count(by):
    before, end = list_threads(), threading.Event()

    def compute():
        while not end.is_set():
            pass

    others = [threading.Thread(target=compute, name="others", daemon=True) for _ in range(2)]
    for thread in others:
        thread.start()
    mine = Activity(list_threads() - before) if by == "number" else Activity(except_name="others")
    theirs = Activity()
    try:
        begun = mine._work()
        wait_until(theirs.advanced)
        assert mine._work() - begun < 0.1
    finally:
        end.set()
        for thread in others:
            thread.join()
    assert mine._work() - begun < 0.1, "what they did stays theirs when they have ended"


def test_the_clock_stands_while_the_process_is_stopped(monkeypatch):
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    clock = RunningClock()
    for step, expected in ((0.5, 0.5), (2.0, 2.5), (3600.0, 2.5 + module._LONGEST_TICK_S)):
        now += step
        assert clock.tick() == clock.now == expected
