"""The report of a study as one page, and what it does in a browser."""

import json
import re
import shutil
import subprocess

import pytest
from looking import add, paid, study_of

from eeipu.report import write_report
from eeipu.report.page.document import report_html

BAD = "</script><script>document.title='broken'</script><b>{plotly}"
CHOSEN = {"by": "models", "reuses": [], "improvement": 0.1, "mean": 0.5, "std": 0.1, "cost": 2.0}


@pytest.fixture(scope="module")
def study():
    """Twelve trials, the last of which has failed, with a name and an error that are code."""
    study = study_of(name=BAD)
    for k in range(11):
        x, y = (k * 0.618) % 1.0, (k * 0.755) % 1.0
        costs = paid(None if k % 3 else 1.0 + x, 0.5 + y, keys=("a", f"b{k}"))
        reports = {1: 0.1, 2: 0.2} if k == 4 else None
        chosen = CHOSEN if k > 5 else {"by": "warm-up"}
        add(study, x - y, x=x, y=y, began_s=k, reports=reports, chosen=chosen, **costs)
    add(
        study,
        failed_stage="fit",
        error=f"Traceback\nValueError: {BAD}",
        metrics={"f": float("nan")},
    )
    return study


@pytest.fixture(scope="module")
def page(study):
    return report_html(study)


def pictures_of(page):
    [text] = re.findall('<script id="pictures" type="application/json">(.*?)</script>', page)
    return json.loads(text)


def own_part(page):
    """The page without the code of Plotly."""
    return page.partition("<script>")[0]


def test_all_pictures_are_in_it(page):
    assert pictures_of(page).keys() == {
        "budget",
        "time",
        "costs",
        "timeline",
        "savings",
        "graph",
        "tree",
        "learning",
        "choices",
        *(f"why {k}" for k in range(6, 11)),
        "importance",
        "predictions",
        "predictions of prep",
        "predictions of fit",
    }


def test_nothing_is_loaded_from_elsewhere(page):
    assert re.findall(r'(?:src|href)="([^"]*)"', own_part(page)) == ["data:,"]
    assert "default-src 'none'" in page
    assert "cdn" not in own_part(page)


def test_names_and_errors_are_text(page):
    assert BAD not in page
    assert own_part(page).count("&lt;/script&gt;") >= 3  # the title twice, and the error


def test_best_trials_come_first_and_failures_have_their_traceback(page, study):
    table = own_part(page).partition("Best trials")[2].partition("</table>")[0]
    first = re.findall(r"<td[^>]*>([^<]*)</td>", table)[:2]
    assert first == [str(study.best_trial.number), f"{study.best_value:.6g}"]
    assert "<pre>Traceback\nValueError" in page


def test_without_models_none_are_fitted(study):
    assert "importance" not in pictures_of(report_html(study, models=False))


def test_a_study_without_trials_has_a_page():
    page = report_html(study_of())

    assert pictures_of(page).keys() == {"graph"}
    assert "none yet" in page


def test_the_page_is_written_as_utf_8(study, tmp_path):
    write_report(study, tmp_path / "report.html", models=False)

    assert "<h1>" in (tmp_path / "report.html").read_text(encoding="utf-8")


# --- in a browser

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

# What a user does; the results are left in an attribute of the page.
ACTIONS = """
<script>
window.addEventListener("load", () => {
  const drawn = (place) => place.querySelectorAll(".main-svg").length > 0;
  const places = [...document.querySelectorAll("[data-picture]")];
  const colour = () => getComputedStyle(document.body).backgroundColor;
  const found = { drawn: places.map((each) => [each.dataset.picture, drawn(each)]) };
  found.colours = [colour()];
  document.getElementById("theme").click();
  found.colours.push(colour());
  const ink = () => places[0]._fullLayout.font.color;
  found.inks = [ink()];
  document.getElementById("theme").click();
  found.inks.push(ink());
  const why = document.getElementById("why");
  why.value = "why 7";
  why.dispatchEvent(new Event("change"));
  const reason = document.querySelector("#reason .picture");
  found.reason = [reason.dataset.picture, reason.data.length];
  const column = () => [...document.querySelectorAll(".sortable table tbody tr")]
    .slice(0, 10).map((row) => Number(row.cells[0].textContent));
  document.querySelector(".sortable th button").click();
  found.sorted = column();
  document.querySelector(".sortable th button").click();
  found.reversed = column();
  found.width = [document.documentElement.scrollWidth, window.innerWidth];
  found.title = document.title;
  document.documentElement.dataset.found = JSON.stringify(found);
});
</script>
"""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize("size", ["1400,900", "500,900"])
def test_it_renders_and_its_controls_work(page, tmp_path, size):
    file = tmp_path / "report.html"
    file.write_text(page + ACTIONS, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={size}"]
    where = [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"]
    wait = ["--virtual-time-budget=20000", "--dump-dom"]
    command = [CHROMIUM, *options, *where, *wait, file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)

    assert "CONSOLE" not in done.stderr
    [text] = re.findall('data-found="([^"]*)"', done.stdout)
    found = json.loads(text.replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">"))
    assert len(found["drawn"]) == 14
    assert all(is_drawn for _, is_drawn in found["drawn"])
    assert len(set(found["colours"])) == len(set(found["inks"])) == 2
    assert found["reason"] == ["why 7", 1]
    assert found["sorted"] == sorted(found["sorted"])
    assert found["reversed"] == sorted(found["reversed"], reverse=True)
    assert found["width"][0] <= found["width"][1]  # no scrolling sideways
    assert found["title"] == BAD
