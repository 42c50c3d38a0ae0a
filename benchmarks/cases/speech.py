"""Speech recognition on Whisper's frozen encoder: ours against Trainer with CTC."""

from dataclasses import replace
from functools import partial

from benchmarks.cases._base import CPU, MEMORY, RATE, WALL, Bench, Case, Contestant, Measure, last_json, pretune_metrics

OURS, LINEAR, STORED = "pretune, default", "Trainer, linear CTC", "Trainer on stored features, our head"
EPOCHS = 15
WER = Measure(name="wer", title="test WER", better="none", digits=3)


def _pretune(bench: Bench, turn: int) -> list[str]:
    return bench.pretune("task=speech_recognition", "task.units=words", "batch_size=16", f"epochs={EPOCHS}", f"seed={turn}")


def _peer(bench: Bench, turn: int, *options: str) -> list[str]:
    return bench.peer("huggingface", "hf_speech.py", "--epochs", str(EPOCHS), "--batch-size", "16", "--seed", str(turn), *options)


def _stored(bench: Bench, turn: int) -> list[str]:
    return _peer(bench, turn, "--stored", "--head", "convolution")


CASE = Case(
    name="speech",
    title="Speech recognition on Whisper's encoder",
    same_work=(
        "the whole process, from exec to exit: read the clips, resample to 16 kHz, compute log-mel spectrograms over a window that holds "
        f"the longest clip, train a head on the frozen encoder of Whisper base for {EPOCHS} epochs, 16 clips a step, with CTC over words, "
        "recognise the test split, save the model. Clips/s count the training epochs after the first, without evaluation. Ours also "
        "audits, evaluates after each epoch, measures two baselines, and writes the report and a model that needs nothing else."
    ),
    what=(
        "Ours computes the encoder's outputs once, and its head is a convolution that joins two positions. `linear CTC` is one linear "
        "layer on the encoder, which runs in every step; `stored features` computes its outputs once and has our head. Both have AdamW at "
        "1e-3 with warm-up and cosine decay, as ours; their precision was found ahead, outside the measurement. WER is jiwer's."
    ),
    contestants=(
        Contestant(name=OURS, command=_pretune, read=partial(pretune_metrics, names=("wer",))),
        Contestant(name=LINEAR, command=_peer, read=last_json, environment="huggingface", tunes=True),
        Contestant(name=STORED, command=_stored, read=last_json, environment="huggingface", tunes=True),
    ),
    measures=(replace(RATE, title="clips/s"), WALL, CPU, WER, MEMORY),
    rivals=((OURS, LINEAR), (OURS, STORED)),
    modality="speech",
)
