"""A small vocabulary in CLIP's own format, so that any CLIP tokenizer reads it.

It has every byte, so no text is unknown, and just enough merges to make each word of the captions one token.
"""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from torch import Tensor
from transformers import CLIPTokenizer

from shapes import COLORS, PLACES, SHAPES, SIZES

CONTEXT_LENGTH = 77
"""Tokens in a prompt, as in Stable Diffusion."""

WORD_END = "</w>"
START_OF_TEXT = "<|startoftext|>"
END_OF_TEXT = "<|endoftext|>"

GRAMMAR_WORDS = ("a", "on", "background")
SPARE_WORDS = ("of", "photo", "picture", "and", "with", "in", "an", "portrait", "color", "bright", "dark")
"""Words that no caption has, but that people type: they cost one token each instead of one a letter."""

Symbols = tuple[str, ...]
Merge = tuple[str, str]


def byte_symbols() -> list[str]:
    """GPT-2's printable stand-in for each byte: first the bytes that print as themselves, then the rest."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(hidden))]


def caption_words() -> list[str]:
    """Returns every word that shall be one token, sorted."""
    phrases = [*COLORS, *SHAPES, *SIZES, *PLACES, *GRAMMAR_WORDS, *SPARE_WORDS]
    return sorted({word for phrase in phrases for word in phrase.split()})


def apply_merge(symbols: Symbols, merge: Merge) -> Symbols:
    """Joins each occurrence of the pair, from left to right."""
    merged: list[str] = []
    index = 0
    while index < len(symbols):
        if symbols[index : index + 2] == merge:
            merged.append(symbols[index] + symbols[index + 1])
            index += 2
        else:
            merged.append(symbols[index])
            index += 1
    return tuple(merged)


def learn_merges(words: list[str]) -> list[Merge]:
    """Byte-pair encoding until each word is one symbol. Ties go to the first pair in sorted order."""
    spelled: list[Symbols] = [(*word[:-1], word[-1] + WORD_END) for word in words]
    merges: list[Merge] = []
    while any(len(symbols) > 1 for symbols in spelled):
        counts = Counter(pair for symbols in spelled for pair in pairwise(symbols))
        best = max(sorted(counts), key=lambda pair: counts[pair])
        merges.append(best)
        spelled = [apply_merge(symbols, best) for symbols in spelled]
    return merges


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """Writes vocabulary, merges and configuration into the folder, and returns the tokenizer."""
    symbols = byte_symbols()
    merges = learn_merges(caption_words())
    vocabulary = symbols + [symbol + WORD_END for symbol in symbols]
    vocabulary += [left + right for left, right in merges]
    vocabulary += [START_OF_TEXT, END_OF_TEXT]

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary_path = folder / "vocab.json"
    merges_path = folder / "merges.txt"
    identifiers = {token: identifier for identifier, token in enumerate(vocabulary)}
    vocabulary_path.write_text(json.dumps(identifiers, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    merges_path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    tokenizer = CLIPTokenizer(str(vocabulary_path), str(merges_path), model_max_length=CONTEXT_LENGTH)
    tokenizer.save_pretrained(folder)
    return tokenizer


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Returns token identifiers, int64 (captions, CONTEXT_LENGTH), padded with the end-of-text token."""
    encoded = tokenizer(
        captions, padding="max_length", max_length=CONTEXT_LENGTH, truncation=True, return_tensors="pt"
    )
    return encoded.input_ids
