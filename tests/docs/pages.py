"""The documentation's pages: their code blocks, their prose, its sentences, and their links."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
HOME = "https://github.com/preference-harness/preference-harness"
PAGES = (
    "README.md",
    "recipes/README.md",
    "recipes/accelerate/README.md",
    "recipes/paper/README.md",
    "recipes/slurm/README.md",
    "leaderboards/README.md",
    ".github/actions/gate/README.md",
    "harness/README.md",
    "harness/boards/README.md",
    "harness/gate/README.md",
    "harness/models/README.md",
    "harness/servers/README.md",
    "harness/training/README.md",
    "harness/judging/README.md",
    "tests/README.md",
)
_FENCE = re.compile(r"^```([a-z]*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_ABBREVIATIONS = ("e.g.", "i.e.", "etc.", "vs.", "al.", "approx.", "eq.", "no.")


class Block(NamedTuple):
    """A fenced block: its page, its language (empty for none), its text, and the line that it starts on."""

    page: str
    language: str
    text: str
    line: int


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = text_of(page)
    every = [Block(page, m[1], m[2], text[: m.start()].count("\n") + 1) for m in _FENCE.finditer(text)]
    return [block for block in every if language is None or block.language == language]


def all_blocks(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page, language)]


def documents() -> Iterator[tuple[Block, dict[str, Any]]]:
    """The YAML blocks of all pages, with what they hold."""
    for block in all_blocks("yaml"):
        yield block, yaml.safe_load(block.text)


def judge_files() -> list[Block]:
    """The YAML blocks that are a judge's fields."""
    return [block for block, document in documents() if "name" in document and "reward" in document]


def commands(page: str) -> list[str]:
    """The command lines of a page's `sh` blocks; lines that end with a backslash are joined, comments left out."""
    lines = "\n".join(block.text for block in blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def spans(text: str) -> list[str]:
    """The inline code of a text."""
    return re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))


def sentences(text: str) -> list[str]:
    """The sentences of a page's prose: no code blocks, tables, headings or pictures; a code span is one word."""
    prose = _FENCE.sub("", text)
    prose = re.sub(r"^(?:\||#|!\[|<!--).*$", "", prose, flags=re.MULTILINE)
    prose = re.sub(r"`[^`\n]+`", "CODE", prose)
    prose = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", prose)
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:[-*>]|\d+\.) )", prose)
    found = []
    for paragraph in paragraphs:
        line = re.sub(r"^\s*(?:[-*>]|\d+\.) ", "", " ".join(paragraph.split()))
        found += _split(line)
    return [sentence for sentence in found if sentence]


def _split(line: str) -> list[str]:
    parts, start = [], 0
    for match in re.finditer(r"[.!?][)\"'*]* +(?=[A-Z0-9(\"'*$\[−-])", line):
        before = line[start : match.end()].split()
        if before and before[-1].lower().lstrip("(") in _ABBREVIATIONS:
            continue
        parts.append(line[start : match.end()].strip())
        start = match.end()
    return [*parts, line[start:].strip()]


def words(sentence: str) -> int:
    return len(re.findall(r"[\w$%€’'./×·=−-]*\w[\w$%’'./×·=−-]*", sentence))


def links(text: str) -> list[str]:
    """Targets of links and pictures, outside code."""
    return re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", re.sub(r"`[^`\n]+`", "", text)))


def anchors(text: str) -> set[str]:
    """What `#...` may point to: GitHub's names of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module or a folder, or a name that a module's file defines. Nothing is imported."""
    path = ROOT / dotted.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    file = path.parent.with_suffix(".py") if path.parent.with_suffix(".py").is_file() else path.parent / "__init__.py"
    return file.is_file() and path.name in _defined(ast.parse(file.read_text(encoding="utf-8")))


def _defined(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in [*tree.body, *(inner for outer in tree.body if isinstance(outer, ast.If) for inner in outer.body)]:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.asname or alias.name for alias in node.names}
    return names
