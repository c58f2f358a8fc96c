"""T5 networks and their tokenizers (Raffel et al. 2020, arXiv 1910.10683), by `transformers`."""

from dataclasses import dataclass
from importlib.resources import as_file
from typing import Any

import torch

from eeipu.benchmarks.distillation.corpus import DATA
from eeipu.benchmarks.distillation.libraries import library
from eeipu.errors import ConfigurationError

__all__ = ["PADDING", "Network", "device", "tokenizer"]

# T5's new embeddings have a standard deviation of 1, for Adafactor, whose steps grow with weights;
# Adam's do not, and learn sooner from smaller ones.
INITIAL_SCALE = 0.3

# T5's own numbers of the tokens that pad and that end a text; a summary begins with padding.
PADDING, END = 0, 1
SPECIAL_TOKENS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


@dataclass(frozen=True)
class Network:
    """A T5 network: new, or with somebody's weights.

    Attributes:
        width: Size of a token's vector, `d_model`.
        inner: Size of the feed-forward layers, `d_ff`.
        layers: In the encoder, and as many in the decoder.
        heads: Attention heads, of `width / heads` each.
        vocabulary: Number of tokens.
        pretrained: A name on the Hugging Face hub or a folder, from which the weights come, and
            the shape; what is above then only serves to declare costs.
    """

    width: int
    inner: int
    layers: int
    heads: int
    vocabulary: int
    pretrained: str | None = None

    def make(self) -> Any:
        """The network, its new weights by torch's random generator.

        Raises:
            MissingExtraError: `transformers` is not installed.
            ConfigurationError: There is no such pretrained one.
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
            dropout_rate=0.0,  # as T5 v1.1 began; few epochs learn nothing by heart
            pad_token_id=PADDING,
            eos_token_id=END,
            decoder_start_token_id=PADDING,
        )

    @property
    def encoder_weights(self) -> int:
        """Weights that a token of the text meets: those of the encoder's layers."""
        return self.layers * (self._attention + self._feed_forward)

    @property
    def decoder_weights(self) -> int:
        """Weights that a token of the summary meets: the decoder's layers and the output."""
        layer = 2 * self._attention + self._feed_forward
        return self.layers * layer + self.width * self.vocabulary

    @property
    def _attention(self) -> int:
        return 4 * self.width**2

    @property
    def _feed_forward(self) -> int:
        return 2 * self.width * self.inner


def tokenizer(pretrained: str | None = None) -> Any:
    """A tokenizer of `transformers`.

    Args:
        pretrained: A name on the Hugging Face hub or a folder; `None` for the one of the
            docstrings: 1,024 byte pairs, learnt from the training part.

    Raises:
        MissingExtraError: `transformers` is not installed.
        ConfigurationError: There is no such one.
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
    """Where networks compute: the GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
