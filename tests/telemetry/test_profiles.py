"""What devices of each profile send: the same for the same seed, and as its name says."""

from itertools import pairwise

import pytest
from django.conf import settings

from telemetry.simulated.profiles import PROFILES, Outage, fresh, within
from telemetry.simulation import Sensor

BEGIN, STEP = 1_790_000_000_000, 1000
MINUTE = 60_000


def course(name, seed=1, turns=400, place=0, number=0):
    """The calls of each turn, and at last what the device still held."""
    profile = PROFILES[name](seed, number, place)
    sent = [list(profile.take_turn(BEGIN + turn * STEP)) for turn in range(turns)]
    return [*sent, list(profile.rest())]


def calls(name, **more):
    return [call for turn in course(name, **more) for call in turn]


def samples(name, **more):
    """Each sample once, in the order of arrival."""
    return [sample for call in calls(name, **more) if not call.is_again for sample in call.samples]


@pytest.mark.parametrize("name", PROFILES)
def test_the_same_seed_sends_the_same(name):
    assert course(name) == course(name)
    assert course(name) != course(name, seed=2)
    assert course(name) != course(name, number=1)


@pytest.mark.parametrize("name", PROFILES)
def test_every_sample_is_sent_and_no_time_comes_twice(name):
    numbers = [sample.number for sample in samples(name)]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 400
    times = [sample.time for sample in samples(name)]
    assert len(set(times)) == len(times)


@pytest.mark.parametrize("name", PROFILES)
def test_so_many_samples_are_sent_as_are_wanted(name):
    profile, left, sent = PROFILES[name](1, 0), 300, 0
    for turn in range(1000):
        some = within(profile.take_turn(BEGIN + turn * STEP), left - sent)
        sent += fresh(some)
        if sent == left:
            break
    assert sent == left
    assert fresh(within(profile.rest(), 0)) == 0


def test_normal_is_a_reading_each_turn_of_the_same_sensor_as_ever():
    sensor = Sensor(1, 0)
    for turn, [call] in enumerate(course("normal", turns=20)[:-1]):
        time = BEGIN + turn * STEP
        assert call.samples == ((turn + 1, time, sensor.measure(time)),)


def test_an_outage_is_silence_and_then_batches_of_what_was_kept_oldest_first():
    turns = course("outage")
    silent = [turn for turn in turns[:-1] if not turn]
    assert 100 < len(silent) < 350
    batches = [call for call in calls("outage") if call.is_batch]
    assert all(1 <= len(call.samples) <= Outage.BATCH for call in batches)
    assert max(len(call.samples) for call in batches) > 1
    times = [sample.time for sample in samples("outage")]
    assert times == sorted(times) == [BEGIN + turn * STEP for turn in range(400)]


def test_a_drift_grows_slowly_in_one_measurement():
    plain = [sample.values for sample in samples("normal", turns=100)]
    moved = [sample.values for sample in samples("drift", turns=100)]
    errors = {
        name: [abs(one[name] - other[name]) for one, other in zip(moved, plain, strict=True)]
        for name in plain[0]
    }
    [drifting] = [name for name, sizes in errors.items() if max(sizes) > 0.01]
    sizes = errors[drifting]
    assert sizes[-1] > 5
    assert all(-0.02 < later - earlier < 0.5 for earlier, later in pairwise(sizes))


def test_a_burst_is_many_readings_in_one_turn_each_at_its_own_time():
    turns = course("burst")
    bursts = [turn for turn in turns if len(turn) > 1]
    assert len(bursts) >= 8
    assert all(50 <= len(turn) <= 300 for turn in bursts)
    assert any(len(turn) > 100 for turn in bursts)
    times = [sample.time for sample in samples("burst")]
    assert times == sorted(times)
    assert times[-1] == BEGIN + 399 * STEP


def test_skewed_clocks_are_minutes_to_hours_off_either_way():
    errors = [
        sample.time - (BEGIN + turn * STEP) for turn, sample in enumerate(samples("clock-skew"))
    ]
    assert any(0 < error < 10 * MINUTE for error in errors)
    assert any(error > 10 * MINUTE for error in errors)
    assert any(-60 * MINUTE < error < 0 for error in errors)
    assert any(error < -60 * MINUTE for error in errors)


@pytest.mark.parametrize("place", [0, 1])
def test_duplicates_are_messages_that_were_sent_before(place):
    sent = {}
    again = 0
    for call in calls("duplicates", place=place):
        if call.is_again:
            again += 1
            assert sent[call.number] == call.samples
        else:
            sent[call.number] = call.samples
        assert call.is_keyed == (place == 1) == (call.samples[0].time is None)
    assert 150 < again < 350


def test_readings_out_of_order_all_arrive():
    times = [sample.time for sample in samples("out-of-order")]
    assert times != sorted(times)
    assert sorted(times) == [BEGIN + turn * STEP for turn in range(400)]
    assert 50 < sum(later < earlier for earlier, later in pairwise(times)) < 300


def test_every_profile_is_in_the_docs():
    page = (settings.BASE_DIR / "docs" / "simulation.md").read_text()
    assert [name for name in PROFILES if f"\n| `{name}` | " not in page] == []
