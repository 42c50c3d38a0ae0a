"""Spoken digits on Whisper's frozen encoder: our default against transformers' audio-classification example."""

from dataclasses import replace

from benchmarks.cases._base import ACCURACY, MEMORY, TO_WEIGHTS, WALL, Bench, Case, Contestant, last_json, pretune_metrics

OURS, EXAMPLE, SHORT = "pretune, default", "Trainer, the example, 64 clips only", "Trainer, all clips, window cut to 2 s, bf16, 1 epoch"
FEW = ("--epochs", "1", "--items", "32")
CUT = ("--epochs", "1", "--seconds", "2", "--bf16", "--lr", "1e-3")


def _peer(bench: Bench, turn: int, *settings: str) -> list[str]:
    return bench.peer("hf_audio.py", "--seed", str(turn), *settings)


CASE = Case(
    name="sounds",
    title="Sounds: time to a trained model",
    what=(
        "Class folders of short clips, Whisper base's encoder frozen, from the start of the process. Trainer follows transformers' "
        "`run_audio_classification.py`, whose Whisper inputs are always padded to 30 s: a whole job would take most of an hour, so it gets "
        "1 epoch over 32 training clips and 32 test clips, and nothing is extrapolated. The second Trainer does what the example does not: "
        "its position table is cut to 2 s and it computes in bfloat16, 1 epoch over all clips. pretune is `pretune finetune DATA` with no "
        "setting and an empty cache, all clips, 50 epochs of the head; its whole process includes the audit, the floors and the report."
    ),
    contestants=(
        Contestant(
            name=OURS,
            command=lambda bench, turn: bench.pretune(f"seed={turn}"),
            read=pretune_metrics,
            weights="run/model.json",
            ours=True,
        ),
        Contestant(name=EXAMPLE, command=lambda bench, turn: _peer(bench, turn, *FEW), read=last_json, weights="model.safetensors"),
        Contestant(name=SHORT, command=lambda bench, turn: _peer(bench, turn, *CUT), read=last_json, weights="model.safetensors"),
    ),
    measures=(TO_WEIGHTS, WALL, replace(ACCURACY, title="test accuracy"), MEMORY),
    rivals=((OURS, EXAMPLE), (OURS, SHORT)),
    modality="audio",
)
