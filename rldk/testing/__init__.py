"""What those who build on RLDK test with: doubles, and the suite that every bridge must pass.

The doubles are here. The rest needs `hypothesis`, and pandas, and is imported by its own name:
`rldk.testing.conformance` for the suite, `rldk.testing.law` for the law that it tests,
`rldk.testing.runs` for the runs that it is tested with.
"""

from rldk.testing.doubles import ManualClock, MemorySink

__all__ = ["ManualClock", "MemorySink"]
