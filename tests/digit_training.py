"""What a README example of torch training leaves to its reader: small, and for worker processes."""

import torch
from torch import nn

from eeipu import Int, stage

data = torch.arange(48.0).reshape(24, 2) / 48


@stage(space={"shift": Int(0, 1)}, version="1")
def embed(values, *, shift):
    return values + shift


def make_model():
    return nn.Linear(2, 2)


def make_optimizer(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def make_loaders(values, batch_size):
    targets = (values.sum(1) > values.sum(1).median()).long()
    pairs = torch.utils.data.TensorDataset(values, targets)
    return (
        torch.utils.data.DataLoader(pairs, batch_size, shuffle=True),
        torch.utils.data.DataLoader(pairs, 24),
    )
