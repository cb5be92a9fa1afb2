"""What a run found: its numbers, what they are measured against, and `summary.json`, which holds both."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jaxsci.core.errors import DataError, did_you_mean
from jaxsci.core.files import write_atomic
from jaxsci.core.reading import read_json


@dataclass(frozen=True)
class Reference:
    """A number to compare a metric with, and where it comes from.

    `better` says on which side of `value` a result is a success: "lower" or "higher", equality included.
    Without it the reference informs and judges nothing.
    """

    value: float
    source: str
    better: Literal["lower", "higher"] | None = None

    def __post_init__(self):
        object.__setattr__(self, "value", _finite("reference", self.source, self.value))
        if self.better not in (None, "lower", "higher"):
            raise ValueError(f"better: expected 'lower', 'higher' or None, got {self.better!r}")

    def met(self, value: float) -> bool | None:
        """Whether `value` is as good as the reference; `None` where the reference has no direction."""
        if self.better is None:
            return None
        return value <= self.value if self.better == "lower" else value >= self.value


@dataclass(frozen=True)
class Summary:
    """The outcome of one experiment.

    `metrics` maps names to finite numbers (JAX and NumPy scalars are converted) or, for verdicts, to `bool`; a unit,
    where there is one, ends the name (`rmse_analysis_m`). `references` are keyed by the metric they belong to.
    `seconds` are wall-clock times by phase, `total` among them if known. `notes` are sentences a reader of the
    numbers must know. `environment` is filled in by `Run.finish`.

    Raises `DataError` for a number that is not finite, `ValueError` for a reference without its metric.
    """

    experiment: str
    metrics: Mapping[str, float]
    references: Mapping[str, Reference] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for group in ("metrics", "seconds"):
            numbers = {name: _finite(group, name, value) for name, value in getattr(self, group).items()}
            object.__setattr__(self, group, numbers)
        for name in self.references:
            if name not in self.metrics:
                raise ValueError(f"reference {name!r} has no metric{did_you_mean(name, self.metrics)}")


def write_summary(summary: Summary, path: Path) -> None:
    """Write strict JSON (no NaN, no Infinity), atomically. Raises `JaxsciError` when the disk refuses."""
    references = {
        name: {"value": r.value, "source": r.source} | ({"better": r.better} if r.better else {})
        for name, r in summary.references.items()
    }
    content = {
        "experiment": summary.experiment,
        "metrics": summary.metrics,
        "references": references,
        "seconds": summary.seconds,
        "notes": list(summary.notes),
        "environment": summary.environment,
    }
    write_atomic(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_summary(path: Path) -> Summary:
    """The inverse of `write_summary`. Raises `DataError` for a file that is missing or is no summary."""
    content = read_json(path, "a summary.json of a finished run")
    try:
        references = {name: Reference(**entry) for name, entry in content.pop("references").items()}
        return Summary(references=references, notes=tuple(content.pop("notes")), **content)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise DataError(f"{path}: expected a summary.json written by jaxsci ({error})") from error


def table(summary: Summary) -> str:
    """Aligned plain text for a terminal: metric, ours, reference, source. Empty columns are left out."""
    rows = [("metric", "ours", "reference", "", "source")]
    for name, value in summary.metrics.items():
        reference = summary.references.get(name)
        if reference is None:
            rows.append((name, format_number(value), "", "", ""))
        else:
            verdict = {True: "met", False: "not met", None: ""}[reference.met(value)]
            rows.append((name, format_number(value), format_number(reference.value), verdict, reference.source))
    used = [column for column in range(5) if any(row[column] for row in rows[1:])]
    widths = {column: max(len(row[column]) for row in rows) for column in used}
    numeric = (1, 2)
    lines = [
        "  ".join(row[c].rjust(widths[c]) if c in numeric else row[c].ljust(widths[c]) for c in used).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * widths[c] for c in used))
    return "\n".join(lines)


def format_number(value: float) -> str:
    """Up to four significant digits: `1,460`, `12.35`, `0.9`; powers of ten from a million and below 1e-3."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e6:
        return f"{int(value):,}"
    if 1e-3 <= abs(value) < 1e6:
        text = f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"


def _finite(group: str, name: str, value: Any) -> float:
    if isinstance(value, bool):
        return value
    number = float(value)
    if not math.isfinite(number):
        raise DataError(
            f"{group}: expected a finite number for '{name}', got {number}; see metrics.csv for where it went wrong"
        )
    return number
