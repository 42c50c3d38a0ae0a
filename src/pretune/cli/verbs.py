"""The verbs: what each takes and does, the settings it accepts, and the names that other tools have for it."""

from __future__ import annotations

from dataclasses import dataclass

from pretune.declared import declared
from pretune.errors import SettingError, did_you_mean
from pretune.schema import keys


@dataclass(frozen=True, kw_only=True)
class Verb:
    """What the command line knows of a verb before its module is imported."""

    takes: str
    """Its words, as a usage line shows them."""
    summary: str
    words: tuple[int, int]
    """How many words it takes at least and at most."""
    asks: str = ""
    """The message where there are fewer or more."""
    settings: str = ""
    """'module:class' of its settings; empty where it has none."""
    examples: tuple[str, ...] = ()
    unused: str = ""
    """'module:name' of a tuple: settings of the class that this verb refuses."""
    heading: str = ""
    """Under which all its settings are printed; empty for those of what they are about."""
    reads_recipes: bool = False
    """Whether it takes recipe files, which may name the data."""
    slow: bool = False
    """Whether it loads torch, which takes seconds."""


VERBS: dict[str, Verb] = {
    "audit": Verb(
        takes="DATA",
        summary="check a dataset for problems before training",
        words=(1, 1),
        asks="name one folder or manifest, for example: pretune audit photos/",
        settings="pretune.requests:Auditing",
        examples=("pretune audit photos/", "pretune audit reviews.csv label=stars"),
        slow=True,
    ),
    "finetune": Verb(
        takes="DATA",
        summary="fine-tune a model on labelled data",
        words=(0, 1),
        asks="name one folder or manifest, for example: pretune finetune photos/",
        settings="pretune.recipe:Recipe",
        reads_recipes=True,
        examples=(
            "pretune finetune photos/",
            "pretune finetune photos/ strategy=full epochs=3 time=10m",
            "pretune finetune reviews.csv label=stars task=regression",
            "pretune finetune photos/ backbone=torchvision:resnet50 strategy=lora strategy.rank=4",
        ),
        slow=True,
    ),
    "pretrain": Verb(
        takes="DATA",
        summary="pretrain a network on unlabelled text, images or audio",
        words=(0, 1),
        asks="name one corpus, for example: pretune pretrain corpus.txt; further ones are written also=FIRST,SECOND",
        settings="pretune.pretraining:Pretraining",
        reads_recipes=True,
        examples=(
            "pretune pretrain corpus.txt time=30m",
            "pretune pretrain photos/ objective=masked objective.share=0.6",
            "pretune pretrain corpus.txt then=reviews.csv",
        ),
        unused="pretune.pretraining:_UNUSED",
        slow=True,
    ),
    "generate": Verb(
        takes="RUN [PROMPT]",
        summary="generate text, audio or images with a pretrained model",
        words=(1, 2),
        asks='name a run and, if you like, a prompt: pretune generate runs/x "Once upon a time"',
        settings="pretune.requests:Generating",
        examples=('pretune generate runs/corpus-causal-001 "Once upon a time" temperature=0.8',),
        slow=True,
    ),
    "evaluate": Verb(
        takes="RUN DATA",
        summary="compute the metrics of a run on labelled data",
        words=(2, 2),
        asks="name a run and labelled data, for example: pretune evaluate runs/photos-linear_probe-001 photos/test",
        settings="pretune.requests:Evaluating",
        examples=("pretune evaluate runs/photos-linear_probe-001 photos/test",),
        slow=True,
    ),
    "predict": Verb(
        takes="RUN INPUTS",
        summary="predict one row per input; unreadable inputs get a row with an error message",
        words=(2, 2),
        asks="name a run and what to predict, for example: pretune predict runs/photos-linear_probe-001 new_photos/",
        settings="pretune.requests:Predicting",
        examples=("pretune predict runs/photos-linear_probe-001 new_photos/ out=predictions.csv",),
        slow=True,
    ),
    "list": Verb(
        takes="[NAME [PATTERN]]",
        summary="list available components and backbones, and the settings of each",
        words=(0, 2),
        asks="name one component, family or source of backbones, for example: pretune list strategies",
    ),
    "runs": Verb(
        takes="[FOLDER] | compare RUN RUN …",
        summary="list the runs on disk, sorted and filtered, or compare some",
        words=(0, 100),
        settings="pretune.requests:Listing",
        heading="Order and filters",
        examples=(
            "pretune runs",
            "pretune runs sort=score strategy=lora",
            "pretune runs compare photos-linear_probe-001 photos-full-001",
        ),
    ),
    "inspect": Verb(
        takes="RUN",
        summary="show the settings, metrics and files of a run",
        words=(1, 1),
        asks="name one run, for example: pretune inspect runs/photos-linear_probe-001",
    ),
    "cache": Verb(
        takes="[clear]",
        summary="show or clear the cache of decoded data and features",
        words=(0, 1),
        asks="write pretune cache to show it, or pretune cache clear",
        settings="pretune.requests:Caching",
        heading="Place",
    ),
    "doctor": Verb(
        takes="",
        summary="check this machine and this installation",
        words=(0, 0),
        asks="pretune doctor takes no words",
        slow=True,
    ),
    "demo": Verb(
        takes="",
        summary="run the main job on real photos, with pretrained features and with random ones",
        words=(0, 0),
        asks="pretune demo takes no words",
        slow=True,
    ),
    "completion": Verb(
        takes="bash|zsh|fish",
        summary="print a script that completes commands and settings in a shell",
        words=(1, 2),
        asks="name your shell, for example: pretune completion bash",
        examples=('eval "$(pretune completion bash)"',),
    ),
}

