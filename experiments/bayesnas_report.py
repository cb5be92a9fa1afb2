"""placeholder"""
from jaxsci.core.report import Report
def report(config, run, images, first, found, summary): return Report("t","q")
