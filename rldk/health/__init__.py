"""Is the run well? Rules over what it logs, its resources and its checkpoints."""
