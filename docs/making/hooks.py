"""What the site has beside the pages of ``docs``: generated reference pages, and files of the repository they show.

A link out of ``docs`` (``../benchmarks/...``) is right in the repository and has no target in a site: such files are
taken along, and the link is turned to where they lie.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

import notebook
import reference

REPOSITORY = Path(__file__).parents[2]
LINK_UP = re.compile(r"\]\((\.\./[^)#\s]+)(?:#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """All pages, the generated ones, and what pages link to outside of ``docs``."""
    pages = [file for file in files if file.src_uri.endswith(".md")]
    for name, text in {**reference.pages(), **_notebooks(files)}.items():
        files.append(File.generated(config, name, content=text))
    places = {place for page in pages for place in _places(page.content_string, Path(page.src_uri).parent)}
    for place in sorted(places):
        files.append(File.generated(config, _in_site(place), content=(REPOSITORY / place).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """The page with its links to files outside of ``docs`` turned to the copies in the site."""
    folder = Path(page.file.src_uri).parent

    def turned(match: re.Match[str]) -> str:
        place = _outside(match, folder)
        return match[0] if place is None else f"]({'../' * len(folder.parts)}{_in_site(place)})"

    return LINK_UP.sub(turned, markdown)


def _notebooks(files: Files) -> dict[str, Any]:
    """Each notebook as a page, with what its cells drew when they were run last."""
    made: dict[str, Any] = {}
    for file in [one for one in files if one.src_uri.endswith(".ipynb")]:
        text, pictures = notebook.as_markdown(notebook.read(Path(file.abs_src_path)))
        made[file.src_uri.replace(".ipynb", ".md")] = text
        made |= {str(Path(file.src_uri).with_name(name)): png for name, png in pictures.items()}
        files.remove(file)
    return made


def _places(text: str, folder: Path) -> set[str]:
    """The files outside of ``docs`` that a page in ``folder`` links to, relative to the repository."""
    return {place for match in LINK_UP.finditer(text) if (place := _outside(match, folder)) is not None}


def _outside(match: re.Match[str], folder: Path) -> str | None:
    target = (REPOSITORY / "docs" / folder / match[1]).resolve()
    if target.is_relative_to(REPOSITORY / "docs"):
        return None
    return str(target.relative_to(REPOSITORY))


def _in_site(place: str) -> str:
    # A page from elsewhere is shown as text: its own links have no targets in the site.
    return f"repository/{place.removesuffix('.md')}.txt" if place.endswith(".md") else f"repository/{place}"
