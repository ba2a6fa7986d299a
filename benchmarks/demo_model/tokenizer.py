"""Train the byte-level BPE tokenizer and save it with its chat template.

python tokenizer.py --out ../../unift/demo/model
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import corpus
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIALS = (PAD, SYSTEM, USER, ASSISTANT, END)
CONTEXT = 2048

# The generation block holds the stop token too: without it a tuned model never learns to stop.
TEMPLATE = """\
{%- set state = namespace(last='') -%}
{%- for message in messages -%}
  {%- if message['content'] is not string -%}
    {{- raise_exception('content must be a string') -}}
  {%- endif -%}
  {%- if message['role'] == 'system' -%}
    {%- if not loop.first -%}
      {{- raise_exception('a system message may only come first') -}}
    {%- endif -%}
    {{- '<|system|>' + message['content'] + '<|end|>' -}}
  {%- elif message['role'] == 'user' -%}
    {%- if state.last == 'user' -%}
      {{- raise_exception('two user turns in a row') -}}
    {%- endif -%}
    {{- '<|user|>' + message['content'] + '<|end|>' -}}
  {%- elif message['role'] == 'assistant' -%}
    {%- if state.last != 'user' -%}
      {{- raise_exception('an assistant turn must follow a user turn') -}}
    {%- endif -%}
    {{- '<|assistant|>' -}}
    {%- generation -%}
      {{- message['content'] + '<|end|>' -}}
    {%- endgeneration -%}
  {%- else -%}
    {{- raise_exception('unknown role: ' + message['role'] | string) -}}
  {%- endif -%}
  {%- set state.last = message['role'] -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|assistant|>' -}}
{%- endif -%}
"""


def _texts(count: int) -> Iterator[str]:
    rng = random.Random(11)
    for _ in range(count):
        for _, text in corpus.document(rng):
            yield text


def train(vocab: int, documents: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE; every digit is a token of its own, so order numbers copy digit by digit."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIALS],
        min_frequency=20,
        show_progress=False,
    )
    raw.train_from_iterator(_texts(documents), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=PAD,
        eos_token=END,
        model_max_length=CONTEXT,
        padding_side="left",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="model folder")
    parser.add_argument("--vocab", type=int, default=1536)
    parser.add_argument("--documents", type=int, default=6000)
    args = parser.parse_args()
    tokenizer = train(args.vocab, args.documents)
    tokenizer.save_pretrained(args.out)
    print(len(tokenizer), "tokens")


if __name__ == "__main__":
    main()
