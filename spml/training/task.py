"""What a training consists of: the task, which differs between the two trainings, and what belongs to both."""
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import nn

from spml.training.optimizer import FoldedSGD


class Task(Protocol):
    """What a step of a training computes; an nn.Module, so that DistributedDataParallel can wrap it.

    Attributes:
        result: what the training ends with, as `spml.config.effective` names it.
        needs_regions: whether batches hold the over-segmentation.
        trains_all: whether every parameter gets a gradient in every step, if only of zeros.
        frozen: names of the `models` that stay as they were loaded.
        embedding, classifier: the EmbeddingNetwork and its SoftmaxClassifier.
    """

    result: str
    needs_regions: bool
    trains_all: bool
    frozen: tuple[str, ...]
    embedding: nn.Module
    classifier: nn.Module

    def __call__(self, batch: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return unweighted scalar losses by their names, and extras for the methods below and for pictures."""

    def train(self, mode: bool = True) -> Any:
        """Set the networks that learn to training mode, as nn.Module does."""

    def after_step(self, extras: dict[str, Any]) -> None:
        """Remember what later steps need; by default nothing."""

    def accuracy(self, extras: dict[str, Any]) -> torch.Tensor:
        """Return the scalar accuracy of a step."""

    def models(self) -> dict[str, nn.Module]:
        """Return the networks by their names in a checkpoint."""
        return {'embedding_model': self.embedding, 'prediction_model': self.classifier}

    def memory(self) -> list[Any]:
        """Return what a resume needs besides weights and momentum; by default nothing."""
        return []

    def load_memory(self, state: list[Any], device: torch.device) -> None:
        """Restore what `memory` returned."""


@dataclasses.dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        weights: dict from the name of a loss to its weight.
        make_loader: function from the first iteration to an iterable of batches, whose iterator can be closed.
        data: digest of the training list, noted in snapshots; None if it is not known.
    """

    task: Task
    optimizer: FoldedSGD
    weights: Mapping[str, float]
    make_loader: Callable[[int], Iterable[Any]]
    config: Any
    snapshot_dir: pathlib.Path
    device: torch.device
    data: str | None = None
