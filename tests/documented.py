"""What the documents tell a reader to type: the commands and the Python snippets."""

import ast
import re
import shlex

from conftest import ROOT

PAGES = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
DOCUMENTS = ("README.md", "checkpoints/README.md", "examples/README.md", *PAGES)
SCRIPTS = ("scripts/*.py", "examples/*.py", "benchmarks/*/*.py", "fuzzing/*.py")


def snippets(document, language):
    """The fenced blocks of one language."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


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
    for pattern in SCRIPTS:
        for path in sorted(ROOT.glob(pattern)):
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
