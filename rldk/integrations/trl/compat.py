"""Do the installed libraries work together?"""

from __future__ import annotations

from rldk.versions import complaint

__all__ = ["complaint"]
