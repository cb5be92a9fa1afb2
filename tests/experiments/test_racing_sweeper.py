"""The racing sweeper through the command line: a race over jobs, its answer, and going on with the same directory."""

import json

import yaml


def test_a_race_over_jobs_and_its_resumption(call, tiny, tmp_path):
    folder = tmp_path / "sweep"
    command = [
        "-m",
        "hydra/sweeper=jaxsci_racing",
        *tiny("racing"),
        "hydra.sweeper.objective=cost_test",
        "hydra.sweeper.method=random",
        "hydra.sweeper.budget=8",
        "hydra.sweeper.first_test=2",
        "rules.confidence=interval(0.8,0.99)",
        f"hydra.sweep.dir={folder}",
    ]
    outcome = call(*command)
    assert outcome.code == 0, outcome.err
    found = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert 0.8 <= found["best_params"]["rules.confidence"] <= 0.99
    runs = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines() if '"run"' in line]
    jobs = [f for f in folder.iterdir() if f.name.isdigit()]
    assert len(runs) == len(jobs) == found["runs"] <= 8
    assert call(*command).code == 0  # everything is known: no job is run again
    assert len([f for f in folder.iterdir() if f.name.isdigit()]) == len(jobs)


def test_bad_sweeps_are_one_line(call, tiny):
    base = ["-m", "hydra/sweeper=jaxsci_racing", *tiny("racing"), "hydra.sweeper.method=random"]
    for extra, said in (
        (["rules.confidence=interval(0.8,0.99)"], "hydra.sweeper.objective: missing"),
        (["hydra.sweeper.objective=cost_test"], "nothing to race"),
        (["hydra.sweeper.objective=cost_test", "hydra.sweeper.budget=3", "seed=1,2"], "budget: expected at least"),
    ):
        outcome = call(*base, *extra)
        assert outcome.code == 2 and said in outcome.err[-1], outcome.err
