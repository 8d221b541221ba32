"""What people type: the `rldk` command."""

from __future__ import annotations

from rldk.cli import check, demo, diff, doctor, explain, ingest, report, sync, tail, verify
from rldk.cli.app import app

__all__ = ["app", "check", "demo", "diff", "doctor", "explain", "ingest", "report", "sync", "tail", "verify"]
