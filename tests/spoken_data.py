"""Clips of tones that stand for words, with their transcripts, for tests of speech recognition."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

TONES = {"lo": 300.0, "hi": 900.0, "mid": 550.0}
RATE = 8000


def clip(text: str, seed: int, seconds: float = 0.15) -> np.ndarray:
    """Return one tone for each word, pauses between them and a little noise."""
    rng = np.random.default_rng(seed)
    parts = [np.zeros(400)]
    for word in text.split():
        time = np.arange(round(seconds * RATE * rng.uniform(0.9, 1.1))) / RATE
        parts += [0.3 * np.sin(2 * np.pi * TONES[word] * time), np.zeros(round(0.08 * RATE))]
    sound = np.concatenate(parts)
    return (sound + 0.005 * rng.standard_normal(len(sound))).astype(np.float32)


def sentences(count: int, words: Sequence[str] = ("lo", "hi"), seed: int = 0) -> list[str]:
    """Return sentences of two to four words."""
    draw = random.Random(seed)
    return [" ".join(draw.choice(words) for _ in range(draw.randint(2, 4))) for _ in range(count)]


def write(folder: Path, texts: Sequence[str], prefix: str = "") -> list[str]:
    """Write a clip for each text and return the file names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{prefix}{i:03d}.wav" for i in range(len(texts))]
    for seed, (name, text) in enumerate(zip(names, texts, strict=True)):
        soundfile.write(folder / name, clip(text, seed), RATE)
    return names


def manifest(root: Path, count: int, column: str = "text") -> list[str]:
    """Write clips and `metadata.csv` with their transcripts under a root; return the transcripts."""
    texts = sentences(count)
    names = write(root / "wav", texts)
    with (root / "metadata.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["path", column, "split"])
        table.writerows(
            [f"wav/{name}", text, "val" if i % 4 == 0 else "train"] for i, (name, text) in enumerate(zip(names, texts, strict=True))
        )
    return texts


SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|he|>", "<|transcribe|>", "<|notimestamps|>")


def tokenizer(words: str = " lo hi mid 1 2") -> str:
    """A byte-level tokenizer of a few words, with Whisper's special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator([words] * 9, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False))
    made.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return str(made.to_str())


def theirs(vocabulary: int = 400, **settings: Any) -> Any:
    """A tiny Whisper of `transformers` with random weights."""
    from transformers.models.whisper.configuration_whisper import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperForConditionalGeneration

    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=128,
            decoder_ffn_dim=64, num_mel_bins=20, max_source_positions=600, max_target_positions=40, vocab_size=vocabulary, pad_token_id=0,
            bos_token_id=0, eos_token_id=0, decoder_start_token_id=0, **settings,
        )
    ).eval()  # fmt: skip
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def whisper(folder: Path) -> Path:
    """A folder that save_pretrained wrote, with a tokenizer."""
    theirs().save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer(), encoding="utf-8")
    return folder
