"""What does RLDK cost, and how fast is it? Each file here answers one part of it, beside a peer."""
