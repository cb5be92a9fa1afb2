"""The page stands alone, escapes what it is given, and shows the numbers it was given."""

import base64
import io
import re
from html.parser import HTMLParser

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from jaxsci.core.errors import DataError
from jaxsci.core.figures import COLOURS, new_figure, png, save, style
from jaxsci.core.report import Report
from jaxsci.core.summary import Reference, Summary

VOID = {"meta", "img"}


class Page(HTMLParser):
    """Collects tags, attributes and visible text, and checks that every element is closed in order."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.text += data + "\n"

    def classes(self) -> list[str]:
        return [attributes["class"] for _, attributes in self.tags if "class" in attributes]


def summary() -> Summary:
    return Summary(
        "assimilation",
        {"rmse_m": 17.25, "coverage_90": 0.8, "gradient_error": 3.4e-9, "bias_m": -0.5},
        references={
            "rmse_m": Reference(20.0, "climatology", "lower"),
            "coverage_90": Reference(0.9, "nominal", "higher"),
            "bias_m": Reference(0.0, "ideal"),
        },
        seconds={"total": 125.0},
        notes=("A caveat.",),
        environment={"python": "3.11.7", "packages": {"jax": "0.10.2"}, "commit": None},
    )


@style()
def picture():
    figure, axes = new_figure(1, 2, (4, 2))
    axes[0, 0].plot([0, 1], [0, 1])
    return figure


def full_page() -> str:
    report = Report("Weather", "Does it work?")
    report.text("First.\n\nSecond.", "Setting").figure("line", picture(), "A line.")
    report.table("Scores", ["method", "day 1"], [["ours", 12.5], ["none", None]], "In metres.")
    return report.html(summary(), config={"modes": 20, "data": {"path": None}}, overrides=["modes=20"])


def test_everything_given_is_on_the_page():
    page = Page(full_page())
    for text in (
        "Weather",
        "Does it work?",
        "First.",
        "Second.",
        "Setting",
        "A line.",
        "Scores",
        "In metres.",
    ):
        assert text in page.text
    for text in (
        "rmse_m",
        "17.25",
        "climatology",
        "A caveat.",
        "2 min 5 s",
        "jax 0.10.2",
        "modes: 20",
        "modes=20",
    ):
        assert text in page.text
    assert "None" not in page.text


def test_the_page_loads_nothing_from_elsewhere():
    html = full_page()
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    sources = [attributes[name] for _, attributes in page.tags for name in ("src", "href") if name in attributes]
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in html and "@import" not in html and "url(" not in html


def test_every_text_is_escaped():
    evil = '<script>alert("x")</script>'
    report = Report(evil, evil).text(evil, evil).table(evil, [evil], [[evil]], evil).figure(evil, picture(), evil)
    html = report.html(
        Summary(
            evil,
            {evil: 1.0},
            {evil: Reference(1.0, evil, "lower")},
            {evil: 1.0},
            (evil,),
            {evil: {evil: evil}},
        ),
        config={evil: evil},
        overrides=[evil],
    )
    assert "<script" not in html
    assert 'alert("x")' not in html  # quotes as well, for the attributes
    assert Page(html).text.count("<script>") >= 15


def test_verdicts_are_given_only_where_a_reference_has_a_direction():
    page = Page(full_page())
    assert page.classes().count("card met") == 1
    assert page.classes().count("card unmet") == 1
    assert page.classes().count("card") == 1
    assert "met · 14 % below" in page.text  # 17.25 against 20
    assert "not met · 11 % below" in page.text  # 0.8 against 0.9


def test_a_figure_file_is_embedded_byte_for_byte(tmp_path):
    path = save(picture(), tmp_path / "line.png")
    html = Report("t", "q").figure("line", path).html(summary())
    (encoded,) = re.findall(r"base64,([A-Za-z0-9+/=]+)", html)
    assert base64.b64decode(encoded) == path.read_bytes()


def test_a_missing_figure_file_is_named(tmp_path):
    report = Report("t", "q").figure("maps", tmp_path / "absent.png")  # adding it is fine: it may come later
    with pytest.raises(DataError, match="figure 'maps': no picture at .*absent.png"):
        report.html(summary())


def test_a_row_of_the_wrong_length_is_a_mistake():
    with pytest.raises(ValueError, match="2 columns, but a row of 1"):
        Report("t", "q").table("T", ["a", "b"], [[1]])


def test_columns_of_numbers_share_their_decimals():
    page = Page(Report("t", "q").table("T", ["m", "x"], [["a", 78.0], ["b", -42.75], ["c", 5.5]]).html(summary()))
    for text in ("78.00", "−42.75", "5.50"):
        assert text in page.text


def test_numbers_too_unlike_to_share_decimals_keep_their_own():
    page = Page(Report("t", "q").table("T", ["x"], [[5500.5], [0.0125]]).html(summary()))
    assert "5,500\n" in page.text and "0.0125\n" in page.text


def test_scalars_of_numpy_and_jax_count_as_numbers():
    page = Page(Report("t", "q").table("T", ["x"], [[np.float32(0.5)], [jnp.int32(3)]]).html(Summary("x", {})))
    assert ("td", {"class": "n"}) in page.tags
    assert "0.5\n" in page.text and "3.0\n" in page.text


def test_numbers_in_powers_of_ten_are_set_as_such():
    assert "3.4 × 10<sup>−9</sup>" in full_page()


def test_a_bare_report_is_a_page():
    page = Page(Report("t", "q").html(Summary("x", {})))
    assert "t" in page.text


# Figures


def test_png_has_150_dots_per_inch():
    image = imread(io.BytesIO(png(picture())))
    assert image.shape[:2] == (300, 600)  # 2 by 4 inches


def test_axes_come_as_a_grid():
    _, axes = new_figure(2, 3)
    assert axes.shape == (2, 3)
    assert new_figure()[1].shape == (1, 1)


def test_style_leaves_global_state_alone():
    before = dict(matplotlib.rcParams)
    picture()
    png(picture())
    assert dict(matplotlib.rcParams) == before


def test_colours_stand_out_on_white_and_from_each_other():
    def luminance(colour: str) -> float:
        """Relative luminance, WCAG 2."""
        channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    assert len(set(COLOURS)) == len(COLOURS)
    # 2:1 keeps a 2-point line visible on white; the amber, palest of the palette, has 2.2:1.
    assert min(1.05 / (luminance(colour) + 0.05) for colour in COLOURS) > 2
