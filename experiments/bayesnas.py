"""Ensembles over architectures and weights beside deep ensembles of the same cost: digits, CIFAR-10, UCI tables."""

from experiments import bayesnas_classification, bayesnas_regression
from experiments.bayesnas_config import Config as Config
from experiments.bayesnas_config import Uci
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    if isinstance(config.data, Uci):
        return bayesnas_regression.main(config, run)
    return bayesnas_classification.main(config, run)
