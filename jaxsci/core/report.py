"""One self-contained HTML page about a run: what was asked, the numbers and their references, the pictures.

No scripts, no links, no fonts to fetch: the file can be mailed, archived and opened in twenty years.
"""

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from jaxsci.core.errors import DataError
from jaxsci.core.html import Cell, Markup, duration, element, fold, image, join, number, paragraphs, table
from jaxsci.core.summary import Reference, Summary

if TYPE_CHECKING:  # matplotlib is slow to import, and a run without figures does not need it
    from matplotlib.figure import Figure


class Report:
    """Collects sections in the order given and renders them once, at the end of the run.

    `title` and `question` head the page: what was done, and what it was to find out. Every text is plain and
    is escaped. Each method returns the report, so calls can be chained.
    """

    def __init__(self, title: str, question: str):
        self.title = title
        self.question = question
        self._sections: list[Markup | _Picture] = []

    def text(self, body: str, title: str = "") -> "Report":
        """Paragraphs, parted by blank lines, under a heading if `title` is given."""
        self._sections.append(join(element("h2", title) if title else None, paragraphs(body)))
        return self

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str = "") -> "Report":
        """A table; numbers are shown with up to four significant digits, `None` as a dash.

        Raises `ValueError` for a row whose length differs from `columns`.
        """
        for row in rows:
            if len(row) != len(columns):
                raise ValueError(f"table {title!r}: {len(columns)} columns, but a row of {len(row)}: {row!r}")
        below = element("p", caption, style="caption") if caption else None
        self._sections.append(join(element("h3", title), table(columns, rows), below))
        return self

    def figure(self, name: str, picture: "Figure | Path", caption: str = "") -> "Report":
        """A picture, read when the page is made: the file `Run.figure` returned, or a matplotlib figure."""
        self._sections.append(_Picture(name, picture, caption))
        return self

    def html(self, summary: Summary, *, config: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()) -> str:
        """The page, with `config` and `overrides` folded away at its end.

        Raises `DataError` for a missing picture.
        """
        sheet = resources.files("jaxsci.core").joinpath("data/report.css").read_text(encoding="utf-8")
        body = element(
            "main",
            self._header(summary),
            join(
                _cards(summary),
                *(s.markup() if isinstance(s, _Picture) else s for s in self._sections),
                _all_numbers(summary),
                _notes(summary.notes),
                _appendix(summary, config, overrides),
            ),
        )
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>\n{sheet}</style>\n</head>\n"
            f"<body>\n{body.html}\n</body>\n</html>\n"
        )

    def _header(self, summary: Summary) -> Markup:
        return element(
            "header",
            element("p", f"jaxsci · {summary.experiment}", style="eyebrow"),
            element("h1", self.title),
            element("p", self.question, style="question"),
            _facts(summary),
        )


class _Picture:
    """A figure section. It is read late because other processes than the first never write its file."""

    def __init__(self, name: str, source: "Figure | Path", caption: str):
        self.name, self.source, self.caption = name, source, caption

    def markup(self) -> Markup:
        below = element("figcaption", self.caption) if self.caption else None
        return element("figure", join(image(self._png(), self.caption or self.name), below))

    def _png(self) -> bytes:
        if not isinstance(self.source, Path):
            from jaxsci.core.figures import png

            return png(self.source)
        try:
            return self.source.read_bytes()
        except OSError as error:
            raise DataError(f"figure '{self.name}': no picture at {self.source} ({error.strerror})") from error


def _facts(summary: Summary) -> Markup:
    """The line below the question: how long, on what, with which code, when."""
    where = summary.environment
    facts = [f"ran {duration(summary.seconds['total'])}"] if "total" in summary.seconds else []
    facts += [f"{count} × {kind}" for kind, count in where.get("devices", {}).items()]
    facts += [f"{name} {where[name]}" for name in ("jaxsci", "commit") if where.get(name)]
    facts += [where["finished"]] if where.get("finished") else []
    return element("p", *(element("span", fact) for fact in facts), style="meta")


def _cards(summary: Summary) -> Markup | None:
    """The headline: a card for each metric that has a reference."""
    cards = [_card(name, summary.metrics[name], reference) for name, reference in summary.references.items()]
    return element("section", *cards, style="cards") if cards else None


def _card(name: str, value: float, reference: Reference) -> Markup:
    style = {True: "card met", False: "card unmet", None: "card"}[reference.met(value)]
    verdict = _verdict(value, reference)
    return element(
        "div",
        element("code", name, style="name"),
        element("div", number(value), style="value"),
        element("div", "reference ", element("b", number(reference.value)), style="reference"),
        element("div", reference.source, style="reference"),
        *([element("div", style="push"), verdict] if verdict.html else []),
        style=style,
    )


def _verdict(value: float, reference: Reference) -> Markup:
    """The judgement, in words as well as colour; empty where the reference has no direction."""
    met = reference.met(value)
    if met is None:
        return Markup("")
    words = "met" if met else "not met"
    change = abs(value - reference.value) / abs(reference.value) if reference.value else 0.0
    if 0.001 <= change < 0.95:  # outside of that a percentage says nothing
        words += f" · {100 * change:.2g} % {'below' if value < reference.value else 'above'}"
    return element("span", words, style="verdict met" if met else "verdict unmet")


def _all_numbers(summary: Summary) -> Markup | None:
    if not summary.metrics:
        return None
    rows: list[list[Cell]] = []
    for name, value in summary.metrics.items():
        row: list[Cell] = [element("code", name), value]
        reference = summary.references.get(name)
        if reference is not None:
            row += [reference.value, _verdict(value, reference), reference.source]
        elif summary.references:
            row += [None, "", ""]
        rows.append(row)
    columns = ["metric", "ours", "reference", "", "source"] if summary.references else ["metric", "ours"]
    return join(element("h2", "All numbers"), table(columns, rows, uniform=False))


def _notes(notes: Sequence[str]) -> Markup | None:
    if not notes:
        return None
    return join(element("h2", "Notes"), element("ul", *(element("li", note) for note in notes), style="notes"))


def _appendix(summary: Summary, config: Mapping[str, Any] | None, overrides: Sequence[str]) -> Markup:
    folds = []
    if summary.seconds:
        rows = [(phase, duration(seconds)) for phase, seconds in summary.seconds.items()]
        folds.append(fold("Run time", table(["phase", "time"], rows)))
    if summary.environment:
        rows = [(name, _show(value)) for name, value in summary.environment.items() if value is not None]
        folds.append(fold("Versions and machine", table(["", ""], rows)))
    if config is not None:
        listing = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        folds.append(fold("Resolved configuration", element("pre", listing)))
    if overrides:
        folds.append(fold("Command-line overrides", element("pre", "\n".join(overrides))))
    return element("div", *folds, style="appendix")


def _show(value: Any) -> str:
    """One line for an entry of the environment, a group of versions included."""
    if isinstance(value, Mapping):
        return " · ".join(f"{name} {item}" for name, item in value.items() if item is not None)
    return str(value)
