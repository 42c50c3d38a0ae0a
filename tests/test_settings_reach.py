"""Every setting of a run reaches the training: runs are planned as ever, and what the loop is given is looked at instead of trained."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from pretune.data.dataset import FeatureView
from pretune.models import SupervisedLearner
from pretune.recipe import Recipe
from pretune.runner import Runner
from pretune.runner.finetune import FineTuned, FineTuning
from pretune.training.loop import Evaluation
from pretune.training.optim import Optim
from pretune.training.plan import Plan
from pretune.training.schedule import Schedule

TEXTS = "scratch:textcnn,embedding=8,filters=8"
SEQUENCE = "scratch:transformer,width=16,layers=3,heads=2"
IMAGES = "scratch:cnn"


@dataclass(kw_only=True)
class Seen:
    """What one phase gives the loop."""

    learner: SupervisedLearner
    loader: Any
    groups: tuple[Any, ...]
    plan: Plan
    evaluation: Evaluation
    looked: Any = None
    """What was looked at before the strategy changed the network back."""


@dataclass(kw_only=True)
class Planned:
    """What a run would have done."""

    phases: list[Seen] = field(default_factory=list)
    state: Any = None

    @property
    def last(self) -> Seen:
        """The last phase."""
        return self.phases[-1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of two classes, one three times as frequent, with a number and a group for each."""
    path = tmp_path_factory.mktemp("reach") / "texts.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "value", "person"])
        for i in range(60):
            label = "rare" if i % 4 == 0 else "common"
            writer.writerow([f"{label} words number {i} about {'abcdefgh'[i % 8]}", label, i * 1.5 + 0.25, f"p{i // 3}"])
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen images of two classes."""
    root = tmp_path_factory.mktemp("pictures")
    for i in range(16):
        pixels = np.random.default_rng(i).integers(0, 255, (20, 20, 3), dtype=np.uint8)
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / "ab"[i % 2] / f"{i}.png")
    return root


@pytest.fixture
def plan(data: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that plans a run, over the texts where it is given no others, up to where training would begin."""

    def planned(*words: str, source: Path = data, look: Any = None, loss: Any = None, **settings: Any) -> Planned:
        seen = Planned()

        def fit(learner: Any, loader: Any, groups: Any, plan: Any, *rest: Any, **named: Any) -> Iterator[Any]:
            evaluation = next((one for one in [*rest, *named.values()] if isinstance(one, Evaluation)), None)
            assert evaluation is not None
            found = look(learner) if look else None
            made = Seen(learner=learner, loader=loader, groups=tuple(groups), plan=plan, evaluation=evaluation, looked=found)
            seen.phases.append(made)
            return iter(())

        monkeypatch.setattr("pretune.runner.runner.fit", fit)
        monkeypatch.setattr(FineTuning, "record", lambda job, state: FineTuned(folder=state.run.folder, metrics={}, state=state))
        base: dict[str, Any] = {"strategy": "linear_probe", "precision": "float32", "threads": 1}
        if not any(word.startswith("head") for word in words) and settings.get("strategy") != "direct":
            base["head"] = {"name": "linear", "solver": "steps"}  # what is looked at here is what the loop is given
        base |= {"backbone": TEXTS, "label": "label"} if source == data else {"backbone": IMAGES, "image_size": 16, "augment": "none"}
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        recipe = Recipe.from_settings(str(source), *words, f"out={folder}", f"cache={cache}", base=base | settings)
        seen.state = Runner(FineTuning(recipe=recipe, loss=loss)).run_job().state
        return seen

    return planned


def parts_of(planned: Planned) -> dict[str, set[int]]:
    return {part: set(positions.tolist()) for part, positions in planned.state.data.splits.items()}


