"""The documentation builds without a warning, and what it points to is there.

Links to other sites are not followed: the tests need no network. They are well-formed, and https.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
import typer

from rldk.cli import app
from tests.docs._pages import PAGES, ROOT, anchors, blocks, commands, links, spans, text_of

FOLDERS = ("bridges", "benchmarks", "constraints", "docker", "docs", "examples", "rldk", "tests", "tools")
PATH = re.compile(rf"(?:{'|'.join(FOLDERS)})/[\w./\-]*\w")
LOOPBACK = {"127.0.0.1", "localhost"}
MISUSE = typer.BadParameter.__base__  # click's own, or the one that typer brings
TOLD_IN_PART = {
    "MissingParameter",
    "BadOptionUsage",
    "NoArgsIsHelpError",
}  # `rldk check --rules` in a sentence
OF_THE_READER = re.compile(r"rldk/\w+_events\.jsonl|docker/\.env")
GROUP = typer.main.get_command(app)


def test_the_site_builds_without_a_warning(tmp_path):
    """Every page is in a table of contents, every reference resolves, every docstring is well-formed."""
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html"]
    done = subprocess.run(
        [*build, ROOT / "docs", tmp_path / "site"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert pages <= {page.stem for page in (tmp_path / "site").glob("*.html")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Files exist, and so do the headings that a link goes to; other sites' addresses are well-formed."""
    assert [target for target in links(page) if not leads_somewhere(page, target)] == []


def leads_somewhere(page, target):
    """Whether a link's target is there, or, on another site, could be."""
    address = urlsplit(target)
    if address.scheme:
        is_web = address.scheme == "https" or address.hostname in LOOPBACK or address.scheme == "mailto"
        return is_web and bool((address.hostname and "." in address.hostname) or address.hostname in LOOPBACK)
    file = (page.parent / address.path).resolve() if address.path else page
    if not file.exists():
        return False
    return not address.fragment or (file.suffix == ".md" and address.fragment in anchors(file))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    """A path of the repository in a sentence is a path, and a test behind `::` is a test."""
    missing = []
    for span in spans(page):
        path, _, test = span.partition("::")
        is_file = (
            PATH.fullmatch(path) and "." in path.rpartition("/")[2] and not OF_THE_READER.fullmatch(path)
        )
        if is_file and not is_there(path, test):
            missing.append(span)
    assert missing == []


def is_there(path, test):
    """Whether the file is there, and the test in it."""
    file = ROOT / path
    if not file.exists():
        return False
    return not test or any(
        isinstance(node, ast.FunctionDef) and node.name == test for node in ast.walk(ast.parse(text_of(file)))
    )


@pytest.mark.parametrize("block", blocks("python", "py"), ids=lambda block: f"{block.page}:{block.line}")
def test_python_compiles(block):
    """A block of Python can be pasted."""
    compile(block.code, block.page, "exec", ast.PyCF_ONLY_AST)


def test_commands_are_understood():
    """Each `rldk ...` names a command that is there, with options that it takes."""
    told = commands()
    assert len(told) > 50  # that they are found at all
    assert [
        f"{page}: rldk {' '.join(words)}: {why}" for page, words in told if (why := complaint(words))
    ] == []


def complaint(words):
    """What the command line says against the words; None where it takes them."""
    if not words or words[0].startswith("-") or words[0] in {"...", "COMMAND"}:
        return None
    if words[0] not in GROUP.commands:
        return "no such command"
    try:
        GROUP.commands[words[0]].make_context(words[0], list(words[1:]))
    except typer.Exit:
        return None
    except MISUSE as error:
        return None if type(error).__name__ in TOLD_IN_PART else error.format_message()
    return None


@pytest.mark.parametrize(
    "target",
    ["nowhere.md", "health.md#nothing", "#nothing", "http://example.com", "https://nowhere", "ftp://a.b"],
)
def test_a_link_that_leads_nowhere_is_found(target):
    """The examination has teeth: files, anchors, and other sites' addresses."""
    assert leads_somewhere(ROOT / "docs" / "guide.md", "health.md#how-the-rules-judge")
    assert not leads_somewhere(ROOT / "docs" / "guide.md", target)


@pytest.mark.parametrize(
    "line", ["destroy x", "check x --bogus", "check x --fail-on sometimes", "sync x --patience soon"]
)
def test_a_command_that_is_not_understood_is_found(line):
    """A command that is gone, an option that was renamed, a value that is not taken."""
    assert complaint(["check", "x", "--fail-on", "never"]) is None
    assert complaint(line.split())


def test_a_test_that_is_gone_is_found():
    """By its file and by its name."""
    assert is_there("tests/docs/test_docs_build.py", "test_a_test_that_is_gone_is_found")
    assert not is_there("tests/docs/test_docs_build.py", "test_gone")
    assert not is_there("tests/docs/test_gone.py", "")
