"""GPT-1: a decoder of Transformer blocks with LayerNorm after each sublayer, and an output tied to the token embedding.

Radford et al. (2018), "Improving Language Understanding by Generative Pre-Training", section 4.1; blocks of Vaswani et
al. (2017), "Attention Is All You Need", section 3. Written here because torch's ``nn.MultiheadAttention`` and the
``Conv1D`` of transformers keep their weights outside ``nn.Linear`` modules, where hooks on layers do not see them.

B batch, T positions, V vocabulary, D width, H heads.
"""

import functools
import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from suite.errors import UsageError
from suite.workloads.files import data_folder

VOCAB_SIZE = 40_478  # of OpenAI-GPT's byte pairs
NUM_POSITIONS = 512
INIT_STD = 0.02
EMBEDDINGS = ("tokens_embed.weight", "positions_embed.weight")
PREFIXES = ("", "transformer.")
ADVICE = "get model.safetensors of openai-community/openai-gpt at huggingface.co again"


class EmbeddingWarning(UserWarning):
    """The token embedding is random, where it would be pretrained if its file were there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GPTConfig:
    """The size of a GPT.

    Args:
        vocab_size: V, >= 1.
        num_positions: The longest context, >= 1.
        dim: D, >= 1 and a multiple of ``num_heads``.
        num_heads: H, >= 1.
        num_layers: Blocks, >= 1.
        dropout: After embeddings, attention weights and sublayers; in [0, 1).

    Raises:
        UsageError: If a value breaks its rule.
    """

    vocab_size: int
    num_positions: int
    dim: int
    num_heads: int
    num_layers: int
    dropout: float

    def __post_init__(self) -> None:
        for name in ("vocab_size", "num_positions", "dim", "num_heads", "num_layers"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UsageError(f"{name}={value!r} must be a whole number >= 1")
        if self.dim % self.num_heads:
            raise UsageError(f"dim={self.dim} must be a multiple of num_heads={self.num_heads}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout={self.dropout!r} must be in [0, 1)")


class Attention(nn.Module):
    """Causal self-attention: each position attends to itself and to those before it.

    Args:
        config: The size.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.out = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Args:
            x: Shape ``[B, T, D]``.

        Returns:
            Shape ``[B, T, D]``.
        """
        heads = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # [3, B, H, T, D/H]
        query, key, value = heads.unbind(0)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        projected: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return projected


class Block(nn.Module):
    """Attention and a two-layer perceptron, four times as wide inside; each added to its input, then normalized.

    Args:
        config: The size.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.attention_norm = nn.LayerNorm(config.dim)
        self.mlp = nn.Sequential(
            nn.Linear(config.dim, 4 * config.dim), nn.GELU(approximate="tanh"), nn.Linear(4 * config.dim, config.dim)
        )
        self.mlp_norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Apply both sublayers.

        Args:
            x: Shape ``[B, T, D]``.

        Returns:
            Shape ``[B, T, D]``.
        """
        x = self.attention_norm(x + self.dropout(self.attention(x)))
        normalized: Tensor = self.mlp_norm(x + self.dropout(self.mlp(x)))
        return normalized


class GPT(nn.Module):
    """A GPT-1 that predicts the next token at every position.

    All weights are drawn from N(0, 0.02²), biases are 0. The output layer's weight *is* the token embedding's
    parameter. For a second derivative, as AdaHessian takes it, run forward and backward within
    ``torch.nn.attention.sdpa_kernel(SDPBackend.MATH)``: torch's fused attention has none.

    Args:
        config: The size.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.dim)
        self.positions = nn.Embedding(config.num_positions, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.num_layers)))
        self.apply(_initialize)
        # on the meta device, so that no weight is drawn that is given up for the embedding's at once
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False, device="meta")
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Predict the next token at every position.

        Args:
            tokens: int64, shape ``[B, T]``.

        Returns:
            Logits, shape ``[B, T, V]``.

        Raises:
            UsageError: If T exceeds the longest context.
        """
        length = tokens.shape[1]
        if length > self.config.num_positions:
            raise UsageError(f"{length} tokens exceed num_positions={self.config.num_positions}: take shorter windows")
        places = torch.arange(length, device=tokens.device).expand_as(tokens)  # a row a sample, for hooks on layers
        logits: Tensor = self.head(self.blocks(self.dropout(self.tokens(tokens) + self.positions(places))))
        return logits


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INIT_STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def gpt1(vocab_size: int = VOCAB_SIZE, num_positions: int = NUM_POSITIONS, embeddings: Path | None = None) -> GPT:
    """Return GPT-1 with 4 of its 12 layers, 768 wide, 12 heads.

    It has 59,831,808 parameters: 28,351,488 in its blocks, and the embeddings.

    Token and position embeddings are the pretrained ones if their file is there; else they stay random and an
    :class:`EmbeddingWarning` says so, once per process. All other weights take the same draws in both cases.

    Args:
        vocab_size: V.
        num_positions: The longest context.
        embeddings: A safetensors file with ``tokens_embed.weight`` and ``positions_embed.weight``, which must be there;
            ``None``: ``$FISHERBENCH_DATA/openai-gpt/model.safetensors``, if it is there.

    Returns:
        The network, on torch's default device.

    Raises:
        UsageError: If the file is corrupt, or holds tensors of other shapes or not finite ones.
    """  # noqa: DOC502
    model = GPT(
        GPTConfig(vocab_size=vocab_size, num_positions=num_positions, dim=768, num_heads=12, num_layers=4, dropout=0.1)
    )
    path = embeddings or default_embeddings()
    if embeddings is None and not path.exists():
        _warn_once(path)
        return model
    weights = (model.tokens.weight, model.positions.weight)
    for weight, values in zip(weights, read_embeddings(path), strict=True):
        if values.shape != weight.shape:
            found, wanted = list(values.shape), list(weight.shape)
            raise UsageError(f"{path} holds an embedding of shape {found}, but the network takes {wanted}; {ADVICE}")
        with torch.no_grad():
            weight.copy_(values)
    return model


def small_gpt(vocab_size: int, num_positions: int = 64) -> GPT:
    """Return a GPT for CPUs: 2 layers, 64 wide, 4 heads, no dropout; 235,136 parameters with 2,048 words.

    The output layer alone takes most of a step's time, and so bounds width and vocabulary.

    Args:
        vocab_size: V.
        num_positions: The longest context.

    Returns:
        The network.
    """
    return GPT(
        GPTConfig(vocab_size=vocab_size, num_positions=num_positions, dim=64, num_heads=4, num_layers=2, dropout=0.0)
    )


def default_embeddings() -> Path:
    """Return where the pretrained embeddings are looked for."""
    return data_folder() / "openai-gpt" / "model.safetensors"


def embeddings_version(path: Path | None = None) -> str:
    """Return what tells pretrained embeddings from random ones and from each other, for a run's identity.

    Args:
        path: As for :func:`gpt1`.

    Returns:
        The SHA-256 of both embeddings' values, hexadecimal, or ``random``.

    Raises:
        UsageError: If the file is corrupt.
    """  # noqa: DOC502
    if path is None and not default_embeddings().exists():
        return "random"
    digest = hashlib.sha256()
    for values in read_embeddings(path or default_embeddings()):
        digest.update(repr(tuple(values.shape)).encode())
        digest.update(values.contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_embeddings(path: Path) -> tuple[Tensor, Tensor]:
    """Return the embeddings that a file of OpenAI-GPT's weights holds, by their names at Hugging Face.

    Args:
        path: A safetensors file.

    Returns:
        Tokens ``[V, D]`` and positions ``[positions, D]``, float32.

    Raises:
        UsageError: If the file cannot be read, lacks one of the two, or holds numbers that are not finite.
    """
    with _open(path) as file:
        stored = set(file.keys())
        prefix = next((each for each in PREFIXES if stored.issuperset(each + name for name in EMBEDDINGS)), None)
        if prefix is None:
            raise UsageError(
                f"{path} lacks {' or '.join(EMBEDDINGS)}, with or without transformer. before it; {ADVICE}"
            )
        tokens, positions = (file.get_tensor(prefix + name) for name in EMBEDDINGS)
    for values in (tokens, positions):
        if values.dim() != 2 or not values.is_floating_point() or not values.isfinite().all():  # rows and columns
            kind = f"{values.dtype} of shape {list(values.shape)}"
            raise UsageError(f"{path} holds an embedding of {kind} that is no matrix of finite numbers; {ADVICE}")
    return tokens.float(), positions.float()


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a safetensors file, or raise a UsageError."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"the embeddings in {path} cannot be read: {why}; {ADVICE}") from error


@functools.cache
def _warn_once(path: Path) -> None:
    warnings.warn(f"random token embeddings: no file at {path}", EmbeddingWarning, stacklevel=3)
