"""Readers of the files in which runs are kept."""
