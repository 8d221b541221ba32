"""What do trainers leave out that a hook can measure?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rldk.redact import logger

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

_logger = logger(__name__)


class GradientNorm:
    """The L2 norm of all gradients at an optimizer's last step, before the step.

    PPO logs none. The norm stays on its device until it is asked for, so that a step waits for
    nothing.

    Args:
        optimizer: A torch optimizer, or accelerate's wrapper of one.
    """

    def __init__(self, optimizer: Any) -> None:  # noqa: ANN401  # accelerate's wrapper is no torch optimizer
        self._norm: Tensor | None = None
        self._handle = getattr(optimizer, "optimizer", optimizer).register_step_pre_hook(self._measure)

    def take(self) -> float | None:
        """Give the norm of the last step, once; None where there was no step since."""
        norm, self._norm = self._norm, None
        return None if norm is None else float(norm.item())

    def stop(self) -> None:
        """Remove the hook."""
        self._handle.remove()

    def _measure(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        del args, kwargs
        torch = sys.modules["torch"]
        parameters = (p for group in optimizer.param_groups for p in group["params"])
        gradients = [p.grad for p in parameters if p.grad is not None]
        try:
            norms = torch._foreach_norm(gradients) if gradients else []  # noqa: SLF001  # as torch's clip_grad_norm_
            self._norm = torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms]))
        except (RuntimeError, IndexError) as error:
            _logger.warning("the gradient norm cannot be measured: %s", error)
            self.stop()
