"""What the outputs of a network's layers are worth: to its own output, or to what is next."""

from __future__ import annotations

from collections.abc import Sequence

from ..request import CompressionConfig
from ..running import Progress
from ..survey import Subject
from .gradients import importances
from .importance import Importance, scaling
from .looking import Looking
from .visit import Look


def weighed(
    subject: Subject, config: CompressionConfig, progress: Progress, looks: Sequence[Look] = ()
) -> Importance:
    """By the gradients of the network's output, and the normalisations after the layers.

    The looks see the run that the gradients take; there is none where these are not asked for.
    """
    found, batches = Importance(), subject.pieces
    if config.objective == "measured":
        looking = Looking(subject.layers, looks, len(batches), config.memory, config.seed)
        over = progress.over(batches, "importance")
        found = importances(
            subject.model, subject.layers, over, config.seed, config.memory, looking
        )
    else:
        for look in looks:
            look.forget()
    for layer in subject.layers:
        if layer.follower is not None:
            follower = subject.model.get_submodule(layer.follower)
            found.gains[layer.name] = scaling(follower, layer.config.groups)
    return found
