"""Run the notebooks and store them with their outputs, so that they can be read on the web.

`python docs/store_notebooks.py` runs all of `notebooks/*.py`, or those whose names are given, and
writes `notebooks/*.ipynb`. Pictures of Plotly, which a page on the web does not draw, become PNGs;
this takes Chromium. Outputs are those of the machine that runs it.
"""

import base64
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import plotly.offline
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PLOTLY = "application/vnd.plotly.v1+json"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 860, 400  # of a picture whose layout does not say, in pixels

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def store(script: Path) -> None:
    """Run one notebook and write it beside its script."""
    notebook = jupytext.read(script)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02}"
        cell["metadata"] = {}
        cell["outputs"] = [_stored(each) for each in cell.get("outputs", []) if _is_kept(each)]
        if cell.cell_type != "code":
            del cell["outputs"]
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, script.with_suffix(".ipynb"))


def _is_kept(output: Any) -> bool:
    """Whether an output is for a reader: not what is written to standard error."""
    return output.get("name") != "stderr"


def _stored(output: Any) -> Any:
    data = output.get("data", {})
    if PLOTLY in data:
        output["data"] = {"image/png": _png(data[PLOTLY])}
    elif "text/html" in data:
        data.pop("text/plain", None)
    if "text" in output:
        output["text"] = _ESCAPES.sub("", output["text"])
    if "metadata" in output:
        output["metadata"] = {}
    return output


def _png(figure: dict[str, Any]) -> str:
    """A picture of Plotly as a PNG in base 64."""
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    layout = {**figure["layout"], "width": WIDTH}
    height = int(layout.setdefault("height", HEIGHT))
    drawing = json.dumps([figure["data"], layout])
    with tempfile.TemporaryDirectory() as folder:
        page, picture = Path(folder, "page.html"), Path(folder, "page.png")
        page.write_text(
            f"<meta charset='utf-8'><body style='margin:0'><div id='figure'></div>"
            f"<script>{plotly.offline.get_plotlyjs()}</script>"
            f"<script>Plotly.newPlot('figure', ...{drawing}, {{staticPlot: true}})</script>"
        )
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--virtual-time-budget=4000"]
        sizes = [f"--window-size={WIDTH},{height}", f"--screenshot={picture}"]
        command = [browser, *options, *sizes, page.as_uri()]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)  # noqa: S603 - our own
        return base64.b64encode(picture.read_bytes()).decode()


def main(names: list[str]) -> None:
    """Store the notebooks of these names, or all of them."""
    for script in sorted(NOTEBOOKS.glob("*.py")):
        if not names or script.stem in names:
            store(script)


if __name__ == "__main__":
    main(sys.argv[1:])