# --- the plan of a phase -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["epochs=7"], {"epochs": 7}),
        (["lr=0.02"], {"lr": 0.02}),
        (["weight_decay=0.3"], {"weight_decay": 0.3}),
        (["clip=0.5"], {"clip": 0.5}),
        (["clip=none"], {"clip": None}),
        (["ema=0.99"], {"ema": 0.99}),
        (["patience=4"], {"patience": 4}),
        (["seed=5"], {"seed": 5}),
        (["optim=sgd", "optim.momentum=0.7", "optim.nesterov=true"], {"optim": Optim(name="sgd", momentum=0.7, nesterov=True)}),
        (["optim.beta1=0.8", "optim.beta2=0.9"], {"optim": Optim(beta1=0.8, beta2=0.9)}),
        (
            ["schedule=step", "schedule.gamma=0.4", "schedule.milestones=5"],
            {"schedule": Schedule(name="step", gamma=0.4, milestones=5)},
        ),
        (
            ["schedule=plateau", "schedule.gamma=0.5", "schedule.patience=2", "patience=6"],
            {"schedule": Schedule(name="plateau", gamma=0.5, patience=2), "patience": 6},
        ),
        (
            ["schedule=wsd", "schedule.decay=0.4", "schedule.floor=0.1", "schedule.warmup=0.2"],
            {"schedule": Schedule(name="wsd", decay=0.4, floor=0.1, warmup=0.2)},
        ),
    ],
    ids=" ".join,
)
def test_it_is_in_the_plan(plan: Any, words: list[str], expected: dict[str, Any]) -> None:
    made = plan(*words).last.plan
    assert {key: getattr(made, key) for key in expected} == expected


def test_a_time_bounds_the_phase(plan: Any) -> None:
    assert plan().last.plan.budget is None
    budget = plan("time=60s").last.plan.budget
    assert budget is not None
    assert 1 < budget < 60


def test_precision_and_micro_batches_are_as_asked(plan: Any, pictures: Path) -> None:
    made = plan("strategy=scratch", "micro_batch=3", "epochs=1", source=pictures, precision="bfloat16").last.plan
    assert (made.precision.bfloat16, made.precision.micro_batch) == (True, 3)
    assert not plan("strategy=scratch", "epochs=1", source=pictures, precision="float32").last.plan.precision.bfloat16


def test_batches_are_as_large_as_asked(plan: Any) -> None:
    assert next(plan("batch_size=6").last.loader.iterate(0)).size == 6


# --- the loss ------------------------------------------------------------------------------------


OUTPUTS, TRUTH = torch.tensor([[1.0, -1.0], [0.5, 0.2], [0.0, 2.0]]), torch.tensor([0, 1, 0])


def test_class_weights_reach_the_loss(plan: Any) -> None:
    seen = plan("class_weights=true")
    train = seen.state.data.encoded.only[seen.state.data.splits["train"]]
    weight = len(train) / (2 * train.bincount().float())
    assert weight[1] > 2 * weight[0]
    assert torch.allclose(seen.last.learner.loss(OUTPUTS, TRUTH), F.cross_entropy(OUTPUTS, TRUTH, weight=weight))
    assert torch.allclose(plan().last.learner.loss(OUTPUTS, TRUTH), F.cross_entropy(OUTPUTS, TRUTH))


def test_label_smoothing_reaches_the_loss(plan: Any) -> None:
    loss = plan("label_smoothing=0.2").last.learner.loss
    assert torch.allclose(loss(OUTPUTS, TRUTH), F.cross_entropy(OUTPUTS, TRUTH, label_smoothing=0.2))


