"""Learning rates over a run, against GluonCV's scheduler and by hand."""

from __future__ import annotations

import math

import pytest

from gluon_effnets._gluoncv import import_gluoncv
from gluon_effnets.train.config import ScheduleSettings
from gluon_effnets.train.durations import to_updates
from gluon_effnets.train.schedules import SCHEDULES, make_schedule

pytestmark = pytest.mark.fast
PER_EPOCH, EPOCHS, RATE = 625, 360, 2.6


def test_rates_logged_by_gluoncv():
    schedule = make_schedule(ScheduleSettings("cosine", warmup="5ep"), PER_EPOCH, EPOCHS * PER_EPOCH)
    assert RATE * schedule(50) == pytest.approx(0.041613, abs=5e-7)
    assert RATE * schedule(100) == pytest.approx(0.083227, abs=5e-7)
    assert schedule(EPOCHS * PER_EPOCH) == pytest.approx(0, abs=1e-12)


def test_equals_gluoncv_scheduler_at_every_update():
    utils = import_gluoncv("utils")
    epochs, per_epoch = 12, 10
    theirs = utils.LRSequential(
        [
            utils.LRScheduler("linear", base_lr=0, target_lr=RATE, nepochs=2, iters_per_epoch=per_epoch),
            utils.LRScheduler("cosine", base_lr=RATE, target_lr=0, nepochs=epochs - 2, iters_per_epoch=per_epoch),
        ]
    )
    schedule = make_schedule(ScheduleSettings("cosine", warmup="2ep"), per_epoch, epochs * per_epoch)
    for number in range(1, epochs * per_epoch):
        assert RATE * schedule(number) == pytest.approx(theirs(number), abs=1e-9), number


