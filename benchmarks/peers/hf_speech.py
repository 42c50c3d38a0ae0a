"""Hugging Face's Trainer with Whisper's frozen encoder and CTC over words, after transformers' guide to automatic speech recognition.

The head is one linear layer, or (`--head convolution`) ours: a convolution that joins two positions, whose last layer begins at zero.
The encoder runs in every step, as Trainer does it, or once ahead (`--stored`), and its outputs are then standardised. The window is cut
from 30 s to the longest clip; bfloat16 where a few steps are faster in it (`--tune`, outside the measurement). Prints one JSON object: the
word error rate (jiwer) on the test split, and clips/s of the training epochs after the first (of all, where there is one).
"""

import argparse
import csv
import json
from pathlib import Path

import jiwer
import soundfile
import soxr
import torch
import torch.nn.functional as F
from _trainer import Rate, add_precision, settings, tune
from torch import nn
from transformers import AutoFeatureExtractor, Trainer
from whisper_features import HOP, make_encoder


class LinearHead(nn.Module):
    """One linear layer at each position; (B, T, D) -> (B, T, C)."""

    stride = 1

    def __init__(self, width, outputs):
        super().__init__()
        self.layer = nn.Linear(width, outputs)

    def forward(self, x):
        return self.layer(x)


class ConvolutionHead(nn.Module):
    """A convolution of five positions that halves their number, GELU, dropout and a linear layer; (B, T, D) -> (B, T / 2, C)."""

    stride = 2

    def __init__(self, width, outputs):
        super().__init__()
        self.convolution = nn.Conv1d(width, 256, 5, 2, 2)
        self.layer = nn.Linear(256, outputs)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x):
        x = F.gelu(self.convolution(F.dropout(x, 0.1, self.training).transpose(1, 2))).transpose(1, 2)
        return self.layer(F.dropout(x, 0.1, self.training))


class Recogniser(nn.Module):
    """Encoder (None where its outputs are stored), head and loss, as Trainer calls them."""

    def __init__(self, encoder, head):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, input_features, lengths, labels=None):
        if self.encoder is not None:
            with torch.no_grad():
                input_features = self.encoder(input_features).last_hidden_state
        logits = self.head(input_features)
        lengths = -(-lengths // self.head.stride)
        if labels is None:
            return {"logits": logits}
        counts = (labels >= 0).sum(1)
        loss = F.ctc_loss(logits.float().log_softmax(2).transpose(0, 1), labels.clamp(min=0), lengths, counts, zero_infinity=True)
        return {"loss": loss, "logits": logits}

    def train(self, mode=True):
        super().train(mode)
        if self.encoder is not None:
            self.encoder.eval()
        return self


def read_clips(folder, rate):
    """Return the samples and the transcript of each clip by split."""
    table = sorted(Path(folder).glob("*.csv"))[0]
    found = {"train": [], "test": []}
    with table.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["split"] in found:
                samples, own = soundfile.read(Path(folder, row["path"]), dtype="float32", always_2d=True)
                transcript = row.get("transcript") or row["text"]
                found[row["split"]].append((soxr.resample(samples.mean(axis=1), own, rate), transcript.lower().split()))
    return found


def written(logits, lengths, words):
    """Return the words of the likeliest output at each real position, equal neighbours as one, without blanks."""
    texts = []
    for row, length in zip(logits, lengths, strict=True):
        best = row[:length].argmax(1)
        texts.append(" ".join(words[at - 1] for at, before in zip(best, [0, *best[:-1]], strict=True) if at and at != before))
    return texts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder with a CSV file: path, text (or transcript), split")
    parser.add_argument("--weights", required=True, help="folder written by benchmarks/ours/whisper_folder.py")
    parser.add_argument("--out", required=True)
    parser.add_argument("--head", choices=("linear", "convolution"), default="linear")
    parser.add_argument("--stored", action="store_true", help="compute the encoder's outputs once, before training")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    add_precision(parser)
    args = parser.parse_args()
    extractor = AutoFeatureExtractor.from_pretrained(args.weights)
    clips = read_clips(args.data, extractor.sampling_rate)
    words = sorted({word for _, transcript in clips["train"] for word in transcript})
    frames = min(1500, -(-max(len(samples) for part in clips.values() for samples, _ in part) // HOP))

    def inputs(rows):
        return extractor(
            [samples for samples, _ in rows], sampling_rate=extractor.sampling_rate, max_length=frames * HOP, return_tensors="pt"
        )

    def encoded(rows, encoder):
        found = []
        for at in range(0, len(rows), args.batch_size):
            batch = inputs(rows[at : at + args.batch_size])["input_features"]  # in float32: NumPy has no bfloat16
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "autocast"):
                found += encoder(batch).last_hidden_state.float()
        return found

    def length(samples):
        return min(frames, -(-len(samples) // HOP))

    def examples(rows, stored):
        """Return what Trainer reads; log-mel spectrograms, or the encoder's outputs, are computed once."""
        return [
            {"input_features": one, "length": length(samples), "labels": [words.index(word) + 1 for word in said if word in words]}
            for one, (samples, said) in zip(stored, rows, strict=True)
        ]

    def prepared(encoder):
        """Return the examples of both splits; stored outputs have mean 0 and deviation 1 where training clips are no padding."""
        if not args.stored:
            return {name: examples(rows, inputs(rows)["input_features"]) for name, rows in clips.items()}
        outputs = {name: encoded(rows, encoder) for name, rows in clips.items()}
        real = torch.cat([one[: length(samples)] for one, (samples, _) in zip(outputs["train"], clips["train"], strict=True)])
        mean, deviation = real.mean(0), real.std(0)
        return {name: examples(rows, [(one - mean) / deviation for one in outputs[name]]) for name, rows in clips.items()}

    def stacked(rows):
        longest = max(1, *(len(row["labels"]) for row in rows))
        return {
            "input_features": torch.stack([row["input_features"] for row in rows]),
            "lengths": torch.tensor([row["length"] for row in rows]),
            "labels": torch.tensor([row["labels"] + [-1] * (longest - len(row["labels"])) for row in rows]),
        }

    def make(**more):
        torch.manual_seed(args.seed)
        encoder = make_encoder(args, frames).requires_grad_(False)
        data = prepared(encoder)
        head = {"linear": LinearHead, "convolution": ConvolutionHead}[args.head](encoder.config.d_model, 1 + len(words))
        rate = Rate()
        same = {
            "weight_decay": 0.01,
            "warmup_steps": 0.1,
            "lr_scheduler_type": "cosine",
            "save_strategy": "no",
            "logging_strategy": "no",
            "remove_unused_columns": False,
        }
        trainer = Trainer(
            model=Recogniser(None if args.stored else encoder, head),
            args=settings(args, **{**same, **more}),
            train_dataset=data["train"],
            data_collator=stacked,
            callbacks=[rate],
        )
        return trainer, rate, data["test"]

    if args.tune:
        return tune(lambda **more: make(**more)[:2], args)
    trainer, rate, test = make()
    trainer.train()
    trainer.save_model()
    logits = trainer.predict(test).predictions
    lengths = [-(-row["length"] // trainer.model.head.stride) for row in test]
    references = [" ".join(said) for _, said in clips["test"]]
    print(json.dumps({"wer": jiwer.wer(references, written(logits, lengths, words)), "items_per_s": rate.of(len(clips["train"]))}))


if __name__ == "__main__":
    main()