def test_a_loss_of_the_persons_own_takes_the_tasks_place(plan: Any) -> None:
    def own(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return outputs.sum() * 3

    assert plan(loss=own).last.learner.loss is own


def test_a_task_of_numbers_is_taken_by_name(plan: Any) -> None:
    seen = plan("task=regression", label="value")
    assert seen.last.evaluation.primary == "mae"
    assert not seen.last.evaluation.higher_is_better
    assert seen.last.learner.model.head.layers.out_features == 1


# --- the network ---------------------------------------------------------------------------------


def test_the_head_is_as_asked(plan: Any) -> None:
    layers = plan("head=mlp", "head.hidden=5", "head.layers=2", "head.dropout=0.3").last.learner.model.head.layers
    assert [m.out_features for m in layers if isinstance(m, nn.Linear)] == [5, 5, 2]
    assert {m.p for m in layers if isinstance(m, nn.Dropout)} == {0.3}
    assert isinstance(plan("head=linear", "head.dropout=0.1").last.learner.model.head.layers[0], nn.Dropout)


def test_the_pooling_is_as_asked(plan: Any) -> None:
    for kind in ("max", "mean_std"):
        model = plan(f"pooling={kind}", backbone=SEQUENCE).last.learner.model
        assert model.stages["pool"].kind == kind


def test_texts_are_cut_to_max_tokens(plan: Any) -> None:
    assert plan("max_tokens=5").state.data.ingested.store.lengths.max() == 5
    assert plan().state.data.ingested.store.lengths.max() > 5


def test_pictures_are_as_large_as_asked(plan: Any, pictures: Path) -> None:
    seen = plan("strategy=scratch", "epochs=1", source=pictures, image_size=24)
    assert next(seen.last.loader.iterate(0)).inputs.tensor.shape[2:] == (24, 24)


def test_pictures_become_squares_as_asked(plan: Any, pictures: Path) -> None:
    assert plan("fit=pad", "strategy=scratch", "epochs=1", source=pictures, image_size=24).state.data.modality.fit == "pad"


def updates(learner: SupervisedLearner) -> set[tuple[int, float, float]]:
    """Return rank, scale and dropout of the low-rank updates."""
    found = set()
    for module in learner.model.modules():
        if hasattr(module, "lora_A"):
            down: Any = module
            found.add((down.lora_A["default"].weight.shape[0], down.scaling["default"], getattr(down.lora_dropout["default"], "p", 0.0)))
    return found


def test_low_rank_updates_are_as_asked(plan: Any) -> None:
    words = ("strategy=lora", "strategy.rank=2", "strategy.alpha=5", "strategy.dropout=0.25")
    assert plan(*words, backbone=SEQUENCE, look=updates).last.looked == {(2, 2.5, 0.25)}


def open_stages(learner: SupervisedLearner) -> set[str]:
    return {name.split(".")[2] for name, p in learner.named_parameters() if p.requires_grad} - {"head"}


def test_stages_open_one_after_another_where_asked(plan: Any) -> None:
    gradual = plan("strategy=partial", "strategy.last=2", "strategy.gradual=true", "epochs=6", backbone=SEQUENCE, look=open_stages)
    assert [len(phase.looked) for phase in gradual.phases] == [0, 1, 2]
    assert [phase.plan.epochs for phase in gradual.phases[1:]] == [3, 3]
    at_once = plan("strategy=partial", "strategy.last=2", "epochs=6", backbone=SEQUENCE, look=open_stages)
    assert [len(phase.looked) for phase in at_once.phases] == [0, 2]


def test_a_probe_comes_first_unless_it_is_switched_off(plan: Any) -> None:
    assert [len(phase.looked) > 0 for phase in plan("strategy=full", backbone=SEQUENCE, look=open_stages).phases] == [False, True]
    alone = plan("strategy=full", "strategy.probe_first=false", backbone=SEQUENCE, look=open_stages)
    assert [len(phase.looked) > 0 for phase in alone.phases] == [True]


@pytest.mark.parametrize("strategy", ["full", "partial"])
def test_rates_fall_by_lr_decay(plan: Any, strategy: str) -> None:
    seen = plan(f"strategy={strategy}", "strategy.lr_decay=0.5", backbone=SEQUENCE)
    scales = sorted({group.lr_scale for group in seen.last.groups}, reverse=True)
    assert scales[:2] == [1.0, 0.5]
    assert set(scales) <= {0.5**k for k in range(8)}


def test_norms_move_where_asked(plan: Any, pictures: Path) -> None:
    words = ("strategy=full", "epochs=1", "strategy.freeze_norms=false")
    assert not plan(*words, source=pictures).last.learner.model.freeze_norms
    assert plan(*words[:2], source=pictures).last.learner.model.freeze_norms


# --- the data ------------------------------------------------------------------------------------


def test_val_is_the_share_that_was_asked_for(plan: Any) -> None:
    assert len(parts_of(plan("val=0.4"))["val"]) == 24
    assert len(parts_of(plan())["val"]) == 12


def test_another_seed_splits_otherwise(plan: Any) -> None:
    assert parts_of(plan("seed=1"))["val"] != parts_of(plan("seed=2"))["val"]
    assert parts_of(plan("seed=1"))["val"] == parts_of(plan("seed=1"))["val"]


def test_groups_stay_on_one_side(plan: Any) -> None:
    seen = plan("group=person")
    people = {part: {seen.state.data.rows[i].group for i in positions} for part, positions in parts_of(seen).items()}
    assert not people["train"] & people["val"]
    assert len(people["train"] | people["val"]) == 20


def test_near_duplicates_stay_on_one_side_of_every_split(plan: Any, tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    lines = [f"{kind} words about number {i},{kind}" for i in range(30) for kind in ("one", "other")]
    path.write_text("\n".join(["text,label", *lines, *(f"{line.split(',')[0].upper()} ,{line.split(',')[1]}" for line in lines)]))
    seen = plan("patience=3", source=path, backbone=TEXTS, image_size=None, augment=None, label="label")
    side = {seen.state.data.rows[i].text[0]: part for part, places in parts_of(seen).items() for i in places}
    assert set(side.values()) == {"train", "select", "val"}
    assert [text for text, part in side.items() if not text.isupper() and side[text.upper()] != part] == []


def test_new_parts_are_split_where_asked(plan: Any, pictures: Path, tmp_path: Path) -> None:
    for part, numbers in (("train", range(8)), ("val", range(8, 16))):
        for i in numbers:
            target = tmp_path / "parted" / part / "ab"[i % 2] / f"{i}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((pictures / "ab"[i % 2] / f"{i}.png").read_bytes())
    assert len(parts_of(plan(source=tmp_path / "parted"))["val"]) == 8
    seen = plan("split=new", "val=0.25", source=tmp_path / "parted")
    assert len(parts_of(seen)["val"]) == 4
    assert {row.split for row in seen.state.data.rows if "/val/" in f"/{row.id}"} == {"train", "val"}


def test_views_of_every_item_are_cached_and_taken_in_turn(plan: Any, pictures: Path) -> None:
    words = ("views=3", "augmentations=random_resized_crop")
    view = plan(*words, source=pictures, augment=None).last.loader.view
    assert isinstance(view, FeatureView)
    index = np.arange(2)
    seen = [view.batch(index, epoch).inputs.tensor for epoch in range(4)]
    assert torch.equal(seen[3], seen[0])
    assert not torch.equal(seen[1], seen[0])
    assert not torch.equal(seen[2], seen[1])
    still = plan(source=pictures).last.loader.view
    assert torch.equal(still.batch(index, 1).inputs.tensor, still.batch(index, 0).inputs.tensor)


@pytest.mark.parametrize(
    ("words", "names"),
    [(["augment=medium"], {"Flip", "Rotation", "Colour"}), (["augmentations=flip,grey"], {"Flip", "Grey"}), (["augment=none"], set())],
)
def test_batches_are_augmented_as_asked(plan: Any, pictures: Path, words: list[str], names: set[str]) -> None:
    view = plan("strategy=scratch", "epochs=1", *words, source=pictures, augment=None).last.loader.view
    assert {type(part).__name__ for part in getattr(view, "augmentations", ())} == names


# --- what chooses --------------------------------------------------------------------------------


def test_the_score_chooses_nothing(plan: Any) -> None:
    seen = plan()
    assert seen.last.evaluation.selects is None
    patient = plan("patience=3")
    parts = parts_of(patient)
    assert patient.last.evaluation.selects == "select"
    assert not parts["select"] & parts["val"]
    assert not parts["select"] & parts["train"]
    assert parts["val"] == parts_of(seen)["val"], "the score's items stay the same"
    assert parts["select"] | parts["train"] == parts_of(seen)["train"]


def test_val_chooses_where_test_scores(plan: Any, pictures: Path, tmp_path: Path) -> None:
    for part, numbers in (("train", range(8)), ("val", range(8, 12)), ("test", range(12, 16))):
        for i in numbers:
            target = tmp_path / "parted" / part / "ab"[i % 2] / f"{i}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((pictures / "ab"[i % 2] / f"{i}.png").read_bytes())
    seen = plan("patience=3", source=tmp_path / "parted")
    parts = parts_of(seen)
    assert seen.state.data.score == "test"
    assert parts["select"] == parts["val"]
    assert not parts["select"] & parts["test"]
    assert seen.last.evaluation.selects == "select"


def test_a_run_keeps_as_many_checkpoints_as_asked(plan: Any) -> None:
    assert plan("keep=7").state.run.training.checkpoints.keep == 7


def test_a_probe_learns_at_its_own_rate(plan: Any) -> None:
    probe, full = plan("strategy=full", "lr=0.5", "epochs=3", backbone=SEQUENCE).phases
    assert (probe.plan.lr, probe.plan.epochs) == (1e-3, 30)
    assert (full.plan.lr, full.plan.epochs) == (0.5, 3)


def test_the_cache_grows_as_large_as_asked(plan: Any) -> None:
    assert plan("cache_size=3GB").state.run.cache.limit == 3 << 30
