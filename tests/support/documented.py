"""What the documents tell a reader: the commands and Python snippets to type, and the links to follow."""

import ast
import re
import shlex

from support.paths import ROOT


def _found(*patterns):
    """Paths below the root of the project, as text."""
    return [path.relative_to(ROOT).as_posix() for pattern in patterns for path in sorted(ROOT.glob(pattern))]


# Documents whose commands and snippets are run or named with a reason.
DOCUMENTS = ("README.md", "CONTRIBUTING.md", *_found("[a-z]*/README.md", "docs/*.md"))
# Documents whose links are checked.
LINKED = sorted({*DOCUMENTS, "CHANGELOG.md", *_found("benchmarks/**/*.md", "examples/**/*.md", "fuzzing/**/*.md")})
SCRIPTS = ("scripts", "examples", "benchmarks", "fuzzing")

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def read(document):
    """The text of a document, a path below the root of the project."""
    return (ROOT / document).read_text(encoding="utf-8")


def languages(document):
    """The languages of the fenced blocks, in order."""
    return [language for language, _ in _FENCE.findall(read(document))]


def snippets(document, language):
    """The fenced blocks of one language."""
    return [text for name, text in _FENCE.findall(read(document)) if name == language]


def split(text):
    """The commands of lines of shell, each as a tuple of words; what the shell would expand is left as it is."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for words in (tuple(shlex.split(line, comments=True)) for line in lines) if words]


def of_documents():
    """The commands of the fenced blocks."""
    return [command for document in DOCUMENTS for text in snippets(document, "sh") for command in split(text)]


def of_docstrings():
    """The commands of the examples that `--help` shows."""
    found = []
    for folder in SCRIPTS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            examples = re.search(r"^Examples?:\n((?:  .*\n?)+)", docstring, re.MULTILINE)
            found += split(examples[1]) if examples else []
    return found


def of_python(commands):
    """Those that run a file of this project: (path of the file, its arguments)."""
    for command in commands:
        if command[0] not in ("python", ".venv/bin/python"):
            continue
        if command[1].endswith(".py"):
            yield command[1], command[2:]
        elif command[1] == "-m" and command[2].startswith("benchmarks."):
            yield f"{command[2].replace('.', '/')}.py", command[3:]


def links(path):
    """The targets of the links and pictures of a Markdown file, a `pathlib.Path`, but for those in code."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    # A link may have code as its text, so only the content of the code goes.
    return _LINK.findall(re.sub(r"`[^`\n]*`", "``", text))


def anchors(path):
    """The anchors that GitHub gives to the headings of a Markdown file."""
    found = []
    for heading in re.findall(r"^#{1,6} +(.+?) *$", _FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        count = sum(re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", other) is not None for other in found)
        found.append(f"{anchor}-{count}" if count else anchor)
    return found


def broken_links(path):
    """The relative links of a Markdown file that lead to no file, or to no heading in it."""
    broken = []
    for target in links(path):
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if re.match(r"[a-z]+:", target):
            continue
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    return broken
