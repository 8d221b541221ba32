# ruff: noqa: INP001 - docs/ holds pages, no package
"""How the documentation is built: `sphinx-build -W --keep-going -n -b html docs docs/_build`."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.util.inspect import signature, stringify_signature

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bridges")]

from rldk._version import __version__ as release  # noqa: E402  # found by the line above


def _know_types(name: str) -> None:
    """Give a module the names that it imports for type checkers alone: autodoc asks for them."""
    module = import_module(name)
    blocks = [node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.If)]
    for node in (line for block in blocks for line in block.body if isinstance(line, ast.ImportFrom)):
        source = import_module(str(node.module))
        vars(module).update({alias.name: getattr(source, alias.name) for alias in node.names})


for each in ("rldk.bridge", "rldk.delivery", "rldk.sync"):
    _know_types(each)

project = "RLDK"
author = "The RLDK authors"
project_copyright = f"2026, {author}"
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
default_role = "code"
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore = [("py:class", "rldk.delivery.DeliveryReport")]  # shown as rldk.sync's, which is public
nitpick_ignore_regex = [("py:.*", r"(?!rldk\.).*")]  # other packages' pages are not at hand, ours are

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # headings have the anchors that they have on GitHub

autodoc_mock_imports = ["torch", "transformers", "trl", "datasets", "accelerate", "mlflow", "wandb"]
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"RLDK {release}"
html_static_path = ["_static"]
html_css_files = ["rldk.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}


def setup(app: Sphinx) -> None:
    """Connect what Sphinx cannot know by itself."""
    app.connect("source-read", _offer_files)
    app.connect("autodoc-process-signature", _sign)


def _offer_files(app: Sphinx, page: str, source: list[str]) -> None:
    """Have links to texts beside docs/, such as an example's README, offer the file: they are no pages."""
    del app, page
    source[0] = re.sub(r"\]\((\.\./[^)#]+\.md)\)", r"](path:\1)", source[0])


def _sign(app: Sphinx, what: str, name: str, *described: object) -> tuple[str, str] | None:
    """Give a class whose base is not imported here the signature that it has by itself."""
    del app, name
    if what != "class" or described[2] != "(*args: Any, **kwargs: Any)":
        return None
    return stringify_signature(
        signature(described[0].__init__, bound_method=True), show_return_annotation=False
    ), ""
