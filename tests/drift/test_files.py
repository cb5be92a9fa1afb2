"""Files of both formats, whole and broken: what is wrong is named in one line, and nothing else is lost."""

import csv
import gzip
import json

import numpy as np
import pytest

from jaxsci.core.errors import DataError
from jaxsci.drift.rounds import into_rounds
from jaxsci.drift.stream import StreamConfig, Tail
from jaxsci.drift.tcpd import load_collection
from jaxsci.drift.tokio import TARGET, load_jobs

HEADER = [
    "darshan_start_time",
    TARGET,
    "darshan_app",
    "darshan_nprocs",
    "_file_system",
    "darshan_biggest_write_api_bytes",
    "darshan_biggest_read_api_bytes",
    "darshan_biggest_write_api_files",
    "darshan_biggest_read_api_files",
    "fs_ave_mds_cpu",
]


def table(tmp_path, rows, header=HEADER, numbered=True):
    """A TOKIO table with or without the unnamed first field that the header does not name."""
    path = tmp_path / "jobs.csv.gz"
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([i, *row] if numbered else row for i, row in enumerate(rows))
    return str(path)


def job(i, value=1000.0, app="/bin/ior", processes=64, system="fs1", cpu=0.5):
    return [1e9 + 3600 * i, value, app, processes, system, 10, 0, processes, 0, cpu]


def test_the_packaged_sample_has_the_published_levels():
    jobs = load_jobs()
    assert len(jobs) == 2530 and len(jobs.kinds) == 8
    assert (np.diff(jobs.time) >= 0).all()
    # Medians in GiB/s before 25 March and after 11 August 2017 (dates in seconds, UTC).
    name = next(kind for kind in jobs.kinds if "vpic" in kind)
    mine = jobs.kind == jobs.kinds.index(name)
    level = 10**jobs.performance / 1024
    np.testing.assert_allclose(np.median(level[mine & (jobs.time < 1490425200)]), 22.1, rtol=0.01)
    np.testing.assert_allclose(np.median(level[mine & (jobs.time > 1502434800)]), 22.8, rtol=0.02)


def test_the_whole_file_gives_the_same_jobs(shared):
    path = next((shared / "io_performance").glob("*.csv.gz"))
    whole, sample = load_jobs(str(path)), load_jobs()
    assert whole.kinds == sample.kinds
    np.testing.assert_array_equal(whole.kind, sample.kind)
    np.testing.assert_allclose(whole.performance, sample.performance, rtol=1e-5)  # the sample has six digits


@pytest.mark.parametrize("numbered", [True, False])
def test_columns_are_not_shifted_by_the_unnamed_field(tmp_path, numbered):
    jobs = load_jobs(table(tmp_path, [job(i, 100.0) for i in range(50)], numbered=numbered))
    np.testing.assert_allclose(jobs.performance, 2.0)
    assert jobs.kinds == ("ior write per process",) and jobs.group == "64 processes on fs1"


def test_odd_jobs_are_named_and_set_aside(tmp_path):
    rows = [job(i) for i in range(60)]
    rows[3][1], rows[4][1], rows[5][1], rows[6][9] = "inf", "", -1, ""
    rows[7] = rows[7][:4]
    rows[9][0] = rows[8][0]  # twice in the same second
    rows += [job(100, app="rare")]
    jobs = load_jobs(table(tmp_path, rows))
    said = "; ".join(jobs.notes)
    assert len(jobs) == 55
    for words in ("infinite", "zero or less", "lack a feature", "wrong number of fields", "same second", "rare write"):
        assert words in said, words


def test_times_out_of_order_are_sorted(tmp_path):
    rows = [job(i, 10.0 + i) for i in range(50)]
    jobs = load_jobs(table(tmp_path, rows[::-1]))
    assert (np.diff(jobs.time) > 0).all() and (np.diff(jobs.performance) > 0).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda header, rows: header.remove(TARGET) or [r.pop(1) for r in rows], "no column of target"),
        (lambda header, rows: header.pop(), "header has"),
        (lambda header, rows: rows.clear(), "expected a header and rows"),
    ],
)
def test_unusable_tables_are_refused_in_one_line(tmp_path, change, words):
    header, rows = list(HEADER), [job(i) for i in range(50)]
    change(header, rows)
    with pytest.raises(DataError, match=words) as refused:
        load_jobs(table(tmp_path, rows, header))
    assert "\n" not in str(refused.value)


def test_no_such_group_is_refused_with_those_there_are(tmp_path):
    path = table(tmp_path, [job(i) for i in range(50)])
    with pytest.raises(DataError, match="64 processes on fs1"):
        load_jobs(path, processes=7)
    with pytest.raises(DataError, match="no such file"):
        load_jobs(path + "x")


