"""What the scripts around Hugging Face's Trainer share: what an epoch takes, the precision, scores, and common settings."""

import json
import time

import numpy as np
import torch
from _rate import items_per_s
from transformers import TrainerCallback, TrainingArguments


class Rate(TrainerCallback):
    """Seconds of each training epoch, without evaluation."""

    def __init__(self):
        self.seconds = []

    def on_epoch_begin(self, *_, **__):
        self.began = time.perf_counter()

    def on_epoch_end(self, *_, **__):
        self.seconds.append(time.perf_counter() - self.began)

    def of(self, items):
        """Return items a second of the epochs after the first; of all, where there is one."""
        return items_per_s(items, self.seconds)


def scores(prediction):
    """Return accuracy and log loss, as Trainer's `compute_metrics`."""
    logits = torch.from_numpy(np.asarray(prediction.predictions)).float()
    targets = torch.from_numpy(np.asarray(prediction.label_ids))
    loss = torch.nn.functional.cross_entropy(logits, targets)
    return {"accuracy": (logits.argmax(dim=1) == targets).float().mean().item(), "log_loss": loss.item()}


def add_precision(parser):
    """Add the options of the precision."""
    parser.add_argument("--dtype", choices=("float32", "autocast"), default="float32")
    parser.add_argument("--tune", action="store_true", help="only find the faster precision, and print it")


class Steps(TrainerCallback):
    """When each step ended; training stops when the steps after the first, which warms up, took `most` seconds."""

    def __init__(self, most=float("inf")):
        self.most, self.ends = most, []

    def on_step_end(self, _args, _state, control, **_):
        self.ends.append(time.perf_counter())
        control.should_training_stop |= self.ends[-1] - self.ends[0] > self.most

    def seconds(self, begin, end=-1):
        """Return the seconds from the end of one step to that of another."""
        return self.ends[end] - self.ends[begin]


def tune(make, args, steps=4, most=20.0):
    """Print the precision in which the same few steps of `make(**settings)`'s trainer are faster, within `most` seconds for each."""
    clocks = {}
    for args.dtype in ("float32", "autocast"):
        trainer, _ = make(max_steps=steps + 1, save_strategy="no")
        clocks[args.dtype] = Steps(most)
        trainer.add_callback(clocks[args.dtype])
        trainer.train()
    count = min(len(clock.ends) for clock in clocks.values()) - 1
    print(json.dumps({"dtype": min(clocks, key=lambda dtype: clocks[dtype].seconds(0, count))}))


def settings(args, **more):
    """Return the arguments of a script as Trainer takes them."""
    return TrainingArguments(
        output_dir=args.out,
        seed=args.seed,
        num_train_epochs=args.epochs,
        per_device_train_batch_size=args.batch_size,
        learning_rate=args.lr,
        use_cpu=not torch.cuda.is_available(),
        bf16=args.dtype == "autocast",
        report_to="none",
        disable_tqdm=True,
        **more,
    )
