"""What is watched beside the trainer's own numbers."""
