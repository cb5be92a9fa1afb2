"""The published scores of dummies and references on packaged series, and cases worked by hand."""

import numpy as np
import pytest

from jaxsci.drift.scores import alarm_score, covering, f1
from jaxsci.drift.tcpd import load_collection


def test_the_zero_detector_scores_what_is_published():
    collection = load_collection(None)
    for one in collection.series:
        marks, published = collection.annotations[one.name], collection.published[one.name]
        assert abs(f1(marks, []) - published["zero_f1"]) < 1e-6  # published to six digits
        assert abs(covering(marks, [], len(one.values)) - published["zero_cover"]) < 1e-6


def test_f1_by_hand():
    marks = {"a": [10, 50], "b": [12]}
    # Together {0, 10, 12, 50}; 11 is near both 10 and 12 but is used once, so 0, one of them and 50 are hits.
    found = [11, 47]
    precision, recall = 3 / 3, (3 / 3 + 2 / 2) / 2
    assert f1(marks, found) == pytest.approx(2 * precision * recall / (precision + recall))
    assert f1(marks, [11, 47, 90]) == pytest.approx(2 * 0.75 / 1.75)
    assert f1({"a": []}, []) == 1.0


def test_covering_by_hand():
    # Segments 0-40, 40-100 against 0-50, 50-100: Jaccard 40/50 and 50/60.
    assert covering({"a": [40]}, [50], 100) == pytest.approx((40 * 40 / 50 + 60 * 50 / 60) / 100)
    assert covering({"a": [40]}, [40, 100, 300], 100) == 1.0  # locations at or beyond the end are no changes


def test_alarm_score_by_hand():
    score = alarm_score([100, 300], [103, 110, 200, 420], length=500, horizon=50)
    assert score.delay == pytest.approx((3 + 50) / 2)
    assert score.missed == 1
    assert score.false_per_1000 == pytest.approx(1000 * 3 / 500)
    assert np.isfinite(alarm_score([], [], length=10)).all()
