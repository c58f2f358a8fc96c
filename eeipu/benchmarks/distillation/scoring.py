"""Scores of a student: its validation loss, and the ROUGE-L of the summaries that it writes."""

from collections.abc import Sequence
from typing import Any

import torch

from eeipu.benchmarks.distillation.batches import IGNORED, Batch
from eeipu.benchmarks.distillation.training import label_loss

__all__ = ["rouge_l", "summaries", "validation_loss"]


def validation_loss(model: Any, batches: Sequence[Batch]) -> float:
    """The mean cross-entropy of a token of reference summaries, in nats, without dropout.

    Args:
        model: A network, on the device of the batches.
        batches: The validation pairs.
    """
    total = count = 0.0
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            tokens = (batch.labels != IGNORED).sum().item()
            total += label_loss(batch, model(**batch.inputs).logits).item() * tokens
            count += tokens
    return total / count


def summaries(model: Any, batches: Sequence[Batch], tokenizer: Any, most: int) -> list[str]:
    """Write a summary of each text, always with the most probable next token.

    Args:
        model: A network, on the device of the batches.
        batches: The texts.
        tokenizer: A tokenizer of `transformers`.
        most: The maximal number of tokens of a summary.
    """
    model.eval()
    written: list[str] = []
    for batch in batches:
        tokens = model.generate(
            input_ids=batch.text,
            attention_mask=batch.mask,
            max_new_tokens=most,
            do_sample=False,
            num_beams=1,
        )
        written += tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return written


def rouge_l(written: str, reference: str) -> float:
    """ROUGE-L: the F-measure, from 0 to 1, of the longest common subsequence of words.

    Lin 2004, "ROUGE: a package for automatic evaluation of summaries", section 3, with equal
    weights of precision and recall. Texts are split into words at spaces, in lower case.

    >>> rouge_l("the cat sat", "The cat on the mat sat")
    0.6666666666666666
    """
    ours, theirs = written.lower().split(), reference.lower().split()
    if not (ours and theirs):
        return 0.0
    return 2.0 * _common(ours, theirs) / (len(ours) + len(theirs))


def _common(first: list[str], second: list[str]) -> int:
    """The length of the longest common subsequence."""
    lengths = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0  # the length in the row above, one column to the left
        for j, other in enumerate(second, start=1):
            above = lengths[j]
            lengths[j] = diagonal + 1 if word == other else max(above, lengths[j - 1])
            diagonal = above
    return lengths[-1]
