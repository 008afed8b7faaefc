"""Segments of the last few steps (METHOD.md, "Relations")."""
import collections
import dataclasses
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from spml.segsort.segments import Segments


class MemoryBank:
    """A queue of at most `size` steps' segments, detached.

    Args:
        size: steps kept; 0 keeps none.
        images_per_step: B * W, by which the image ids of older entries are shifted so that no two images share one.
    """

    def __init__(self, size: int, images_per_step: int) -> None:
        self.images_per_step = images_per_step
        self.steps: collections.deque[Segments] = collections.deque(maxlen=size)

    def append(self, segments: Segments) -> None:
        """Store a step's segments; the oldest step leaves when the bank is full."""
        for step in self.steps:
            step.image = step.image + self.images_per_step
        self.steps.append(segments.map(lambda field: field.detach()))

    def extend(self, segments: Segments) -> Segments:
        """Return `segments` followed by those of the bank; the bank's image ids start after this step's."""
        return Segments.cat([segments, *(dataclasses.replace(step, image=step.image + self.images_per_step)
                                         for step in self.steps)])

    def state_dict(self) -> list[dict[str, Tensor]]:
        """Return plain tensors, for a snapshot."""
        return [dataclasses.asdict(step) for step in self.steps]

    def load_state_dict(self, state: Iterable[Mapping[str, Tensor]], device: torch.device | None = None) -> None:
        """Restore what `state_dict` returned."""
        self.steps.clear()
        self.steps.extend(Segments(**step).map(lambda field: field.to(device)) for step in state)
