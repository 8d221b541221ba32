"""`python -m rldk` is the `rldk` command."""

from rldk.cli import app

app(prog_name="rldk")
