"""How RLDK hangs into other libraries."""
