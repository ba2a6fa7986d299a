"""Models of random weights in real shapes, and the rows that every candidate trains on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

#: Published shapes: config.json of Llama-3.1-8B, Llama-3.2-1B and Qwen3-14B on the hub.
SHAPES: dict[str, dict[str, Any]] = {
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    "14b": {
        "hidden_size": 5120,
        "intermediate_size": 17408,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 512,
    },
}
TEMPLATE = (
    "{%- for m in messages -%}{{- m['role'] + ': ' + m['content'] + '<|end|>' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'assistant: ' -}}{%- endif -%}"
)


def make_model(shape: str, folder: Path, device: str) -> int:
    """Write a Llama of random bf16 weights with a tokenizer of bytes; how many weights it has."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = ["<|pad|>", "<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", pad_token="<|pad|>"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        **{"vocab_size": 128_256, "tie_word_embeddings": False, **SHAPES[shape]},
        max_position_embeddings=131_072,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    return sum(one.numel() for one in model.parameters())


def lengths(kind: str, rows: int, longest: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Tokens of each row: 'chat' is log-normal with median 260, 'equal' is all of the longest."""
    if kind == "equal":
        return np.full(rows, longest)
    drawn = np.random.default_rng(seed).lognormal(np.log(260), 0.8, rows)
    return np.clip(drawn, 24, longest).astype(int)


def token_rows(kind: str, rows: int, longest: int, vocab: int, seed: int = 0) -> list[list[int]]:
    """Rows of tokens that can be learnt: each token mostly says which comes next.

    One token in four is random; the others follow it by a fixed permutation of 64 words.
    """
    rng = np.random.default_rng(seed + 1)
    follows = np.random.default_rng(7).permutation(64)
    words = np.random.default_rng(8).integers(10, vocab, 64)
    found: list[list[int]] = []
    for length in lengths(kind, rows, longest, seed):
        fresh = rng.integers(0, 64, length)
        chain = fresh.copy()
        keep = rng.random(length) < 0.25
        for at in range(1, length):
            if not keep[at]:
                chain[at] = follows[chain[at - 1]]
        found.append(words[chain].tolist())
    return found
