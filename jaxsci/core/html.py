"""The few pieces of HTML a report is built from. Text that comes in is escaped here, and nowhere else."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import SupportsFloat, TypeGuard

from jaxsci.core.summary import format_number


@dataclass(frozen=True)
class Markup:
    """Text that is HTML already, made by one of the functions below."""

    html: str


Cell = str | SupportsFloat | None | Markup  # scalars of NumPy and JAX are numbers too


def element(tag: str, *children: str | Markup, style: str = "") -> Markup:
    """`<tag class="style">children</tag>`; children that are plain text are escaped."""
    mark = f' class="{escape(style)}"' if style else ""
    inner = "".join(child.html if isinstance(child, Markup) else escape(child) for child in children)
    return Markup(f"<{tag}{mark}>{inner}</{tag}>")


def join(*parts: Markup | None) -> Markup:
    """The parts one after the other; `None` stands for nothing to show."""
    return Markup("\n".join(part.html for part in parts if part is not None))


def paragraphs(text: str) -> Markup:
    """A paragraph for each stretch of text between blank lines."""
    return join(*(element("p", part.strip()) for part in text.split("\n\n") if part.strip()))


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, uniform: bool = True) -> Markup:
    """A table that scrolls sideways on a narrow screen; columns of numbers are set flush right.

    With `uniform` a column holds one quantity, and its numbers are shown with equally many decimals.
    """
    by_column = [[row[i] for row in rows] for i in range(len(columns))]
    styles = ["n" if _is_numeric(column) else "" for column in by_column]
    decimals = [
        _decimals(column) if uniform and style else None for column, style in zip(by_column, styles, strict=True)
    ]
    head = element("tr", *(element("th", name, style=style) for name, style in zip(columns, styles, strict=True)))
    body = []
    for row in rows:
        items = zip(row, decimals, styles, strict=True)
        body.append(element("tr", *(element("td", _cell(value, places), style=s) for value, places, s in items)))
    inner = [element("thead", head)] if any(columns) else []
    return element("div", element("table", *inner, element("tbody", *body)), style="scroll")


def fold(title: str, content: Markup) -> Markup:
    """Content hidden behind its title until clicked."""
    return element("details", element("summary", title), content)


def image(png: bytes, alternative: str) -> Markup:
    """A picture carried inside the page."""
    data = base64.b64encode(png).decode("ascii")
    return Markup(f'<img src="data:image/png;base64,{data}" alt="{escape(alternative)}">')


def number(value: float) -> Markup:
    """As in the terminal, but with a true minus sign and powers of ten set as such."""
    mantissa, _, exponent = format_number(value).partition("e")
    power = f" × 10<sup>{int(exponent)}</sup>" if exponent else ""
    return Markup((mantissa + power).replace("-", "−"))


def duration(seconds: float) -> str:
    """`12.3 s`, `4 min 5 s`, `2 h 10 min`."""
    if seconds < 90:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _cell(value: Cell, decimals: int | None) -> Markup:
    if isinstance(value, Markup):
        return value
    if value is None:
        return Markup("–")
    if isinstance(value, bool):
        return Markup("yes" if value else "no")
    if isinstance(value, str):
        return Markup(escape(value))
    if decimals is None:
        return number(float(value))
    return Markup(f"{float(value):,.{decimals}f}".replace("-", "−"))


def _is_numeric(column: Sequence[Cell]) -> bool:
    return all(value is None or _is_number(value) for value in column)


def _is_number(value: Cell) -> TypeGuard[SupportsFloat]:
    return isinstance(value, SupportsFloat) and not isinstance(value, bool)


def _decimals(column: Sequence[Cell]) -> int | None:
    """The most decimals any number of the column needs; `None` where the numbers are too unlike for that."""
    values = [float(value) for value in column if _is_number(value)]
    sizes = [abs(value) for value in values if value]
    texts = [format_number(value) for value in values]
    if any("e" in text or "n" in text for text in texts) or (sizes and max(sizes) > 1e4 * min(sizes)):
        return None
    return max((len(text.partition(".")[2]) for text in texts), default=0)
