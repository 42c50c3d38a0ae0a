"""Frozen Whisper encoder features and scikit-learn's logistic regression, on class folders of audio files.

After transformers' documentation of Whisper, with what a competent user would add: inputs are cut to the longest clip instead of
padded to 30 s (the encoder's position table is cut with them), and a clip's feature is the mean over its own frames. The precision
(float32, bfloat16 autocast or bfloat16 weights) and the batch size are tried ahead, outside the measurement (`--tune`).
"""

import contextlib
import json
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from _folders import test_folder
from _probe import fastest, finish, options
from transformers import AutoFeatureExtractor, WhisperForAudioClassification

TUNED_ON = 48
HOP = 320
"""Samples of 16 kHz that make one frame of the encoder."""


def read_clips(folder, rate):
    files = sorted(path for path in Path(folder).glob("*/*") if path.suffix.lower() in (".wav", ".flac", ".ogg", ".mp3"))
    clips = []
    for path in files:
        samples, own = soundfile.read(path, dtype="float32", always_2d=True)
        clips.append(soxr.resample(samples.mean(axis=1), own, rate))
    return clips, np.array([path.parent.name for path in files])


def make_encoder(args, frames):
    """Return the encoder with its position table cut to `frames`."""
    encoder = WhisperForAudioClassification.from_pretrained(args.weights).encoder.eval()
    table = torch.nn.Embedding.from_pretrained(encoder.embed_positions.weight[:frames].clone())
    encoder.embed_positions, encoder.max_source_positions, encoder.config.max_source_positions = table, frames, frames
    return encoder.to(torch.bfloat16) if args.dtype == "bfloat16" else encoder


def features(encoder, extractor, clips, args):
    frames = encoder.max_source_positions
    autocast = torch.autocast("cpu", torch.bfloat16) if args.dtype == "autocast" else contextlib.nullcontext()
    found = []
    with torch.inference_mode():
        for place in range(0, len(clips), args.batch_size):
            batch = clips[place : place + args.batch_size]
            inputs = extractor(batch, sampling_rate=extractor.sampling_rate, max_length=frames * HOP, return_tensors="pt")
            with autocast:
                out = encoder(inputs["input_features"].to(next(encoder.parameters()).dtype)).last_hidden_state.float()
            own = torch.tensor([[min(frames, -(-len(clip) // HOP))] for clip in batch])
            mask = (torch.arange(frames) < own)[..., None]
            found.append((out * mask).sum(dim=1) / own)
    return torch.cat(found).numpy()


def tune(extractor, clips, frames, args):
    """Choose the precision and the batch size by the time of some clips."""
    encoders = {}
    for args.dtype in ("float32", "autocast", "bfloat16"):
        encoders[args.dtype] = make_encoder(args, frames)

    def run(candidate):
        vars(args).update(candidate)
        features(encoders[args.dtype], extractor, clips[:TUNED_ON], args)

    print(json.dumps(fastest([{"dtype": dtype, "batch_size": size} for dtype in encoders for size in (8, 16, 32)], run)))


def main():
    args = options(__doc__).parse_args()
    extractor = AutoFeatureExtractor.from_pretrained(args.weights)
    train, labels = read_clips(f"{args.data}/train", extractor.sampling_rate)
    test, test_labels = read_clips(test_folder(args.data), extractor.sampling_rate)
    frames = min(1500, -(-max(map(len, train + test)) // HOP))
    if args.tune:
        return tune(extractor, train, frames, args)
    encoder = make_encoder(args, frames)
    finish(args, features(encoder, extractor, train, args), labels, features(encoder, extractor, test, args), test_labels)


if __name__ == "__main__":
    main()
