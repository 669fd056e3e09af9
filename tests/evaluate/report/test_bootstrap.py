"""Bootstrap intervals: against SciPy's, against the normal law, and for paired samples."""

import numpy as np
import pytest
from scipy import stats

from captum_layermask.errors import InputError
from captum_layermask.evaluate.report.bootstrap import FEWEST, Interval, bootstrap, entropy, mean, ratio

HITS = np.random.default_rng(5).random(400) < 0.3


def test_the_interval_of_a_mean_is_scipys():
    ours = bootstrap(mean(HITS), 400, resamples=5000)
    theirs = stats.bootstrap(
        (HITS.astype(float),), np.mean, n_resamples=5000, method="percentile", random_state=1
    ).confidence_interval
    assert ours.value == HITS.mean()
    assert ours.low == pytest.approx(theirs.low, abs=0.004)
    assert ours.high == pytest.approx(theirs.high, abs=0.004)


def test_a_lower_confidence_is_a_narrower_interval():
    interval = bootstrap(mean(HITS), 400, resamples=5000, confidence=0.6826895)
    deviation = HITS.std() / 20
    assert (interval.high - interval.low) / 2 == pytest.approx(deviation, rel=0.05)


def test_a_statistic_of_many_numbers_equals_many_statistics():
    values = np.random.default_rng(0).random((50, 2, 3))
    together = bootstrap(mean(values), 50)
    assert together.value.shape == together.low.shape == together.high.shape == (2, 3)
    alone = bootstrap(mean(values[:, 1, 2]), 50)
    assert str(together[1, 2]) == str(alone)
    assert together.low[1, 2] == pytest.approx(alone.low, rel=1e-12)


def test_the_same_seed_gives_the_same_interval_and_pairs_the_removals():
    before = np.random.default_rng(0).random(100)
    after = before + 0.125
    assert str(bootstrap(mean(before), 100)) == str(bootstrap(mean(before), 100))
    assert str(bootstrap(mean(before), 100)) != str(bootstrap(mean(before), 100, seed=1))
    difference = bootstrap(lambda w: mean(after)(w) - mean(before)(w), 100)
    assert difference.high - difference.low < 1e-12
    assert bootstrap(mean(after), 100).low - bootstrap(mean(before), 100).low == pytest.approx(0.125)


def test_parts_of_the_resamples_do_not_show(monkeypatch):
    whole = bootstrap(mean(HITS), 400)
    monkeypatch.setattr("captum_layermask.evaluate.report.bootstrap._WEIGHTS_AT_ONCE", 400 * 7)
    assert str(bootstrap(mean(HITS), 400)) == str(whole)


def test_a_ratio_counts_records_not_images():
    hits, records = np.array([3, 0, 1] * 4), np.array([4, 0, 1] * 4)
    interval = bootstrap(ratio(hits, records), 12, resamples=5000)
    assert interval.value == 0.8
    assert 0.75 <= interval.low < 0.77
    assert 0.85 < interval.high < 1.0


def test_an_entropy_is_that_of_the_weighted_histogram():
    predictions = np.array([[7, 2], [7, 3], [9, 2]])
    weights = np.array([[1.0, 1, 1], [2, 0, 1], [3, 0, 0]])
    expected = [
        [stats.entropy([2, 1]), stats.entropy([2, 1])],
        [stats.entropy([2, 1]), stats.entropy([3])],
        [0.0, 0.0],
    ]
    np.testing.assert_allclose(entropy(predictions)(weights), expected, atol=1e-15)
    assert entropy(predictions[:, 0])(weights).shape == (3,)


def test_an_interval_of_an_entropy_needs_and_gets_its_shift():
    every_class_once = np.arange(200)
    biased = bootstrap(entropy(every_class_once), 200)
    shifted = bootstrap(entropy(every_class_once), 200, recentred=True)
    assert biased.high < biased.value == pytest.approx(np.log(200))
    assert shifted.low < shifted.value < shifted.high
    assert shifted.high - shifted.low == pytest.approx(biased.high - biased.low)


def test_where_there_is_no_number_there_is_a_dash():
    nothing = bootstrap(ratio(np.zeros((12, 2)), np.array([[0, 1]] * 12)), 12)
    assert [str(nothing[0]), str(nothing[1])] == ["–", "0.000 [0.000, 0.000]"]


def test_an_interval_prints_its_three_numbers():
    interval = Interval(*map(np.float64, (-0.04, -0.1, 0.02)))
    assert str(interval) == f"{interval}" == "-0.040 [-0.100, 0.020]"
    assert f"{interval:+.1f}" == "-0.0 [-0.1, +0.0]"


def test_few_images_give_a_number_and_no_interval():
    for images in (1, 2, FEWEST - 1):
        assert f"{bootstrap(mean(np.ones(images)), images):+.3f}" == "+1.000 [–]"
    assert str(bootstrap(mean(np.ones(FEWEST)), FEWEST)) == "1.000 [1.000, 1.000]"
    assert str(bootstrap(entropy(np.arange(9)), 9, recentred=True)) == "2.197 [–]"


def test_images_that_a_number_is_not_of_do_not_count():
    """The first number is of all 40 images, the second of 9 of them."""
    records = np.ones((40, 2))
    records[9:, 1] = 0
    both = bootstrap(ratio(records, records), 40, counted=records)
    assert [str(both[0]), str(both[1])] == ["1.000 [1.000, 1.000]", "1.000 [–]"]


@pytest.mark.parametrize(("images", "options"), [(0, {}), (3, {"resamples": 0}), (3, {"confidence": 1.0})])
def test_nothing_to_draw_is_an_error(images, options):
    with pytest.raises(InputError, match="cannot resample"):
        bootstrap(mean(np.zeros(images)), images, **options)
