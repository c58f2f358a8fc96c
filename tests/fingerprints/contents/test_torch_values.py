"""Tensors of all kinds count by their elements."""

import copy

import pytest
import torch

from eeipu.fingerprints.values import digest

IMAGES = torch.arange(120.0).reshape(2, 3, 4, 5)


def quantised():
    by_tensor = [(0.1, 0, torch.qint8), (0.2, 0, torch.qint8), (0.1, 1, torch.qint8)]
    steps = torch.tensor([0.1, 0.2]), torch.zeros(2)
    return [
        *(torch.quantize_per_tensor(torch.ones(4), *each) for each in by_tensor),
        torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.quint8),
        *(torch.quantize_per_channel(torch.ones(2, 2), *steps, i, torch.qint8) for i in (0, 1)),
    ]


def nested(*lengths, **options):
    return torch.nested.nested_tensor([torch.arange(float(n)) for n in lengths], **options)


@pytest.mark.parametrize("images", [IMAGES, IMAGES[:, :, ::2], IMAGES[:1], IMAGES[:, :, None]])
def test_the_memory_format_of_images_counts(images):
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    last = images.contiguous(memory_format=formats[images.dim()])
    assert digest(last) != digest(images)
    assert digest(last) == digest(last.clone())
    assert digest(images) == digest(images.contiguous())


@pytest.mark.parametrize("tensor", [torch.ones(3).expand(4, 3), torch.ones(3, 1).expand(3, 4)])
def test_a_repeated_tensor_counts_like_its_copy(tensor):
    assert digest(tensor) == digest(tensor.clone())


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:TypedStorage")
def test_quantised_tensors_count_by_their_integers_and_scales():
    found = [digest(each) for each in quantised()]
    assert len(set(found)) == len(found)
    assert found == [digest(copy.deepcopy(each)) for each in quantised()]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_count_by_their_tensors():
    values = [nested(1, 2), nested(2, 1), nested(3), nested(1, 2, dtype=torch.float64)]
    values.append(nested(1, 2, requires_grad=True))
    found = [digest(each) for each in values]
    assert len(set(found)) == len(found)
    assert found[0] == digest(nested(1, 2))


def test_whether_a_tensor_was_made_in_inference_mode_counts():
    """It refuses to be changed, and to be a part of what gradients flow through."""
    with torch.inference_mode():
        tensor = torch.arange(3.0)
    assert digest(tensor) != digest(torch.arange(3.0))
