"""Figures and page of the regression study."""

import numpy as np
from matplotlib.figure import Figure

from experiments.bayesnas_config import Config
from jaxsci.bayesnas.loaders.uci import Table
from jaxsci.core.figures import AMBER, BLUE, GREY, ORANGE, SKY, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary

PARTS = (("architecture", ORANGE), ("weights", BLUE), ("aleatoric", SKY))


def report(config: Config, run: Run, tables: list[Table], found: dict, summary: Summary) -> Report:
    from experiments.bayesnas_regression import DEEP_ENSEMBLES, MC_DROPOUT

    page = Report(
        "Ensembles of architectures and weights for regression",
        "How well does a mixture of networks, each with its own architecture and training, predict tables, and where "
        "does its doubt come from?",
    )
    page.figure(
        "scores",
        run.figure("scores", scores(tables, found, DEEP_ENSEMBLES, MC_DROPOUT)),
        "Test RMSE relative to the published deep ensembles, and log-likelihood less theirs; bars are two standard "
        "errors over the splits. Left of 1 and above 0 is better.",
    )
    page.figure(
        "split",
        run.figure("split", variance_shares(tables, found)),
        "Share of the mean predictive variance on test rows by its source.",
    )
    rows = []
    for table in tables:
        metric = lambda name, table=table: summary.metrics[f"{name}_{table.name}"]  # noqa: E731
        dropout, ensembles = MC_DROPOUT.get(table.name), DEEP_ENSEMBLES.get(table.name)
        rows.append(
            (
                table.name,
                len(table.y),
                f"{metric('rmse'):.3g} ± {metric('rmse_standard_error'):.2g}",
                dropout[0] if dropout else None,
                ensembles[0] if ensembles else None,
                f"{metric('loglik'):.3g} ± {metric('loglik_standard_error'):.2g}",
                dropout[2] if dropout else None,
                ensembles[2] if ensembles else None,
                metric("loglik_single"),
            )
        )
    columns = ("table", "rows", "RMSE", "MC-dropout", "deep ens.", "log-lik.", "MC-dropout", "deep ens.", "one network")
    caption = "± standard error over the splits; 'one network' is the mean log-likelihood of those kept, each alone."
    return page.table("Beside published figures", columns, rows, caption)


@style()
def scores(tables: list[Table], found: dict, ensembles: dict, dropout: dict) -> Figure:
    figure, axes = new_figure(1, 2, (10, 0.6 * len(tables) + 2.2))
    at = np.arange(len(tables))
    for axis, name, number in zip(axes[0], ("rmse", "loglik"), (0, 2), strict=True):
        for row, table in enumerate(tables):
            values = np.array([getattr(r, name) for r in found[table.name]])
            error = 2 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
            base = ensembles[table.name][number] if table.name in ensembles else float(values.mean())
            place = (lambda v, b=base: v / b) if name == "rmse" else (lambda v, b=base: v - b)
            width = error / base if name == "rmse" else error
            label = "ours" if row == 0 else None
            axis.errorbar(place(values.mean()), row, xerr=width, fmt="o", color=BLUE, capsize=3, label=label)
            if table.name in dropout:
                value = dropout[table.name][number]
                axis.plot(place(value), row, "s", color=AMBER, label="MC-dropout 2018" if row == 0 else None)
        axis.axvline(1.0 if name == "rmse" else 0.0, color=GREY, linestyle="--", label="deep ensembles 2017")
        axis.set_yticks(at, [table.name for table in tables])
        axis.invert_yaxis()
    axes[0, 0].set(xlabel="RMSE / that of deep ensembles", title="RMSE: lower is better")
    axes[0, 1].set(xlabel="nats above deep ensembles", title="log-likelihood: higher is better")
    axes[0, 1].set_yticklabels([])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@style()
def variance_shares(tables: list[Table], found: dict) -> Figure:
    figure, axes = new_figure(1, 1, (8, 0.5 * len(tables) + 2))
    left = np.zeros(len(tables))
    for name, colour in PARTS:
        share = np.array([np.mean([getattr(r, name) / r.total for r in found[table.name]]) for table in tables])
        axes[0, 0].barh(np.arange(len(tables)), share, left=left, color=colour, label=name)
        left += share
    axes[0, 0].set_yticks(np.arange(len(tables)), [table.name for table in tables])
    axes[0, 0].invert_yaxis()
    axes[0, 0].set(xlabel="share of the predictive variance", xlim=(0, 1))
    figure.legend(loc="outside lower center", ncols=3)
    return figure
