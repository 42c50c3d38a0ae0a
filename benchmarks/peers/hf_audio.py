"""Hugging Face's Trainer on class folders of sounds, after transformers' own run_audio_classification.py example.

The example decodes and resamples each clip whenever it is asked for; soundfile and soxr do it here instead of torchcodec,
which needs FFmpeg's libraries. The encoder is frozen, as we freeze it. Prints one JSON object: accuracy on the test part.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from _trainer import settings
from datasets import ClassLabel, Dataset, Features, Value
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification, Trainer


def read_data(folder, extractor, most):
    def features(batch):
        clips = []
        for path in batch["path"]:
            samples, rate = soundfile.read(path, dtype="float32")
            clips.append(soxr.resample(samples, rate, extractor.sampling_rate)[: int(most * extractor.sampling_rate)])
        inputs = extractor(clips, sampling_rate=extractor.sampling_rate)
        return {"input_features": inputs["input_features"], "labels": list(batch["label"])}

    names = sorted(path.name for path in Path(folder, "train").iterdir())
    kinds = Features({"path": Value("string"), "label": ClassLabel(names=names)})
    data = {}
    for part in ("train", "test"):
        files = sorted(Path(folder, part).glob("*/*.wav"))
        columns = {"path": list(map(str, files)), "label": [file.parent.name for file in files]}
        data[part] = Dataset.from_dict(columns, features=kinds).with_transform(features)
    return data


def shortened(model, seconds):
    """Cut the encoder's position table, which the example does not do, to a window of so many seconds."""
    positions = round(seconds * 50)
    table = torch.nn.Embedding.from_pretrained(model.encoder.embed_positions.weight[:positions].clone())
    model.encoder.embed_positions, model.encoder.max_source_positions = table, positions
    model.config.max_source_positions = model.encoder.config.max_source_positions = positions
    return model


def compute_accuracy(prediction):
    return {"accuracy": float((np.argmax(prediction.predictions, axis=1) == prediction.label_ids).mean())}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True, help="folder written by benchmarks/ours/whisper_folder.py")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-5)
    parser.add_argument("--seconds", type=int, help="cut the window to so many seconds; 30 as it comes")
    parser.add_argument("--items", type=int, help="train and evaluate on so many clips only")
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    chunk = {} if args.seconds is None else {"chunk_length": args.seconds}
    extractor = AutoFeatureExtractor.from_pretrained(args.weights, **chunk)
    data = read_data(args.data, extractor, args.seconds or 20)
    if args.items:
        data = {name: part.shuffle(seed=0).select(range(args.items)) for name, part in data.items()}
    names = data["train"].features["label"].names
    config = AutoConfig.from_pretrained(args.weights, num_labels=len(names))
    model = AutoModelForAudioClassification.from_pretrained(args.weights, config=config, ignore_mismatched_sizes=True)
    model = model if args.seconds is None else shortened(model, args.seconds)
    model.freeze_encoder()
    trainer = Trainer(
        model=model,
        args=settings(args, per_device_eval_batch_size=args.batch_size, remove_unused_columns=False),
        train_dataset=data["train"],
        eval_dataset=data["test"],
        compute_metrics=compute_accuracy,
    )
    trainer.train()
    trainer.save_model()
    print(json.dumps({"accuracy": trainer.evaluate()["eval_accuracy"]}))


if __name__ == "__main__":
    main()
