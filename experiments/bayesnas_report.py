"""The page of the classification study."""

from experiments import bayesnas_figures as figures
from experiments.bayesnas_arms import Problem
from experiments.bayesnas_config import Config
from experiments.bayesnas_evaluation import ARMS, Results, SeedScores
from jaxsci.bayesnas.loaders.images import LabelledImages
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary

LABELS = {
    "single": "one network",
    "chain": "one chain of it",
    "deep_ensemble": "deep ensemble",
    "deep_ensemble_chain": "deep ensemble of chains",
    "random_architectures": "random architectures",
    "nes": "NES, greedy",
    "joint": "joint posterior",
}


def report(
    config: Config,
    run: Run,
    images: LabelledImages,
    first: tuple[Problem, Results],
    found: list[SeedScores],
    summary: Summary,
) -> Report:
    problem, results = first
    page = Report(
        f"Architectures and weights in doubt: {images.name}",
        "Does an ensemble drawn from the joint posterior of architectures and weights know better what it does not "
        "know than one network, and than a deep ensemble that cost as much to train?",
    )
    page.figure(
        "reliability",
        run.figure("reliability", figures.reliability_diagrams(problem, results, found)),
        "How often the named class was right, by confidence; bars show how many test examples lie there (first "
        "seed). On the diagonal confidence can be believed.",
    )
    page.figure(
        "severity",
        run.figure("severity", figures.by_severity(problem, found, LABELS)),
        "Means over the corruption types and seeds; severity 0 is the clean test set.",
    )
    page.figure(
        "posterior",
        run.figure("posterior", figures.architecture_posterior(config.space, results)),
        "The distribution that search learned (first seed), with the architectures that were drawn from it.",
    )
    page.figure(
        "split",
        run.figure("split", figures.uncertainty_by_severity(problem, found)),
        "Entropy of the joint ensemble's prediction by source, exact for the ensemble at hand.",
    )
    page.figure(
        "doubtful",
        run.figure("doubtful", figures.uncertainty_map(images, problem, results, config)),
        "Every test example of the first seed by what the weights and the architecture contribute; and the most "
        "doubtful ones, with the label and the name given.",
    )
    page.table(
        "Arms",
        ("arm", "accuracy", "NLL", "Brier", "ECE", "its floor", "adaptive ECE", "its floor", "NLL corr.", "ECE corr."),
        [
            (
                LABELS[arm],
                *(summary.metrics[f"{score}_{arm}"] for score in ("accuracy", "nll", "brier", "ece", "ece_floor")),
                *(summary.metrics[f"{s}_{arm}"] for s in ("adaptive_ece", "adaptive_ece_floor")),
                summary.metrics[f"nll_corrupted_{arm}"],
                summary.metrics[f"ece_corrupted_{arm}"],
            )
            for arm in ARMS
        ],
        caption="Means over seeds. The floor is what a perfectly calibrated model with the same confidences would show "
        "on this many examples.",
    )
    page.table(
        "After one temperature per arm",
        ("arm", "temperature", "NLL", "ECE"),
        [
            (
                LABELS[arm],
                *(summary.metrics[f"{s}_{arm}"] for s in ("temperature", "nll_calibrated", "ece_calibrated")),
            )
            for arm in ARMS
        ],
        caption="Fitted after pooling on the calibration part.",
    )
    page.table(
        "Where the joint ensemble's doubt comes from",
        ("", "total", "architecture", "weights", "data"),
        [
            (
                "entropy (nats), plug-in",
                *(
                    summary.metrics[f"uncertainty_entropy_{p}"]
                    for p in ("total", "architecture", "weights", "aleatoric")
                ),
            ),
            (
                "1 - sum p², plug-in",
                *(
                    summary.metrics[f"uncertainty_quadratic_{p}"]
                    for p in ("total", "architecture", "weights", "aleatoric")
                ),
            ),
            (
                "1 - sum p², corrected for finite A, R, S",
                None,
                *(summary.metrics[f"uncertainty_quadratic_corrected_{p}"] for p in ("architecture", "weights")),
                None,
            ),
        ],
        caption="Means over the clean test set and seeds. The corrected architecture part is an unbiased estimate of a "
        "variance and may be negative.",
    )
    kinds = sorted(found[0].detection)
    scores = list(found[0].detection[kinds[0]])
    return page.table(
        "Telling inputs of no class from test examples (AUROC)",
        ("input", *(score.replace("_", " ") for score in scores)),
        [(kind, *(summary.metrics[f"auroc_{kind}_{score}"] for score in scores)) for kind in kinds],
    )
