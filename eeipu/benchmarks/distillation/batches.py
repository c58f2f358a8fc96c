"""Pairs of texts and summaries as batches of token numbers.

Notation:
    b: number of pairs in a batch.
    s: number of tokens of its longest text.
    t: number of tokens of its longest summary.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from eeipu.benchmarks.distillation.corpus import Pair
from eeipu.benchmarks.distillation.networks import PADDING

__all__ = ["IGNORED", "Batch", "batches"]

IGNORED = -100  # the label by which transformers marks tokens that do not count in the loss


@dataclass(frozen=True)
class Batch:
    """Pairs that are processed together.

    Attributes:
        text: Token numbers, `b x s`.
        mask: 1 for a token and 0 for padding, `b x s`.
        labels: Token numbers of the summaries, `b x t`; `IGNORED` for padding.
    """

    text: Tensor
    mask: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(self.text.to(device), self.mask.to(device), self.labels.to(device))

    @property
    def inputs(self) -> dict[str, Any]:
        """Keyword arguments with which a network of `transformers` computes logits only."""
        before = self.labels.masked_fill(self.labels == IGNORED, PADDING)[:, :-1]
        return {
            "input_ids": self.text,
            "attention_mask": self.mask,
            "decoder_input_ids": F.pad(before, (1, 0), value=PADDING),
            "use_cache": False,
        }


def batches(
    pairs: tuple[Pair, ...], tokenizer: Any, batch_size: int, text_tokens: int, summary_tokens: int
) -> tuple[Batch, ...]:
    """Make batches of pairs of similar length, so that there is little padding.

    Args:
        pairs: Texts and summaries.
        tokenizer: A tokenizer of `transformers`.
        batch_size: The number of pairs in a batch; the last batch may have fewer.
        text_tokens: The maximal number of tokens of a text; longer texts are cut.
        summary_tokens: The maximal number of tokens of a summary; longer ones are cut.
    """
    texts = _numbered([text for text, _ in pairs], tokenizer, text_tokens)
    summaries = _numbered([summary for _, summary in pairs], tokenizer, summary_tokens)
    order = np.lexsort([[len(s) for s in summaries], [len(t) for t in texts]])
    found = []
    for start in range(0, len(pairs), batch_size):
        chosen = order[start : start + batch_size]
        padding = tokenizer.pad_token_id
        text = _padded([texts[i] for i in chosen], padding)
        labels = _padded([summaries[i] for i in chosen], IGNORED)
        found.append(Batch(text, (text != padding).long(), labels))
    return tuple(found)


def _numbered(texts: list[str], tokenizer: Any, most: int) -> list[list[int]]:
    # A text that is cut still ends with the end token.
    numbers: list[list[int]] = tokenizer(texts, max_length=most, truncation=True)["input_ids"]
    return numbers


def _padded(rows: list[list[int]], filler: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])
