"""How good a segmentation is, beside several people's: F1 with a margin, covering, delay and false alarms.

Definitions of van den Burg & Williams 2020 (arXiv 2003.06222), section 4. Locations are 0-based first indices of
segments; 0 is added everywhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Annotations = Mapping[str, Sequence[int]]


def f1(annotations: Annotations, found: Iterable[int], margin: int = 5) -> float:
    """F1 of precision against all annotators together and recall averaged over them."""
    sets = [{0, *marks} for marks in annotations.values()]
    predicted = {0, *found}
    everyone: set[int] = set()
    for marks in sets:
        # Matching is greedy and depends on the order of iteration; element by element is how the benchmark fills its
        # set, whose order this reproduces.
        for mark in marks:
            everyone.add(mark)
    precision = _matched(everyone, predicted, margin) / len(predicted)
    recall = sum(_matched(marks, predicted, margin) / len(marks) for marks in sets) / len(sets)
    return 2 * precision * recall / (precision + recall)


def covering(annotations: Annotations, found: Iterable[int], length: int) -> float:
    """Mean over annotators of sum_A |A| max_A' Jaccard(A, A') / length, A their segments, A' those found."""
    ours = _intervals(found, length)
    return float(np.mean([_cover(_intervals(marks, length), ours) for marks in annotations.values()])) / length


class AlarmScore(NamedTuple):
    """Delay, misses and false alarms of a detector."""

    delay: float
    """Mean points from an event to the first alarm for it; the horizon where there is none."""
    missed: int
    """Events without an alarm within the horizon."""
    false_per_1000: float
    """Alarms that belong to no event, per 1000 points."""


def alarm_score(events: Sequence[int], alarms: Sequence[int], length: int, horizon: int = 50) -> AlarmScore:
    """An alarm belongs to the last event before it if at most `horizon` points have passed; a second one is false."""
    unused = sorted(alarms)
    delays, missed = [], 0
    for i, event in enumerate(sorted(events)):
        following = sorted(events)[i + 1] if i + 1 < len(events) else length
        hits = [a for a in unused if event <= a <= min(event + horizon, following - 1)]
        delays.append(hits[0] - event if hits else horizon)
        missed += not hits
        if hits:
            unused.remove(hits[0])
    return AlarmScore(float(np.mean(delays)) if delays else 0.0, missed, 1000 * len(unused) / max(length, 1))


def _matched(marks: set[int], found: set[int], margin: int) -> int:
    """How many marks get a location within the margin, each location used once, the nearest first, then the smaller."""
    free, count = set(found), 0
    for mark in marks:
        near = [(abs(mark - x), x) for x in free if abs(mark - x) <= margin]
        if near:
            free.remove(min(near)[1])
            count += 1
    return count


def _intervals(locations: Iterable[int], length: int) -> list[tuple[int, int]]:
    edges = [0, *sorted({x for x in locations if 0 < x < length}), length]
    return list(zip(edges[:-1], edges[1:], strict=True))


def _cover(segments: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
    total = 0.0
    for a, b in segments:
        overlaps = [(max(0, min(b, d) - max(a, c)), d - c) for c, d in others]
        total += (b - a) * max(common / ((b - a) + size - common) for common, size in overlaps)
    return total
