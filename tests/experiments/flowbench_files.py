"""Runs of the packaged workflow written as Flow-Bench's own files, as a testbed would."""

import csv
import io

import numpy as np

from jaxsci.workflows.flowbench_csv import COLUMNS, STAMPS
from jaxsci.workflows.workflow import Workflow


def run_csv(workflow: Workflow, run: int) -> str:
    """Run number `run` as the text of one CSV file."""
    known = [name for name in COLUMNS if name in workflow.features]
    values = {name: workflow.feature(name)[run].astype(np.float64) for name in known}
    on_worker, text = workflow.on_worker()[run], io.StringIO()
    names = ["", "anomaly_type", "type", "kickstart_hostname", "kickstart_site", "kickstart_transformations", *known]
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    for n, node in enumerate(workflow.nodes):
        kind = workflow.classes[workflow.labels()[run, n]]
        row = {
            "": node,
            "anomaly_type": "None" if kind == "normal" else kind,
            "type": workflow.job_type[n],
            "kickstart_hostname": workflow.hosts[workflow.host[run, n]],
            "kickstart_site": "condorpool" if on_worker[n] else "local",
            "kickstart_transformations": workflow.transformation[n],
        }
        for name in known:
            value = values[name][n] + (workflow.start_epoch[run] if name in STAMPS else 0.0)
            row[name] = "" if np.isnan(value) else repr(float(value))
        writer.writerow(row)
    return text.getvalue()
