"""What the documentation site has beside the pages of docs/: a hook of MkDocs.

Results, notebooks, the changelog and CONTRIBUTING lie elsewhere in the repository, and their links
are written for readers of the repository. This hook adds them to the site, turns notebooks into
pages with their stored outputs, points relative links at the places of the site, and expands the
`*` of the navigation.
"""

import html
import json
import posixpath
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.main import get_command

from eeipu.__main__ import app

ROOT = Path(__file__).parents[1]
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "results/README.md", "results/details.md")
OUTSIDE_PATTERNS = ("results/tables/*.md", "results/figures/*.png")
REPOSITORY_ONLY = ("LICENSE", "README.md")

_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
_COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Expand the patterns of the navigation, which name the files that no entry names."""
    pages = sorted(_site_pages())
    named = set(_entries(config.nav or []))
    config.nav = [_expanded(entry, pages, named) for entry in config.nav or []]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    for path in _outside():
        uri = path.relative_to(ROOT).as_posix()
        if path.suffix == ".ipynb":
            page = File.generated(config, _site_place(uri), content=notebook_page(path))
        else:
            page = File.generated(config, uri, abs_src_path=str(path))
        files.append(page)
    commands_page = File.generated(config, "reference/command_line.md", content=command_page())
    files.append(commands_page)
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Drop comments, which are for tests, and point links at the site."""
    place = _repository_place(page.file.src_uri)
    parts = _FENCED.split(markdown)
    for number in range(0, len(parts), 2):  # the odd ones are code
        text = _COMMENT.sub("", parts[number])
        parts[number] = _LINK.sub(partial(_link_from, place), text)
    return "".join(parts)


def command_page() -> str:
    """The commands of `eeipu` with their arguments and options, as Markdown."""
    parts = ["# Command line", "`eeipu --help`, and `--help` behind each command, say the same."]
    for words, command in commands(get_command(app), "eeipu"):
        parts += [f"## `{words}`", (command.help or "").strip()]
        rows = [_parameter(each) for each in command.params if each.name != "help"]
        if rows:
            parts.append("\n".join(["| option | meaning |", "| --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"


def commands(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    """All commands below one, with the words that call them."""
    for name, below in getattr(command, "commands", {}).items():
        if hasattr(below, "commands"):
            yield from commands(below, f"{words} {name}")
        else:
            yield f"{words} {name}", below


def _parameter(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = f"`{parameter.name.upper()}`"
    return f"| {names} | {(getattr(parameter, 'help', None) or '').strip()} |"


def notebook_page(path: Path) -> str:
    """A notebook and its stored outputs as Markdown."""
    cells = json.loads(path.read_text())["cells"]
    return "\n\n".join(_cell(cell) for cell in cells) + "\n"


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    code = f"```python\n{source.strip()}\n```"
    outputs = [text for text in map(_output, cell.get("outputs", ())) if text]
    return "\n\n".join([code, *outputs])


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        picture = "".join(data["image/png"]).strip()
        inner = f'<img alt="output" src="data:image/png;base64,{picture}">'
    elif "text/html" in data:
        inner = "".join(data["text/html"])
    else:
        text = "".join(output.get("text") or data.get("text/plain", ""))
        inner = f"<pre><code>{html.escape(text)}</code></pre>" if text else ""
    inner = re.sub(r"\n\s*\n", "\n", inner)  # Markdown ends raw HTML at an empty line
    return f'<div class="output">{inner}</div>' if inner else ""


def _outside() -> list[Path]:
    named = [ROOT / name for name in OUTSIDE]
    patterns = [*OUTSIDE_PATTERNS, "notebooks/*.ipynb"]
    return named + [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]


def _site_pages() -> set[str]:
    own = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    outside = {_site_place(path.relative_to(ROOT).as_posix()) for path in _outside()}
    generated = {"reference/command_line.md"}
    return own | generated | {uri for uri in outside if uri.endswith(".md")}


def _site_place(repository_place: str) -> str:
    place = repository_place.removeprefix("docs/")
    return place.removesuffix(".ipynb") + ".md" if place.endswith(".ipynb") else place


def _repository_place(site_place: str) -> str:
    if (ROOT / "docs" / site_place).exists():
        return f"docs/{site_place}"
    return site_place


def _link_from(place: str, link: re.Match[str]) -> str:
    """A link of the page at `place`, pointing at the site; a folder is only named."""
    path, mark, anchor = link[2].partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return link[0]
    there = posixpath.normpath(posixpath.join(posixpath.dirname(place), path))
    if (ROOT / there).is_dir():
        there = f"{there}/README.md"
        if not (ROOT / there).exists():
            return link[1]
    if there in REPOSITORY_ONLY:
        there, mark, anchor = "docs/index.md", "", ""
    here = posixpath.dirname(_site_place(place))
    return f"[{link[1]}]({posixpath.relpath(_site_place(there), here or '.')}{mark}{anchor})"


def _entries(nav: list[Any]) -> list[str]:
    found = []
    for entry in nav:
        values = list(entry.values()) if isinstance(entry, dict) else [entry]
        for value in values:
            found += _entries(value) if isinstance(value, list) else [value]
    return found


def _expanded(entry: Any, pages: list[str], named: set[str]) -> Any:
    ((title, values),) = entry.items()
    expanded: list[Any] = []
    for value in values:
        if isinstance(value, str) and value.endswith("*"):
            folder = value.removesuffix("*")
            expanded += [
                page
                for page in pages
                if page not in named and posixpath.dirname(page) == folder.rstrip("/")
            ]
        else:
            expanded.append(value)
    return {title: expanded}
