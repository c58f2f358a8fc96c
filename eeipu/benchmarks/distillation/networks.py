"""T5 networks and their tokenizers (Raffel et al. 2020, arXiv 1910.10683), from `transformers`."""

from dataclasses import dataclass
from importlib.resources import as_file
from typing import Any

import torch

from eeipu.benchmarks.distillation.corpus import DATA
from eeipu.benchmarks.distillation.libraries import library
from eeipu.errors import ConfigurationError

__all__ = ["PADDING", "Network", "device", "tokenizer"]

# The factor of new weights. New embeddings of T5 have a standard deviation of 1, which suits
# Adafactor, whose steps are proportional to weights. With Adam, smaller weights learn faster.
INITIAL_SCALE = 0.3

# T5's numbers of the tokens for padding and for the end of a text. A summary begins with padding.
PADDING, END = 0, 1
SPECIAL_TOKENS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


@dataclass(frozen=True)
class Network:
    """A T5 network, with new or pretrained weights.

    Attributes:
        width: The size of the vector of a token, `d_model`.
        inner: The size of the feed-forward layers, `d_ff`.
        layers: The number of layers of the encoder, and also of the decoder.
        heads: The number of attention heads; each has the size `width / heads`.
        vocabulary: The number of different tokens.
        pretrained: A name on the Hugging Face hub, or a folder. If given, weights and shape are
            loaded from there, and the attributes above only serve to declare costs.
    """

    width: int
    inner: int
    layers: int
    heads: int
    vocabulary: int
    pretrained: str | None = None

    def make(self) -> Any:
        """Make the network; new weights are drawn from torch's global random generator.

        Raises:
            MissingExtraError: `transformers` is not installed.
            ConfigurationError: The pretrained network cannot be loaded.
        """
        network = library("transformers").T5ForConditionalGeneration
        if self.pretrained is None:
            return network(self._config())
        return _load(network, self.pretrained)

    def _config(self) -> Any:
        return library("transformers").T5Config(
            vocab_size=self.vocabulary,
            d_model=self.width,
            d_kv=self.width // self.heads,
            d_ff=self.inner,
            num_layers=self.layers,
            num_heads=self.heads,
            initializer_factor=INITIAL_SCALE,
            dropout_rate=0.0,  # as in T5 v1.1; few epochs do not overfit
            pad_token_id=PADDING,
            eos_token_id=END,
            decoder_start_token_id=PADDING,
        )

    @property
    def encoder_weights(self) -> int:
        """The number of weights used for each token of the text: those of the encoder's layers."""
        return self.layers * (self._attention + self._feed_forward)

    @property
    def decoder_weights(self) -> int:
        """The number of weights used for each token of the summary: decoder and output layer."""
        layer = 2 * self._attention + self._feed_forward
        return self.layers * layer + self.width * self.vocabulary

    @property
    def _attention(self) -> int:
        return 4 * self.width**2

    @property
    def _feed_forward(self) -> int:
        return 2 * self.width * self.inner


def tokenizer(pretrained: str | None = None) -> Any:
    """Load a tokenizer of `transformers`.

    Args:
        pretrained: A name on the Hugging Face hub, or a folder; `None` takes the tokenizer that
            ships with the docstrings: 1,024 byte pairs, learnt from their training part.

    Raises:
        MissingExtraError: `transformers` is not installed.
        ConfigurationError: The tokenizer cannot be loaded.
    """
    transformers = library("transformers")
    if pretrained is not None:
        return _load(transformers.AutoTokenizer, pretrained)
    with as_file(DATA / "tokenizer.json") as file:
        return transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), **SPECIAL_TOKENS)


def _load(kind: Any, name: str) -> Any:
    try:
        return kind.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{name!r} cannot be loaded ({error}); download it while online, or name a folder "
            f"that save_pretrained has written."
        ) from error


def device() -> torch.device:
    """The device for all networks: the GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
