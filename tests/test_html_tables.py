"""Tables and facts as HTML."""

import pytest

from eeipu.html_tables import MAX_SHOWN, box, facts, shown, table


def test_everything_in_a_table_is_escaped():
    html = table(["<a>"], [["<script>", "x & y"]])

    assert "&lt;a&gt;" in html
    assert "&lt;script&gt;" in html
    assert "x &amp; y" in html
    assert "<script>" not in html


def test_facts_and_titles_are_escaped_and_parts_are_html():
    assert facts({"<n>": "<v>"}) == "&lt;n&gt; <b>&lt;v&gt;</b>"
    assert box("<t>", "<i>part</i>", "") == "<div><b>&lt;t&gt;</b><div><i>part</i></div></div>"


def test_columns_are_aligned_to_the_right_on_request():
    html = table(["name", "cost"], [["a", 1.0]], right={1})

    assert html.count("text-align: right") == 2
    assert html.count("text-align: left") == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "yes"),
        (False, "no"),
        (3, "3"),
        (0.123456789, "0.123457"),
        (float("nan"), "nan"),
        ("x", "x"),
        (["a"], "['a']"),
    ],
)
def test_values_as_text(value, text):
    assert shown(value) == text


def test_long_values_are_cut():
    text = shown("x" * 1000)

    assert len(text) == MAX_SHOWN
    assert text.endswith("…")
