"""Train the weights of one unit, or of a few, and nothing else."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from memlight.features.discovery import evaluating

Loss = Callable[[int], Tensor]
"""Epoch, from 0 -> scalar loss, made by a forward of the encoder."""


def train_unit(
    encoder: nn.Module, loss: Loss, entries: Mapping[str, Tensor], *, epochs: int, lr: float = 1e-4
) -> Iterator[Tensor]:
    """Train chosen entries of an encoder's parameters; all its other numbers stay bit-identical.

    The entries are what Adam sees, as parameters of their own: no other entry has a moment, a decay or a step. It has
    no momentum (beta1 is 0): a unit that fires for one image alone has reached the end of its contrast, and momentum
    would carry it on until it fires for none and can learn no more.

    The encoder is in eval mode, so no statistic moves. Whoever asks for the next epoch may measure the encoder in
    between; it is given back in the mode, and with the ``requires_grad``, that it had.

    Args:
        encoder: trained in place.
        loss: called once an epoch.
        entries: `memlight.interventions.parts.unit_entries` of the units; masks of buffers are passed over.
        epochs: steps.
        lr: learning rate of Adam.

    Yields:
        The loss (0-d) of each epoch, once its step is made.

    Raises:
        ValueError: no parameter has an entry.
    """
    masks = {parameter: entries[name] for name, parameter in encoder.named_parameters() if name in entries}
    if not masks:
        raise ValueError("no parameter of the encoder is among the entries")
    before = [(parameter, parameter.requires_grad) for parameter in encoder.parameters()]
    trained = [nn.Parameter(parameter.detach()[mask]) for parameter, mask in masks.items()]
    optimizer = torch.optim.Adam(trained, lr=lr, betas=(0.0, 0.999))
    try:
        for parameter, _ in before:
            parameter.requires_grad_(parameter in masks)
        with evaluating(encoder):
            for epoch in range(epochs):
                with torch.enable_grad():
                    value = loss(epoch)
                    gradients = torch.autograd.grad(value, list(masks), allow_unused=True, materialize_grads=True)
                for entry, gradient, mask in zip(trained, gradients, masks.values(), strict=True):
                    entry.grad = gradient[mask]
                optimizer.step()
                with torch.no_grad():
                    for entry, (parameter, mask) in zip(trained, masks.items(), strict=True):
                        parameter[mask] = entry
                yield value.detach()
    finally:
        for parameter, wanted in before:
            parameter.requires_grad_(wanted)
