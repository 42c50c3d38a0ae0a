"""Names of other libraries lead to ours; a wrong command is answered without torch, and names what the person wrote."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pretune import config, hints, networks
from pretune.cli.arguments import parse
from pretune.cli.verbs import VERBS, keys_of, settings_of
from pretune.errors import PretuneError, SettingError, did_you_mean
from tests.command_line import pretune

HEAVY = ("torch", "numpy", "PIL", "rich", "timm", "torchvision", "transformers")


def answer(verb: str, words: str) -> str:
    """Return what a verb says of settings."""
    cls = settings_of(verb)
    tree = {"data": "x"} if "data" in config.keys(cls) else {}
    with pytest.raises(SettingError) as caught:
        config.build(cls, config.override(tree, shlex.split(words)))
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("learning_rate=0.1", "write lr=0.1"),
        ("lr0=0.1", "write lr=0.1"),
        ("model=resnet50", "write backbone=torchvision:resnet50 or backbone=timm:resnet50"),
        ("arch=bert-base-uncased", "write backbone=transformers:bert-base-uncased"),
        ("batch=16", "write batch_size=16"),
        ("per_device_train_batch_size=8", "write batch_size=8"),
        ("imgsz=224", "write image_size=224"),
        ("num_train_epochs=3", "write epochs=3"),
        ("max_iter=3", "closest setting is time="),
        ("random_state=1", "write seed=1"),
        ("n_jobs=2", "write threads=2"),
        ("output_dir=x", "write out=x"),
        ("valid_pct=0.2", "write val=0.2"),
        ("class_weight=balanced", "closest setting is class_weights="),
        ("optimizer=sgd", "write optim=sgd"),
        ("lr_scheduler_type=cosine", "write schedule=cosine"),
        ("warmup_ratio=0.1", "schedule.warmup=0.1"),
        ("warmup_steps=100", "schedule.warmup=…"),
        ("momentum=0.9", "optim.momentum=0.9"),
        ("adam_beta1=0.9", "optim.beta1=0.9"),
        ("lora.rank=4", "write strategy=lora strategy.rank=4"),
        ("rank=4", "strategy=lora strategy.rank=4"),
        ("lora_r=4", "strategy=lora strategy.rank=4"),
        ("degrees=20", "augmentations=rotation augmentations.rotation.degrees=20"),
        ("flip=true", "augmentations=flip"),
        ("fp16=true", "closest setting is precision="),
        ("device=cuda", "chosen automatically"),
        ("epoch=3", "write epochs=3"),
        ("pretrained=true", "pretrained by default"),
        ("num_classes=3", "read from the data"),
        ("model=mine.pt", "write backbone=file:mine.pt@SOURCE:NAME"),
        ("Learning-Rate=3", "write lr=3"),
        ("learnin_rate=3", "write lr=3"),
        ("training.epoch=3", "training has no setting 'epoch'"),
        ("strategy.rank=4", "strategy needs a name: strategy=lora strategy.rank=4"),
        ("strategy=linear", "Did you mean 'linear_probe'"),
        ("strategy=feature_extraction", "Did you mean 'linear_probe'"),
        ("strategy=finetune", "Did you mean 'full'"),
        ("optim=adamw_torch", "Did you mean 'adamw'"),
        ("schedule=fit_one_cycle", "Did you mean 'one_cycle'"),
        ("precision=bf16", "Did you mean 'bfloat16'"),
        ("fit=letterbox", "Did you mean 'pad'"),
    ],
)
def test_names_of_other_libraries_lead_to_ours(words: str, message: str) -> None:
    assert message in answer("finetune", words)


def test_names_lead_to_keys_of_the_verb_in_hand() -> None:
    assert "write length=9" in answer("generate", "max_new_tokens=9")
    assert "write max_tokens=9" in answer("pretrain", "block_size=9")
    assert "objective=masked objective.share=0.4" in answer("pretrain", "mask_ratio=0.4")
    assert "Did you mean 'masked'" in answer("pretrain", "objective=mae")
    assert "Did you mean 'part'" in answer("evaluate", "prt=val")


@pytest.mark.parametrize("words", ["epochs=x", "training.epochs=x"])
def test_an_error_names_the_key_that_the_person_wrote(words: str) -> None:
    assert answer("finetune", words) == "epochs must be a whole number; got 'x'."


def test_every_name_leads_somewhere_and_no_key_of_ours_is_shadowed() -> None:
    for name in hints._OURS:
        led = [
            verb for verb in VERBS if hints.renamed(name, keys_of(verb)) or (keys_of(verb) and hints.meant(settings_of(verb), name, "x"))
        ]
        assert led, name
    for verb in VERBS:
        assert [key for key in keys_of(verb) if hints.renamed(key, keys_of(verb)) != key] == []


def test_a_list_of_names_is_whole_or_filtered() -> None:
    few, many = [f"name{n}" for n in range(40)], [f"network{n}" for n in range(500)]
    assert all(name in did_you_mean("zzz", few) for name in few)
    assert "network321" in did_you_mean("network321x", many)
    assert "and 4" in did_you_mean("network321x", many)


def test_networks_are_known_from_their_sources() -> None:
    assert networks.ids_of("resnet50") == ["torchvision:resnet50", "timm:resnet50"]
    assert networks.ids_of("efficientnet_lite0")[0] == "package:efficientnet_lite0"
    for id in ("timm:resnet18.a1_in1k", "torchvision:resnet18@IMAGENET1K_V1", "scratch:torchvision:vit_b_16", "run:x", "package:minilm"):
        networks.refuse_unknown(id)
    with pytest.raises(SettingError, match="Did you mean 'resnet18'"):
        networks.refuse_unknown("torchvision:resnet81")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("finetune x --epochs 3", "Settings are written key=value: epochs=3"),
        ("finetune x --epochs=3", "Settings are written key=value: epochs=3"),
        ("finetune x --learning-rate 0.1", "key=value: lr=0.1"),
        ("finetune x --lora-r 4", "strategy=lora strategy.rank=4"),
        ("train photos/ epochs=3", "pretune finetune photos/ epochs=3"),
        ("eval r d", "pretune evaluate r d"),
        ("infer r d", "pretune predict r d"),
        ("finetun x", "Did you mean 'finetune'"),
    ],
)
def test_other_tools_command_lines_are_answered_with_ours(words: str, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse(shlex.split(words))
    assert message in str(caught.value)


@pytest.mark.parametrize("words", [["help", "finetune"], ["finetune", "-h"], ["--help", "finetune"]])
def test_help_is_found_where_it_is_looked_for(words: list[str]) -> None:
    assert "usage: pretune finetune" in pretune(*words).stdout


WRONG = {
    "finetune photos learning_rate=0.1": "lr=0.1",
    "finetune photos epochs 3": "epochs=3",
    "finetune photos epochs = 3": "epochs=3",
    "finetune photos learning-rate=0.1": "lr=0.1",
    "finetune photos epochs:3": "epochs=3",
    "finetune photos epochs=three": "epochs must be a whole number",
    "finetune photos strategy=ful": "Did you mean 'full'",
    "finetune photos backbone=resnet50": "torchvision:resnet50, timm:resnet50",
    "finetune photos backbone=run:runs/photos-full-01": "Did you mean runs/photos-full-001?",
    "finetune photos backbone=run:photos": "photos is not a run with a backbone",
    "predict photos-full-01 photos": "Did you mean runs/photos-full-001?",
    "finetune photos backbone=package:efficientnet_lit0": "Did you mean 'efficientnet_lite0'",
    "finetune foto": "Did you mean photos?",
    "finetune": "Name one folder or manifest",
    "train photos": "pretune finetune photos",
    "finetune photos nowhere.toml": "nowhere.toml",
    "pretrain photos patience=3": "patience is not used by pretrain",
    "pretrain photos then=nowhere": "nowhere does not exist",
    "audit photos epochs=3": "audit has no setting 'epochs'",
    "audit photos some.toml": "audit reads no recipe file",
    "predict nowhere photos": "nowhere does not exist",
    "predict photos": "name a run and what to predict",
    "evaluate photos photos part=tst": "Did you mean 'test'",
    "generate photos a=b": "put it behind two dashes: pretune generate photos -- a=b",
}


def test_a_wrong_command_is_answered_before_torch_is_loaded(home: Path) -> None:
    (home / "photos").mkdir()
    (home / "runs" / "photos-full-001" / "backbone").mkdir(parents=True)
    for name in ("model.json", "backbone/builder.json"):
        (home / "runs" / "photos-full-001" / name).write_text("{}")
    code = (
        "import shlex, sys\nfrom pretune.cli import main\n"
        f"for line in {list(WRONG)!r}:\n    sys.stderr.write(f'>> {{main(shlex.split(line))}} ')\n"
        f"for line in ('--help', 'finetune --help', 'list', 'list lora'):\n    assert main(shlex.split(line)) == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for (line, message), told in zip(WRONG.items(), re.split(r">> 2 ", done.stderr), strict=False):
        assert message in told, (line, told)
    assert done.stderr.count(">> 2 ") == len(WRONG)


def test_a_refusal_reaches_a_pipe_before_the_process_is_left(home: Path) -> None:
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    words = [sys.executable, "-m", "pretune", "finetune", "nowhere", "--json"]
    done = subprocess.run(words, env=buffered, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nowhere does not exist" in json.loads(done.stdout)["error"]
    assert done.stderr.startswith("pretune: nowhere does not exist")


def test_what_is_refused_early_is_refused_in_python_too(home: Path) -> None:
    import pretune as pt

    (home / "photos").mkdir()
    with pytest.raises(PretuneError, match="audit has no setting 'epochs'"):
        pt.audit("photos", epochs=3)
    with pytest.raises(PretuneError, match=r"write lr=0\.1"):
        pt.finetune("photos", learning_rate=0.1)