_CALLED: dict[str, str] = {
    "finetune": "train fit fine-tune fine_tune tune learn run transfer trainer",
    "pretrain": "pre-train pre_train ssl selfsupervised self-supervised",
    "evaluate": "eval val validate validation test score metrics",
    "predict": "infer inference classify detect prediction predictions transform label",
    "audit": "check lint verify validate-data profile data",
    "generate": "sample complete write",
    "list": "ls models components backbones show",
    "runs": "history experiments leaderboard results",
    "inspect": "info describe summary",
    "doctor": "env environment checks diagnose sysinfo",
    "demo": "example quickstart tutorial",
    "completion": "completions autocomplete",
}
"""Ours, and what other tools call the same."""


def known_as(word: str) -> str | None:
    """Return our name of a verb that other tools call otherwise; None where there is no such name."""
    return next((verb for verb, others in _CALLED.items() if word.lower() in others.split()), None)


def refuse_unknown(verb: str, rest: list[str]) -> None:
    """Refuse a verb that there is not.

    Raises:
        SettingError: names the verb that was probably meant, with the rest of the command line.
    """
    if verb in VERBS:
        return
    meant = known_as(verb)
    if meant is not None:
        raise SettingError(f"unknown command {verb!r}. Here it is called {meant}: pretune {' '.join([meant, *rest])}")
    raise SettingError(f"unknown command {verb!r}. {did_you_mean(verb, VERBS)} See pretune --help")


def settings_of(verb: str) -> type | None:
    """Return the settings of a verb, without what acts on them; None where it has none."""
    place = VERBS[verb].settings
    return declared(place) if place else None


def unused_by(verb: str) -> tuple[str, ...]:
    """Return the settings that a verb shares with others and refuses."""
    place = VERBS[verb].unused
    return tuple(declared(place)) if place else ()


def keys_of(verb: str) -> list[str]:
    """Return the keys that a verb accepts."""
    settings = settings_of(verb)
    unused = {*unused_by(verb), *(["data"] if VERBS[verb].reads_recipes else [])}
    return [] if settings is None else [key for key in keys(settings) if key not in unused]