@pytest.mark.parametrize("name", ["cosine", "linear", "poly", "constant"])
def test_warm_up_rises_to_one(name):
    schedule = make_schedule(ScheduleSettings(name, warmup="4it", warmup_from=0.1), 10, 20)
    assert [schedule(n) for n in (1, 2, 3, 4)] == pytest.approx([0.4, 0.7, 1.0, 1.0])


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_decay_ends_at_final(name):
    schedule = make_schedule(ScheduleSettings(name, final=0.25), 10, 11)
    values = [schedule(n) for n in range(1, 12)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(0.25)
    assert values[4] == pytest.approx(0.25 + 0.75 * 0.5)


def test_cosine_by_hand():
    schedule = make_schedule(ScheduleSettings("cosine"), 10, 9)
    assert [schedule(n) for n in (2, 4, 8)] == pytest.approx([(1 + math.cos(math.pi * n / 8)) / 2 for n in (2, 4, 8)])


def test_steps_take_effect_in_the_update_after():
    settings = ScheduleSettings("step", steps=("0.75run", "2ep"), factor=0.1)
    schedule = make_schedule(settings, 10, 40)
    seen = [schedule(n) for n in (1, 20, 21, 30, 31, 40)]
    assert seen == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize("warmup", ["0it", "1it", "2it", "3it"])
def test_short_runs(name, warmup):
    for total in (3, 4):
        schedule = make_schedule(ScheduleSettings(name, warmup=warmup, steps=("1it",)), 1, total)
        assert all(0 <= schedule(n) <= 1 for n in range(1, total + 1))


def test_unknown_name_and_long_warm_up():
    with pytest.raises(ValueError, match="unknown schedule 'cosin'; did you mean 'cosine'"):
        make_schedule(ScheduleSettings("cosin"), 10, 20)
    with pytest.raises(ValueError, match="warmup is 30 updates, longer than the run of 20"):
        make_schedule(ScheduleSettings(warmup="3ep"), 10, 20)


@pytest.mark.parametrize(
    ("text", "updates"),
    [("5ep", 50), ("100it", 100), ("0.9run", 180), ("0.25ep", 2), ("1e2it", 100), (" 2ep ", 20), ("0ep", 0)],
)
def test_durations(text, updates):
    assert to_updates(text, 10, 200) == updates


@pytest.mark.parametrize(
    "text", ["5", "ep", "5 epochs", "5epochs", "", "five it", "1.2.3ep", "-1ep", "nanit", "1e999it"]
)
def test_malformed_durations(text):
    with pytest.raises(ValueError, match="duration"):
        to_updates(text, 10, 200)


def test_the_length_of_the_run_is_no_share_of_itself():
    with pytest.raises(ValueError, match="cannot define the length"):
        to_updates("0.5run", 10)


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_cool_down_stays_where_the_decay_ended(name):
    settings = ScheduleSettings(name, warmup="2ep", final=0.1, cooldown="3ep")
    schedule, shorter = (
        make_schedule(settings, 10, 200),
        make_schedule(ScheduleSettings(name, "2ep", final=0.1), 10, 170),
    )
    assert [schedule(n) for n in range(1, 171)] == [shorter(n) for n in range(1, 171)]
    assert {schedule(n) for n in range(170, 201)} == {shorter(170)} and shorter(170) == pytest.approx(0.1)


def test_cool_down_that_does_not_fit():
    with pytest.raises(ValueError, match="cooldown comes after a decay to schedule.final, not with step"):
        make_schedule(ScheduleSettings("step", steps=("1ep",), cooldown="1ep"), 10, 100)
    with pytest.raises(ValueError, match="are 50 . 60 updates, longer than the run of 100"):
        make_schedule(ScheduleSettings(warmup="5ep", cooldown="6ep"), 10, 100)


@pytest.mark.parametrize(
    ("every", "factor", "warmup"), [("2.4ep", 0.97, "5ep"), ("3ep", 0.99, "0ep"), ("7it", 0.5, "0ep")]
)
def test_staircase_by_the_formula_of_tensorflow(every, factor, warmup):
    per_epoch, total = 626, 30 * 626
    schedule = make_schedule(ScheduleSettings("exponential", warmup, every=every, factor=factor), per_epoch, total)
    decay_steps = float(every[:-2]) * (per_epoch if every.endswith("ep") else 1)
    begun = 5 * per_epoch if warmup == "5ep" else 1
    for number in range(begun, total + 1, 11):
        global_step = number - 1
        assert schedule(number) == pytest.approx(factor ** (global_step // decay_steps), rel=1e-12), number


def test_staircase_takes_effect_in_the_update_after_and_may_be_smooth():
    stairs = make_schedule(ScheduleSettings("exponential", every="0.5ep", factor=0.25), 10, 20)
    assert [stairs(n) for n in (1, 5, 6, 10, 11, 20)] == [1, 1, 0.25, 0.25, 0.0625, 0.25**3]
    smooth = make_schedule(ScheduleSettings("exponential", every="0.5ep", factor=0.25, staircase=False), 10, 20)
    assert [smooth(n) for n in range(1, 21)] == pytest.approx([0.25 ** ((n - 1) / 5) for n in range(1, 21)])
    tenths = make_schedule(ScheduleSettings("exponential", every="0.1ep", factor=0.5), 3 * 10, 100)
    assert [tenths(n) for n in range(1, 101)] == [0.5 ** ((n - 1) // 3) for n in range(1, 101)]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.5])
def test_poly_by_the_formula_of_gluoncv(power):
    theirs = import_gluoncv("utils").LRScheduler(
        "poly", base_lr=1.0, target_lr=0.1, nepochs=10, iters_per_epoch=10, power=power
    )
    schedule = make_schedule(ScheduleSettings("poly", final=0.1, power=power), 10, 100)
    for number in range(1, 100):
        assert schedule(number) == pytest.approx(theirs(number), abs=1e-9)
        assert schedule(number) == pytest.approx(0.1 + 0.9 * (1 - number / 99) ** power)
    cooled = make_schedule(ScheduleSettings("poly", final=0.1, power=power, cooldown="3ep"), 10, 100)
    assert {cooled(number) for number in range(69, 101)} == {0.1}


def half_wave(span, final, height=1.0):
    """A schedule of another package: it gets the keys of the section that it names, and its own options."""
    assert span.updates("2ep") == 20
    return lambda number: final + height * span.progress(number)


def not_a_schedule_of(number):
    return number


def test_a_schedule_from_outside():
    settings = ScheduleSettings(f"{__name__}:half_wave", "1ep", final=0.25, options={"height": "5e-1"})
    schedule = make_schedule(settings, 10, 31)
    assert [schedule(number) for number in (5, 10, 20, 30)] == pytest.approx([5 / 9, 0.25, 0.5, 0.75])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "exponential", "every": "0.01ep"}, "schedule.every is 0.01ep; it must be at least one update"),
        ({"name": "exponential", "every": "soon"}, "duration 'soon' is not of the form"),
        ({"name": "exponential", "cooldown": "1ep"}, "not with exponential"),
        ({"name": "poly", "power": 0.0}, "schedule.power is 0; it must be above 0"),
        ({"name": "cosine", "options": {"height": 1}}, "schedule.options: no option 'height'; it takes none"),
        ({"name": "cosine", "options": {"final": 1}}, "'final' is no option; another key of the recipe decides it"),
        ({"name": f"{__name__}:half_waves"}, f"has no 'half_waves'; did you mean {__name__}:half_wave"),
        ({"name": f"{__name__}:PER_EPOCH"}, "is of type int, not a function"),
        ({"name": f"{__name__}:not_a_schedule_of"}, "unexpected keyword argument 'span'"),
    ],
)
def test_mistakes_in_a_schedule(settings, message):
    with pytest.raises(ValueError, match=message):
        make_schedule(ScheduleSettings(**settings), 10, 100)
