"""The first hour is as docs/quickstart.md tells it: each block runs and prints what stands behind it."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from tests.docs._pages import ROOT

SEEN = 'the page shows\n{shown}\nbut "{code}" printed\n{printed}'


@pytest.fixture(scope="module")
def quickstart():
    """The script that plays the page."""
    spec = importlib.util.spec_from_file_location("quickstart", ROOT / "tools" / "quickstart.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["quickstart"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["quickstart"]


@pytest.mark.real
@pytest.mark.timeout(1200)
def test_the_first_hour(quickstart):
    """Where this fails and the new output is right, run `python tools/quickstart.py --write`."""
    _, differences = quickstart.played(quickstart.PAGE.read_text(encoding="utf-8"))
    assert [SEEN.format(**each._asdict()) for each in differences] == []


def test_an_output_that_has_changed_is_found(quickstart):
    """A page that shows what is not printed differs; one that shows another time or number does not."""
    page = "```bash\necho epoch 1 took 2.51 s\n```\n\n```text\nepoch {} took 3.07 s\n```\n"
    assert quickstart.played(page.format(1))[1] == []
    renewed, (difference,) = quickstart.played(page.format(2))
    assert (difference.shown, difference.printed) == ("epoch 2 took 3.07 s\n", "epoch 1 took 2.51 s\n")
    assert renewed == page.format(1).replace("3.07", "2.51")


def test_a_block_that_prints_what_the_page_does_not_show_is_found(quickstart):
    """Nothing is printed that the reader is not shown."""
    page = "```bash\necho here\n```\n"
    renewed, (difference,) = quickstart.played(page)
    assert (difference.shown, difference.printed) == ("", "here\n")
    assert renewed == page + "\n```text\nhere\n```\n"


def test_a_run_has_another_id_each_time(quickstart):
    """What the page calls a run is, in the commands that follow, the run that was made."""
    name = "offline-run-20261125_101500-abcd1234"
    page = f"""```bash
mkdir -p wandb/offline-run-20261126_111600-efgh5678; ls wandb
```

```text
{name}
```

```bash
cd wandb/{name} && basename "$PWD"
```

```text
{name}
```
"""
    renewed, differences = quickstart.played(page)
    assert differences == []
    assert renewed == page.replace(name, "offline-run-20261126_111600-efgh5678")


def test_an_id_in_a_table_is_an_id(quickstart):
    """A run that no path has named yet, and a folder whose name is cut."""
    one, other = (
        f"│ {run} │ GRPO │\n offline-run-20261125_18360{run[0]}-{run[:4]}…"
        for run in ("1abcdefg", "2bcdefgh")
    )
    assert quickstart.alike(one) == quickstart.alike(other) != quickstart.alike(one.replace("GRPO", "DPO"))


def test_a_file_is_changed_where_it_has_the_lines(quickstart):
    """A diff that does not fit the file is an error, and no change in silence."""
    made = "<!-- run: file=a.txt -->\n```python\none\ntwo\n```\n"
    page = made + "\n<!-- run: edit=a.txt -->\n```diff\n{} one\n+half\n```\n"
    shown = "\n```bash\ncat a.txt\n```\n\n```text\none\nhalf\ntwo\n```\n"
    assert quickstart.played(page.format("") + shown)[1] == []
    with pytest.raises(RuntimeError, match="0 times, not once"):
        quickstart.played(page.format(" zero\n"))


def test_a_command_that_fails_is_found(quickstart):
    """A block goes on to its end, or is an error, unless the page tells how it ends."""
    page = "```bash\nfalse\necho here\n```\n"
    with pytest.raises(RuntimeError, match="ends with code 1"):
        quickstart.played(page)
    assert quickstart.played(f"<!-- run: exit=1 -->\n{page}") == (f"<!-- run: exit=1 -->\n{page}", [])
