# ruff: noqa: INP001 - docs/ holds pages, no package
"""How the documentation is built: `sphinx-build -W --keep-going -n -b html docs docs/_build`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bridges")]

from rldk import bridge, sync  # noqa: E402  # found by the line above
from rldk._version import __version__ as release  # noqa: E402
from rldk.delivery import DeliveryReport  # noqa: E402

# autodoc asks for names that are imported for type checkers alone
vars(bridge).update(Mapping=Mapping)
vars(sync).update(DeliveryReport=DeliveryReport)

project = "RLDK"
author = "The RLDK authors"
project_copyright = f"2026, {author}"
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "README_draft.md"]
nitpicky = True
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
    """Have links to texts beside docs/, such as an example's README, offer the file: they are no pages."""
    app.connect("source-read", _offer_files)


def _offer_files(app: Sphinx, page: str, source: list[str]) -> None:
    del app, page
    source[0] = re.sub(r"\]\((\.\./[^)#]+\.md)\)", r"](path:\1)", source[0])
