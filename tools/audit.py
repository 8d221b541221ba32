# ruff: noqa: INP001 - tools/ holds scripts, no package
"""Ask a vulnerability service about every pinned package: `make audit`.

pip-audit by itself calls it a success where the service knows none of the packages, as behind a proxy that
answers 404 to everything. Here a package that could not be asked about is a failure of its own.

Exit codes: 0 no known vulnerability, 1 there are some, 3 not every package could be asked about.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[1]
FOUND, UNHEARD = 1, 3
_NAMES_SHOWN = 5
_PATIENCE_S = 900


def main(words: list[str] | None = None) -> int:
    """Audit files of pins; say what was found on stdout, and what could not be done on stderr."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pins", nargs="*", type=Path, default=[HOME / "constraints" / "main.txt"])
    parser.add_argument("--osv-url", help="Ask this service, such as a mirror of OSV, and not PyPI.")
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="rldk-audit-") as folder:
        told, said = audit(given.pins, Path(folder) / "audit.json", given.osv_url)
    return tell(told, said)


def audit(pins: list[Path], out: Path, osv_url: str | None) -> tuple[list[dict[str, Any]], str]:
    """Have pip-audit ask; give what it tells of each package, and its last words where it tells nothing."""
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    command += ["--format", "json", "--output", str(out)]
    command += [part for path in pins for part in ("--requirement", str(path))]
    command += ["--vulnerability-service", "osv", "--osv-url", osv_url] if osv_url else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)  # noqa: S603  # a module, no shell
    except subprocess.TimeoutExpired:
        return [], f"no answer within {_PATIENCE_S} s"
    told = json.loads(out.read_text())["dependencies"] if out.exists() and out.stat().st_size else []
    return told, (done.stderr.strip().splitlines() or ["it said nothing"])[-1]


def tell(told: list[dict[str, Any]], said: str) -> int:
    """Say what there is to say, and give the exit code."""
    asked = [each for each in told if "skip_reason" not in each]
    names = [each["name"] for each in told if "skip_reason" in each]
    for each in asked:
        for one in each["vulns"]:
            fixed = ", ".join(one["fix_versions"]) or "none yet"
            sys.stdout.write(f"{each['name']} {each['version']}: {one['id']}, fixed in {fixed}\n")
    if not told:
        sys.stderr.write(f"audit: pip-audit gave no answer ({said}); it needs the network, or --osv-url\n")
    if names:
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        shown = ", ".join(names[:_NAMES_SHOWN]) + more
        why = "the service does not answer, or does not know them"
        sys.stderr.write(
            f"audit: of {len(told)} packages {len(names)} could not be asked about: {shown}; {why}\n"
        )
    if any(each["vulns"] for each in asked):
        return FOUND
    if names or not told:
        return UNHEARD
    sys.stdout.write(f"no known vulnerability in {len(asked)} packages\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
