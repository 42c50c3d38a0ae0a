"""Settings: read, override, validate, write back."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest

from pretune import config
from pretune.config import Bytes, Duration, Flat, Within
from pretune.described import settings
from pretune.errors import SettingError
from pretune.pretraining import Pretraining
from pretune.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A section."""

    rate: Annotated[float, Within(0, 1, above=True)] = 0.5
    """A share."""
    time: Annotated[float | None, Duration()] = None
    size: Annotated[int | None, Bytes()] = None


@dataclass(frozen=True, kw_only=True)
class Named:
    """A section that its name alone stands for."""

    name: Literal["one", "two"] = "one"
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Outer:
    """The root."""

    count: Annotated[int, Within(1)] = 3
    """How many."""
    on: bool = False
    inner: Annotated[Inner, Flat()] = field(default_factory=Inner)
    named: Named = field(default_factory=Named)
    strength: Literal["none", "light"] | None = None


def build(*words: str) -> Outer:
    return config.build(Outer, config.override({}, words))


def test_flat_keys_reach_their_section_in_both_spellings() -> None:
    assert build("rate=0.25") == build("inner.rate=0.25") == Outer(inner=Inner(rate=0.25))


@pytest.mark.parametrize(("text", "seconds"), [("90", 90.0), ("90s", 90.0), ("10m", 600.0), ("1.5h", 5400.0), ("2d", 172800.0)])
def test_durations_take_units(text: str, seconds: float) -> None:
    assert build(f"time={text}").inner.time == seconds


def test_bytes_take_units() -> None:
    assert build("size=2G").inner.size == 2 << 30


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("cout=3", "Did you mean 'count'"),
        ("count=0", "count must be a whole number in [1, inf); got '0'"),
        ("count=2.5", "count must be a whole number"),
        ("rate=0", "in (0, 1]"),
        ("rate=nan", "in (0, 1]"),
        ("on=maybe", "on must be true or false"),
        ("time=soon", "90s, 10m or 1.5h"),
        ("time=0", "must be an amount"),
        ("named=three", "cannot be 'three'"),
        ("named.wight=2", "Did you mean 'weight'"),
        ("count", "not a setting"),
    ],
)
def test_bad_settings_say_what_is_allowed(word: str, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        build(word)
    assert message in str(caught.value)


def test_a_components_settings_may_come_before_its_name() -> None:
    for words in (["strategy.rank=4", "strategy=lora"], ["strategy=lora", "strategy.rank=4"]):
        assert config.to_tree(Recipe.from_settings("x", *words).strategy)["rank"] == 4
    changed = Recipe.from_settings("x", "strategy=lora", "strategy.rank=4", "strategy=full").strategy
    assert "rank" not in config.to_tree(changed), "another component keeps nothing of the one before"
    assert build("named.weight=3", "named=two").named == Named(name="two", weight=3.0)


def test_a_named_section_takes_its_name_or_its_keys() -> None:
    assert build("named=two").named == Named(name="two")
    assert build("named=two", "named.weight=3").named == Named(name="two", weight=3.0)


@pytest.mark.parametrize(("word", "value"), [("strength=none", "none"), ("strength=auto", None), ("strength=light", "light")])
def test_none_is_a_choice_where_one_is_called_so(word: str, value: str | None) -> None:
    assert build(word).strength == value
    assert config.build(Outer, config.to_tree(build(word))).strength == value


@pytest.mark.parametrize("word", ["time=none", "time=auto"])
def test_none_and_auto_leave_a_setting_to_its_default(word: str) -> None:
    assert build(word).inner.time is None


def test_trees_round_trip() -> None:
    made = build("rate=0.1", "named=two", "on=yes", "time=3m")
    assert config.build(Outer, config.to_tree(made)) == made
    assert config.digest(made) != config.digest(Outer())


def test_settings_are_described_from_the_strings_under_the_fields() -> None:
    described = {setting.key: setting for setting in settings(Outer)}
    assert described["count"].doc == "How many."
    assert described["rate"].doc == "A share."
    assert described["rate"].default == "0.5"


def test_none_is_a_choice_where_it_is_named_as_one_and_auto_elsewhere() -> None:
    assert Pretraining.from_settings("x", "augment=none").augment == "none"
    assert Recipe.from_settings("x", "augment=none").augment == "none"
    assert Recipe.from_settings("x", "augment=auto").augment is None
    assert Recipe.from_settings("x", "precision=none", "clip=none").training.clip is None
