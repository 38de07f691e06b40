"""The fenced code blocks of a page, with the line that each begins in."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def blocks_of(page: Path, *languages: str) -> list[Block]:
    text = page.read_text()
    found = [
        Block(page, text[: match.start(3)].count("\n"), match[2], dedent(match[3])) for match in FENCE.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


def all_blocks(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page, *languages)]


def run_python(page: Path, names: dict[str, object], replaced: dict[str, str] | None = None) -> dict[str, object]:
    """What the page's Python blocks, run one after another, leave in ``names``."""
    for block in blocks_of(page, "python"):
        text = block.text
        for old, new in (replaced or {}).items():
            text = text.replace(old, new)
        exec(compile("\n" * block.line + text, page, "exec"), names)  # so that a traceback shows the page's own line
    return names


def lines_of(block: Block) -> list[str]:
    """The commands of a shell block as they stand, one a line; of a ``console`` block, those behind its prompts."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [line for line in lines if line.strip() and not line.startswith("#")]


def commands_of(block: Block) -> Iterator[list[str]]:
    """The words of each program's call in a shell block, those of a pipe one by one, without where output goes."""
    for line in lines_of(block):
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, "|"]:
            if set(word) <= set("|&;<>"):
                if words and not words[0].startswith(">"):
                    yield words
                words = [word] if word[0] in "<>" else []
            else:
                words.append(word)
