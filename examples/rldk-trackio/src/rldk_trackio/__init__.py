"""An RLDK bridge for trackio."""