def test_rounds_hold_each_kind_once_and_use_only_the_start_for_scaling(tmp_path):
    rng = np.random.default_rng(0)
    rows = [job(i, 100 * 10 ** (0.1 * rng.standard_normal()), app=f"app{i % 3}") for i in range(240)]
    del rows[100]
    rounds = into_rounds(load_jobs(table(tmp_path, rows)), warm_up=20)
    assert rounds.known.sum() == 239 and len(rounds.time) in (80, 81)
    later = [[*r[:1], r[1] * 50, *r[2:]] if i > 150 else r for i, r in enumerate(rows)]
    changed = into_rounds(load_jobs(table(tmp_path, later)), warm_up=20)
    np.testing.assert_array_equal(rounds.values[:40], changed.values[:40])


def folder(tmp_path, **changes):
    content = {"name": "a", "n_obs": 4, "n_dim": 1, "time": {"index": [0, 1, 2, 3]}}
    content |= {"series": [{"type": "float", "raw": [1.0, 2.0, None, 4.0]}]} | changes
    (tmp_path / "series").mkdir(exist_ok=True)
    (tmp_path / "series" / "a.json").write_text(json.dumps(content))
    (tmp_path / "annotations.json").write_text(json.dumps({"a": {"1": [2]}}))
    return str(tmp_path)


def test_collections_may_be_multivariate_with_nulls_and_nothing_published(tmp_path):
    two = [{"type": "float", "raw": [1, 2, None, 4]}, {"type": "float", "raw": [5, 5, 5, 5]}]
    collection = load_collection(folder(tmp_path, n_dim=2, series=two))
    (one,) = collection.series
    assert one.values.shape == (4, 2) and one.known.sum() == 7 and not one.complete
    assert np.isfinite(one.standardised()).all() and not one.standardised()[:, 1].any()
    assert "dimension 1 is constant" in one.notes[0]
    assert not collection.published and not collection.locations


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_obs": 5}, "expected 5 values"),
        ({"time": {"index": [0, 1, 1, 3]}}, "entry 2 repeats"),
        ({"time": {"index": [0, 2, 1, 3]}}, "entry 2 is before"),
        ({"series": [{"raw": [1, 2, "x", 4]}]}, "expected numbers or null"),
        ({"series": []}, "expected 4 values"),
    ],
)
def test_broken_series_are_refused_in_one_line(tmp_path, changes, words):
    with pytest.raises(DataError, match=words) as refused:
        load_collection(folder(tmp_path, **changes))
    assert "a.json" in str(refused.value) and "\n" not in str(refused.value)


def test_infinite_values_are_named_and_taken_as_missing(tmp_path):
    (one,) = load_collection(folder(tmp_path, series=[{"raw": [1.0, float("inf"), 3.0, 4.0]}])).series
    assert one.known.ravel().tolist() == [True, False, True, True]
    assert "1 infinite values, the first at index 1" in one.notes[0]


def test_a_tail_reads_whole_lines_once_and_names_what_it_cannot_use(tmp_path):
    path = tmp_path / "stream.csv"
    path.write_text("time,x,label\n1,0.5,a\n2,,b\n2,0.1,c\n1,0.2,d\n4,inf,e\n5,oops,f\n6\n7,0.7")
    tail = Tail(path, StreamConfig())
    points, rejected = tail.read()
    assert [(p.line, p.time) for p in points] == [(2, 1.0), (3, 2.0)] and not points[1].known[0]
    reasons = {one.line: one.reason for one in rejected}
    assert list(reasons) == [4, 5, 6, 7, 8]
    for line, words in ((4, "repeats"), (5, "goes back"), (6, "infinite"), (7, "expected a number"), (8, "3 fields")):
        assert words in reasons[line]
    assert tail.unfinished == 5
    with path.open("a") as file:
        file.write("5,g\n8,0.8,h\n")
    later, _ = Tail(path, StreamConfig(), tail.position).read()
    assert [(p.line, p.time, float(p.values[0])) for p in later] == [(9, 7.0, 0.75), (10, 8.0, 0.8)]
    path.write_text("time,x\n")
    with pytest.raises(DataError, match="shorter"):
        tail.read()


def test_a_tail_of_json_lines(tmp_path):
    path = tmp_path / "stream.jsonl"
    path.write_text('{"t": 1, "a": 2, "b": "text"}\nnot json\n[1]\n{"t": 2, "a": null}\n')
    points, rejected = Tail(path, StreamConfig(time="t")).read()
    assert [p.known.tolist() for p in points] == [[True], [False]] and len(rejected) == 2
    with pytest.raises(DataError, match="no column 'tt'; did you mean 't'"):
        Tail(path, StreamConfig(time="tt")).read()
