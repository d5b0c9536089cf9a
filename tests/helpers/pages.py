"""Reads the documentation: fenced blocks, the commands in them, inline code and links."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.commands import REPOSITORY

PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md")))

# Blocks of other languages hold no commands.
_LANGUAGES = {"bash", "python", "csv", "mermaid", "text"}
_PROGRAMS = ("python", "make", "tensorboard", "srun", "pip", "git", "affect-")


@dataclass(frozen=True)
class Fence:
    """One fenced block.

    Attributes:
      line: line of its opening, from 1.
      language: first word after the backticks.
      options: the other words, `name=value`.
      text: its content.
    """

    line: int
    language: str
    options: dict[str, str]
    text: str

    @property
    def not_run(self) -> str:
        """The reason why the commands cannot run in a test; empty if they can."""
        return self.options.get("not-run", "")

    def commands(self) -> list[list[str]]:
        """The commands of a bash block as lists of words, without comments; a backslash joins lines."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def read_page(page: str) -> str:
    """The text of a page, by its path in the repository."""
    return (REPOSITORY / page).read_text(encoding="utf-8")


def fences(text: str) -> list[Fence]:
    """All fenced blocks of a page, in order."""
    found = []
    for match in re.finditer(r"^```(\S*)([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        options = dict(word.partition("=")[::2] for word in match[2].split())
        found.append(Fence(text[: match.start()].count("\n") + 1, match[1], options, match[3]))
    return found


def fence_faults(text: str) -> list[str]:
    """Blocks that are neither commands nor of a known language, and commands outside of blocks."""
    faults = []
    for fence in fences(text):
        if fence.language not in _LANGUAGES:
            faults.append(f"line {fence.line}: unknown language {fence.language!r}")
        elif fence.language == "text" and re.search(rf"^({'|'.join(_PROGRAMS)})", fence.text, re.MULTILINE):
            faults.append(f"line {fence.line}: a command in a block of text")
        elif fence.language == "bash" and "not-run" not in fence.options:
            for words in fence.commands():
                if words[0] != "python":
                    faults.append(f"line {fence.line}: {words[0]} cannot run in a test; give a reason: not-run=...")
    inline = inline_code(text)
    return faults + [f"`{code}`: a command outside of a block" for code in inline if re.match(r"python (-m )?\S", code)]


def prose(text: str) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def inline_code(text: str) -> list[str]:
    """All inline code of a page."""
    return re.findall(r"`([^`\n]+)`", prose(text))


def headings(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def link_faults(text: str, folder: Path) -> list[str]:
    """Relative links of a page that lead to no file, or to no heading of it; `folder` is that of the page."""
    faults = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"\w+://", target):
            continue
        path, _, anchor = target.partition("#")
        file = folder / path if path else None
        if file is not None and not file.exists():
            faults.append(f"{target}: no such file")
        elif anchor and anchor not in headings(file.read_text(encoding="utf-8") if file is not None else text):
            faults.append(f"{target}: no such heading")
    return faults
