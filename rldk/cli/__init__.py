"""What people type: the `rldk` command."""

from __future__ import annotations

from rldk.cli import check, demo, diff, explain, ingest, report, sync, tail, verify
from rldk.cli.app import app

__all__ = ["app", "check", "demo", "diff", "explain", "ingest", "report", "sync", "tail", "verify"]
