"""What users build on changes only on purpose: names, signatures, formats, commands, settings.

`tests/release/api.txt` is the promised interface. After a change that is meant, accept it with
`python tools/api_surface.py --write`, tell of it in CHANGELOG.md, and see docs/api.md on what needs a
deprecation first.
"""

from __future__ import annotations

import importlib
import re
from functools import partial
from importlib.util import find_spec

import griffe
import pytest

from tests.release.conftest import ROOT
from tools import api_surface

PAGE = (ROOT / "docs" / "api.md").read_text()


def test_it_is_as_promised():
    """Else the difference is shown, with what to do."""
    found = api_surface.difference()
    assert not found, (
        f"the public interface has changed:\n{found}\n"
        "If that is meant: python tools/api_surface.py --write, and a line in CHANGELOG.md (docs/api.md)"
    )


def test_a_change_is_seen(monkeypatch):
    """An argument renamed, a name gone, a new command: each is a line of the difference."""
    promised = api_surface.surface()
    for old, new in [
        ("log(metrics:", "log(values:"),
        ("  encode(event", "  encoded(event"),
        ("rldk sync", "rldk send"),
    ]:
        assert old in promised
        changed = promised.replace(old, new)
        monkeypatch.setattr(api_surface, "surface", partial(str, changed))
        assert new in api_surface.difference()


@pytest.mark.parametrize("module", api_surface.PUBLIC)
def test_each_public_name_can_be_imported(module):
    """The file tells of the code as it is read; this is the code as it runs."""
    if "trl" in module and find_spec("trl") is None:
        pytest.skip("TRL is not installed")
    loaded = importlib.import_module(module)
    names = api_surface.PUBLIC[module]
    wanted = names if names != api_surface.EVERYTHING else getattr(loaded, "__all__", ())
    assert not [name for name in wanted if not hasattr(loaded, name)]


def test_the_event_has_its_seven_fields():
    """The public schema, whatever else changes: step to notes, in this order, and version 1."""
    told = api_surface.surface()
    assert "fields of an event: step, wall_time, metrics, rng, data_slice, model_info, notes\n" in told
    assert "version of the journal's events: 1\n" in told


def test_the_page_names_each_public_module():
    """docs/api.md and the tool agree on what is public."""
    assert re.findall(r"^\| `(rldk[\w.]*)` \|", PAGE, re.MULTILINE) == list(api_surface.PUBLIC)


def test_everything_public_tells_what_it_is():
    """Each class and function has a docstring."""
    package = griffe.load("rldk", search_paths=[str(ROOT)], allow_inspection=False)
    silent = []
    for module, names in api_surface.PUBLIC.items():
        found = package if module == "rldk" else package[module.removeprefix("rldk.")]
        for name in names if names != api_surface.EVERYTHING else found.members:
            member = found[name]
            member = member.final_target if member.is_alias and names != api_surface.EVERYTHING else member
            if member.is_alias or name.startswith("_") or not (member.is_class or member.is_function):
                continue
            documented = member.docstring or any(each.docstring for each in member.overloads or ())
            silent += [] if documented else [f"{module}.{name}"]
    assert silent == []
