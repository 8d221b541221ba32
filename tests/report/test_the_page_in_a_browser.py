"""A real browser shows the page whole: nothing overlaps, overflows, is loaded or is complained of."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rldk.bridge import Home
from rldk.delivery import DeliveryReport
from rldk.report.documents import final_report
from rldk.report.page import page
from rldk.report.story import Story
from tests.report._runs import eventful

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
]

# The page is measured where trackers show it: in a frame in which no script runs
HARNESS = """<!doctype html><body style="margin:0"><script>
const found = {};
function overlaps(doc) {
  const told = [];
  for (const svg of doc.querySelectorAll("svg")) {
    const texts = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
    const frame = svg.getBoundingClientRect();
    for (const [name, a] of texts) {
      if (a.left < frame.left - 1 || a.right > frame.right + 1 ||
          a.top < frame.top - 1 || a.bottom > frame.bottom + 1)
        told.push(name + " is cut off");
      for (const [other, b] of texts)
        if (name < other || (name === other && a.left < b.left))
          if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2)
            told.push(name + " overlaps " + other);
    }
  }
  return told;
}
async function look() {
  for (const scheme of ["light", "dark"]) for (const width of [1280, 400]) {
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-same-origin";
    frame.style = `border:0; height:900px; width:${width}px; color-scheme:${scheme}`;
    frame.src = "page.html";
    document.body.append(frame);
    await new Promise(done => frame.onload = done);
    const doc = frame.contentDocument, style = frame.contentWindow.getComputedStyle;
    const texts = [...doc.querySelectorAll("svg text")];
    const size = t => parseFloat(style(t).fontSize) * t.ownerSVGElement.getBoundingClientRect().width /
      t.ownerSVGElement.viewBox.baseVal.width;
    found[scheme + " " + width] = {
      overflow: doc.documentElement.scrollWidth - width,
      overlaps: overlaps(doc),
      smallest: Math.min(...texts.map(size)),
      loaded: frame.contentWindow.performance.getEntriesByType("resource").map(e => e.name),
      back: style(doc.body).backgroundColor, ink: style(texts[0]).fill,
      figures: doc.querySelectorAll("svg").length,
    };
  }
  const text = document.createElement("pre");
  text.id = "found"; text.textContent = JSON.stringify(found);
  document.body.replaceChildren(text);
}
look();
</script>"""


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """What a browser finds at two widths, light and dark, and what it says on its console."""
    folder = tmp_path_factory.mktemp("page")
    story = Story.of(eventful("a-run-with-a-long-name-" + "x" * 80))
    home = Home("mlflow", "1", "runs:/1", "https://mlflow.example/" + "y" * 90)
    deliveries = [DeliveryReport("mlflow", home, 12, 0, 0, True, ())]  # noqa: FBT003
    (folder / "page.html").write_bytes(page(story, final_report(story, deliveries=deliveries)))
    (folder / "harness.html").write_text(HARNESS)
    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet.at(folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield browsed(f"http://127.0.0.1:{server.server_port}/harness.html", folder)
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing."""

    @classmethod
    def at(cls, folder):
        """The handler for a folder."""
        return partial(cls, directory=str(folder))

    def log_message(self, *_):
        """Nothing."""


def browsed(address, folder):
    """Open a page in a browser without a window; give what it found, and the lines of its console."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    options += ["--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom"]
    done = subprocess.run(
        [CHROMIUM, *options, address], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:]
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "favicon" not in line]
    return json.loads(html.unescape(found[1])), said


def test_nothing_is_complained_of(looked):
    """No error and no warning, such as one of the content security policy."""
    assert looked[1] == []


def test_nothing_is_loaded(looked):
    """The page is one file."""
    assert [seen["loaded"] for seen in looked[0].values()] == [[]] * 4


def test_the_page_is_as_wide_as_the_window(looked):
    """Down to 400 pixels."""
    assert all(seen["overflow"] <= 0 for seen in looked[0].values()), looked[0]


def test_no_text_of_a_plot_overlaps_another_or_is_cut_off(looked):
    """Ticks, units and the numbers of alerts; and they stay readable."""
    assert [seen["overlaps"] for seen in looked[0].values()] == [[]] * 4
    assert all(seen["figures"] > 5 and seen["smallest"] > 8.5 for seen in looked[0].values())


def test_light_and_dark_are_the_browser_s(looked):
    """Text and plots change with it."""
    for width in (1280, 400):
        light, dark = looked[0][f"light {width}"], looked[0][f"dark {width}"]
        assert light["back"] == "rgb(255, 255, 255)"
        assert dark["back"] != light["back"]
        assert dark["ink"] != light["ink"]
