"""Training that ends by the clock: what a machine gives in the time is what the model gets.

The learning rate follows the clock too, so a run of any length ends annealed. The price: two runs of the same
length differ, because the number of steps and each step's rate depend on the machine.
"""

import math
import time
from collections.abc import Iterator

import torch

FINAL_RATE_SHARE = 0.02
"""The learning rate never falls below this share of its peak."""


def steps_within(seconds: float) -> Iterator[tuple[int, float]]:
    """Yields (steps done, seconds gone) before each step until the time is over."""
    start = time.monotonic()
    step = 0
    while (elapsed := time.monotonic() - start) < seconds:
        yield step, elapsed
        step += 1


def set_learning_rate(
    optimizer: torch.optim.Optimizer,
    peak: float,
    warmup_steps: int,
    step: int,
    elapsed: float,
    seconds: float,
) -> None:
    """Sets the rate for a step: linear warm-up by steps, cosine decay by time."""
    warmup = min(1, (step + 1) / warmup_steps)
    decay = max(FINAL_RATE_SHARE, 0.5 * (1 + math.cos(math.pi * elapsed / seconds)))
    for group in optimizer.param_groups:
        group["lr"] = peak * warmup * decay
