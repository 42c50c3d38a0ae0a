"""Writing on: prompts with answers, conversations, plain text; what is learned of them, what is measured, what is written."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretune import backbones
from pretune.errors import DataError, SettingError
from pretune.evaluation import overlap
from pretune.labels import Labels, Ragged
from pretune.modalities.text import Text
from pretune.models import Model
from pretune.sources import sources
from pretune.sources.conversation import TEXT_GENERATION, Conversation, Turn, fault_of, turns_of
from pretune.sources.table import Columns, RunColumns, Table
from pretune.tasks import _language, _language_task, _rendering
from pretune.tasks._rendering import Answer, Renderer
from pretune.tasks.text_generation import TextGeneration
from pretune.types import Batch, Row
from tests.command_line import pretune
from tests.test_docs import ROOT, commands

CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = "sun moon tree river stone bird cloud rain snow wind"


@pytest.fixture(scope="module")
def text() -> Text:
    """A byte-level tokenizer with the marks of a chat."""
    from tokenizers import AddedToken, Tokenizer

    made = Text(units="piece", vocabulary=300, verbatim=True, max_tokens=64).learned_from([WORDS] * 4)
    tokenizer = Tokenizer.from_str(made.tokenizer)
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in ("<|im_start|>", "<|im_end|>")])
    return replace(made, tokenizer=tokenizer.to_str(), chat_template=CHAT)


def asked(prompt: str, answer: str) -> Row:
    """Return a prompt with its answer as a layout reads it."""
    return Row(id=prompt, text=(prompt,), target=Conversation(turns=(Turn("user", prompt), Turn("assistant", answer))))


def table_of(*rows: Row) -> Table:
    """Return rows as a table."""
    return Table(rows=list(rows), modality="text", target_type=TEXT_GENERATION, root=Path("data"), layout="")


def segments_of(row: Row) -> tuple[str, ...]:
    """Return the segments of a rendered row."""
    assert row.text is not None
    return row.text


def write_lines(path: Path, records: list[Any]) -> Path:
    """Write a JSON object a line."""
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "prompt"),
    [
        ({"prompt": "Say {} now", "completion": "so {} it is"}, "Say 0 now"),
        ({"instruction": "Name {} here", "input": "of {}", "output": "the name {}"}, "Name 0 here\n\nof 0"),
        ({"question": "What is {} then", "context": "about {}", "response": "it is {}"}, "What is 0 then\n\nabout 0"),
        ({"messages": [{"role": "user", "content": "Say {}"}, {"role": "assistant", "content": "{} said"}]}, "Say 0"),
        ({"conversations": [{"from": "human", "value": "Say {}"}, {"from": "gpt", "value": "{} said"}]}, "Say 0"),
        ({"prompt": [{"role": "user", "content": "Say {}"}], "completion": [{"role": "assistant", "content": "{}"}]}, "Say 0"),
        ({"system_prompt": "Be short", "question": "What is {} then", "response": "it is {}"}, "What is 0 then"),
    ],
)
def test_columns_that_mean_only_prompts_and_answers_are_recognised_without_a_task(record: Any, prompt: str, tmp_path: Path) -> None:
    filled = [json.loads(json.dumps(record).replace("{}", str(number))) for number in range(8)]
    table = sources.read(write_lines(tmp_path / "data.jsonl", filled))
    assert table.task == "text_generation"
    assert (table.rows[0].text, len(table.rows)) == ((prompt,), 8)
    assert isinstance(table.rows[0].target, Conversation)
    assert table.rows[0].target.turns[-1].role == "assistant"
    assert "data.jsonl" in table.messages[1]


@pytest.mark.parametrize(
    ("record", "columns", "roles", "last"),
    [
        ({"prompt": "a", "chosen": "good one", "rejected": "bad one"}, Columns(label="chosen"), "user assistant", "good one"),
        (
            {"prompt": "a", "chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "rejected": []},
            Columns(label="chosen"),
            "user assistant",
            "b",
        ),
        ({"system": "Be short", "instruction": "a", "input": "", "output": "b c"}, Columns(), "system user assistant", "b c"),
        (
            {"system": "S", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            Columns(),
            "system user assistant",
            "b",
        ),
    ],
)
def test_columns_beside_prompt_and_answer_have_their_meaning(record: Any, columns: Columns, roles: str, last: str, tmp_path: Path) -> None:
    table = sources.read(write_lines(tmp_path / "data.jsonl", [record, record]), columns, target=TEXT_GENERATION)
    found = table.rows[0].target
    assert isinstance(found, Conversation)
    assert [turn.role for turn in found.turns] == roles.split()
    assert found.turns[-1].content == last


@pytest.mark.parametrize(
    ("record", "word"),
    [
        ({"prompt": "a", "chosen": "b c", "rejected": "d e"}, "label=chosen"),
        ({"chosen": [{"role": "user", "content": "a"}], "rejected": [{"role": "user", "content": "a"}]}, "text=chosen"),
    ],
)
def test_pairs_of_preferences_are_refused_with_what_can_be_learned_of_them(record: Any, word: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", [record] * 4)
    with pytest.raises(DataError, match=rf"task=dpo.*{word}"):
        sources.read(path, target=TEXT_GENERATION)


def test_conversations_with_tools_parts_and_weights_are_read_as_openai_writes_them(text: Text) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}
    messages = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "rain "}, {"type": "text", "text": "now"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "sun"},
        {"role": "assistant", "content": "no rain", "weight": 0},
        {"role": "user", "content": "snow"},
        {"role": "assistant", "content": "no snow"},
    ]
    turns = turns_of(messages)
    assert isinstance(turns, tuple)
    assert fault_of(turns) is None
    assert turns[1].content == "rain now"
    assert turns[2].content == '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'
    wide = replace(text, max_tokens=600)
    row, _ = Renderer(text=wide).conversation(Row(id="x", target=Conversation(turns=turns)), answered=True)
    assert isinstance(row, Row)
    assert isinstance(row.target, Answer)
    assert [segments_of(row)[place] for place in row.target.scored] == [turns[2].content, "no snow"]
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]
    assert "is not a text" in turns_of(image)


def test_pieces_of_long_conversations_lose_turns_without_a_question_or_an_answer(tmp_path: Path) -> None:
    said = [("gpt", "so"), ("human", "a"), ("gpt", "b"), ("human", "c")]
    records = [{"conversations": [{"from": role, "value": value} for role, value in said]}] * 3
    table = sources.read(write_lines(tmp_path / "data.jsonl", records), target=TEXT_GENERATION)
    assert table.rows[0].target == Conversation(turns=(Turn("user", "a"), Turn("assistant", "b")))
    assert [(entry.action, entry.reason) for entry in table.ledger] == [("repaired", "cut_turns")] * 3
    assert "1 turn at its beginning and 1 turn at its end" in table.ledger[0].detail


def test_answers_that_are_classes_stay_classes(tmp_path: Path) -> None:
    rows = [{"question": f"Is {word} good", "answer": "yes" if number % 2 else "no"} for number, word in enumerate(WORDS.split())]
    assert sources.read(write_lines(tmp_path / "data.jsonl", rows)).task == "classification"


def test_columns_of_equal_standing_are_refused_with_both_spellings(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", [{"prompt": f"Say {i}", "output": f"so {i}", "response": f"thus {i}"} for i in range(6)])
    with pytest.raises(DataError, match="label=output or label=response"):
        sources.read(path, target=TEXT_GENERATION)
    table = sources.read(path, Columns(text="prompt", label="response"), target=TEXT_GENERATION)
    assert isinstance(table.rows[0].target, Conversation)
    assert table.rows[0].target.turns[-1].content == "thus 0"


def test_what_is_wrong_with_an_example_is_named_with_its_line(tmp_path: Path) -> None:
    good = [{"prompt": f"Say {i}", "completion": f"so {i} it is"} for i in range(6)]
    bad = [
        {"prompt": "a", "completion": ""},
        {"prompt": "b"},
        {"prompt": "same", "completion": "same"},
        {"prompt": "", "completion": "x"},
        {"prompt": "several", "completion": ["one", "two"]},
    ]
    table = sources.read(write_lines(tmp_path / "data.jsonl", [*good, *bad]), target=TEXT_GENERATION)
    reasons = {entry.item: entry.reason for entry in table.ledger}
    assert reasons == {
        "data.jsonl:7": "empty_answer",
        "data.jsonl:8": "no_answer",
        "data.jsonl:9": "answer_is_prompt",
        "data.jsonl:10": "empty_text",
    }
    assert len(table.rows) == 7
    assert table.rows[-1].target == Conversation(turns=(Turn("user", "several"), Turn("assistant", "one")), others=("two",))


@pytest.mark.parametrize(
    ("roles", "reason"),
    [
        ("user assistant", None),
        ("system user assistant user assistant", None),
        ("user user assistant", "bad_roles"),
        ("assistant user", "bad_roles"),
        ("user assistant system assistant", "bad_roles"),
        ("user assistant user", "no_answer"),
        ("user assistant tool tool assistant", None),
        ("user tool assistant", "bad_roles"),
        ("user assistant tool", "no_answer"),
        ("system user", "no_answer"),
    ],
)
def test_roles_take_turns_and_the_assistant_has_the_last_word(roles: str, reason: str | None) -> None:
    found = fault_of([Turn(role, f"{role} {place}") for place, role in enumerate(roles.split())])
    assert (found[0] if found else None) == reason


def test_messages_of_unknown_roles_are_named() -> None:
    assert "narrator" in turns_of([{"role": "narrator", "content": "x"}])
    assert turns_of([{"from": "human", "value": "Hi"}]) == (Turn("user", "Hi"),)


# --- rendering -----------------------------------------------------------------------------------


def test_a_conversation_is_tokenized_as_transformers_does_it(text: Text) -> None:
    from transformers import PreTrainedTokenizerFast

    reference = PreTrainedTokenizerFast(tokenizer_object=__import__("tokenizers").Tokenizer.from_str(text.tokenizer))
    reference.chat_template = CHAT
    turns = (Turn("system", "be brief"), Turn("user", "sun, moon?"), Turn("assistant", " tree\n\nriver!"))
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    segments, owners = Renderer(text=text).segments(turns, answered=True)
    assert text.segments(segments)[0].tolist() == reference.apply_chat_template(messages, tokenize=True, return_dict=False)
    assert [segments[owner] for owner in owners] == [turn.content for turn in turns]
    prompt, _ = Renderer(text=text).segments(turns[:2], answered=False)
    expected = reference.apply_chat_template(messages[:2], tokenize=True, add_generation_prompt=True, return_dict=False)
    assert text.segments(prompt)[0].tolist() == expected


def test_the_end_of_a_turn_cannot_be_written_by_a_person(text: Text) -> None:
    segments, _ = Renderer(text=text).segments((Turn("user", "<|im_end|>"), Turn("assistant", "sun")), answered=True)
    mark = text.segments(("<|im_end|>", "", ""))[0].tolist()
    assert len(mark) == 1
    assert text.segments(segments)[0].tolist().count(mark[0]) == 2


def test_only_answers_and_their_ends_are_learned(text: Text) -> None:
    turns = (Turn("user", "sun"), Turn("assistant", "moon"), Turn("user", "tree"), Turn("assistant", "river"))
    table = table_of(Row(id="0", text=("sun",), target=Conversation(turns=turns)))
    task = TextGeneration()
    task.render(table, text)
    labels = task.encode(table.rows, task.fit(table.rows, ()), text)
    found = labels["next"]
    assert isinstance(found, Ragged)
    (following,) = found.split()
    learned = following[following != _language.NONE].tolist()
    end = text.segments(("<|im_end|>", "", ""))[0][0]
    assert learned == [*text.ids("moon"), end, *text.ids("river"), end]
    assert labels["characters"].tolist() == [len("moonriver")]  # type: ignore[union-attr]


def test_a_prompt_that_is_too_long_loses_its_beginning(text: Text) -> None:
    short = replace(text, max_tokens=24)
    table = table_of(asked("sun " * 30 + "moon", "tree"), asked("sun", "tree " * 40), asked("sun", "tree"))
    TextGeneration().render(table, short)
    assert [texts[1][-5:] for texts in map(segments_of, table.rows)] == [" moon", "sun"]
    assert all(len(short.segments(row.text or ())[0]) <= 24 for row in table.rows)
    assert [entry.reason for entry in table.ledger] == ["too_long"]
    assert any("1 of 3 examples are longer than the window" in message for message in table.messages)


def test_a_plain_text_is_cut_into_blocks_that_hold_every_character_once(text: Text) -> None:
    document = ("sun moon, tree.\n" * 60 + "river 雪 stone") * 2
    table = table_of(Row(id="book", text=(document,), target=Conversation()))
    TextGeneration().render(table, text, held_out=0.25)
    told = "".join(segments_of(row)[row.target.scored[0]] for row in table.rows if isinstance(row.target, Answer))
    assert told == document
    assert all(len(text.segments(row.text or ())[0]) <= text.max_tokens for row in table.rows)
    splits = [row.split for row in table.rows]
    assert splits == sorted(splits)  # the end of the text is held out
    held = sum(len(segments_of(row)[-2]) for row in table.rows if row.split == "val")
    assert held == pytest.approx(0.25 * len(document), rel=0.05)


def test_a_text_too_short_for_a_block_says_how_long_it_must_be(text: Text) -> None:
    with pytest.raises(DataError, match="too short for one block"):
        TextGeneration().render(table_of(Row(id="a", text=("to be or not to be!",), target=Conversation())), text, held_out=0.2)


def test_without_a_template_an_empty_line_stands_between_prompt_and_answer(text: Text) -> None:
    table = table_of(asked("sun", "moon"))
    rendered = TextGeneration().render(table, replace(text, chat_template=""))
    assert rendered.chat_template == _rendering.PLAIN_TEMPLATE
    assert "".join(table.rows[0].text or ()) == "sun\n\nmoon[SEP]"  # the end of a text, as this tokenizer writes it
    assert rendered.with_files(rendered.files()) == rendered


# --- the network ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(text: Text) -> Callable[[str], tuple[Model, Text]]:
    """Return small networks of our own with a head over their table."""

    def make(sizes: str) -> tuple[Model, Text]:
        torch.manual_seed(0)
        backbone = backbones.load(f"scratch:{sizes},vocabulary=320")
        backbone.modality = text
        return Model(backbone, TextGeneration().head(None), 2, layout="sequence").eval(), text

    return make


GPT = "gpt,width=16,layers=2,heads=2,max_tokens=64"
LLAMA = "llama,width=24,layers=2,heads=3,groups=3,hidden=32"


def batch_of(task: TextGeneration, rows: list[Row], text: Text) -> Batch:
    """Return rendered rows as a batch."""
    inputs = text.collate([text.decode(row.text or ()).array for row in rows])
    return Batch(inputs=inputs, labels=task.encode(rows, task.fit(rows, ()), text), index=torch.arange(len(rows)))


@pytest.mark.parametrize("sizes", [GPT, LLAMA])
def test_the_loss_is_the_cross_entropy_of_the_answers_tokens(made: Callable[[str], tuple[Model, Text]], sizes: str) -> None:
    model, text = made(sizes)
    task, table = TextGeneration(), table_of(asked("sun", "moon tree"), asked("rain and snow", "wind"))
    task.render(table, text)
    batch = batch_of(task, table.rows, text)
    learner = task.learner(model, task.loss(None, batch.labels, None))  # type: ignore[arg-type]
    logits = model.head(model.before_head(batch.inputs))
    following = batch.labels["next"].padded(_language.NONE)  # type: ignore[union-attr,index]
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten(), ignore_index=_language.NONE)
    assert torch.allclose(learner(batch).loss, expected, atol=1e-5)
    figures = task.metrics(task.decode(learner.predict(batch), None), task.truth(batch.labels, None), None)  # type: ignore[arg-type]
    assert figures["token_loss"] == pytest.approx(float(expected.detach()), rel=1e-4)
    assert figures["character_loss"] < figures["token_loss"]
    unlabelled = replace(batch, labels=task.asked([text.decode(row.text or ()).array for row in table.rows]))
    again = task.decode(learner.predict(unlabelled), None)  # type: ignore[arg-type]
    assert task.metrics(again, task.truth(batch.labels, None), None)["token_loss"] == pytest.approx(figures["token_loss"])  # type: ignore[arg-type]


def test_a_frozen_table_learns_nothing_and_belongs_to_the_first_stage(made: Callable[[str], tuple[Model, Text]]) -> None:
    model, _ = made(GPT)
    assert list(model.head.parameters()) == []
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("sizes", [GPT, LLAMA])
def test_writing_with_remembered_keys_gives_what_the_whole_text_gives(made: Callable[[str], tuple[Model, Text]], sizes: str) -> None:
    model, text = made(sizes)
    prompts = [text.ids("sun moon").tolist(), text.ids("rain").tolist(), text.ids("snow").tolist()]
    task = TextGeneration()
    written = _language.write(model, prompts, most=6, ends=frozenset(), sampled=task, seed=0)
    for prompt, ids in zip(prompts, written, strict=True):
        whole = list(prompt)
        for _ in range(6):
            batch = text.collate([np.array(whole, np.int32)])
            whole.append(int(model.head(model.before_head(batch))[0, -1].argmax()))
        assert ids == whole[len(prompt) :]
    firsts = sorted({ids[0] for ids in written})
    others = _language.write(model, prompts, most=6, ends=frozenset(), sampled=task, seed=0, blank=firsts)
    assert not {ids[0] for ids in others} & set(firsts), "no text begins with these"
    ends = frozenset(written[0][2:3])
    assert _language.write(model, prompts[:1], most=6, ends=ends, sampled=task, seed=0)[0] == written[0][: written[0].index(written[0][2])]


@pytest.mark.parametrize("sizes", [GPT, LLAMA])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_texts_that_are_written_together_are_those_that_would_be_written_alone(
    made: Callable[[str], tuple[Model, Text]], sizes: str, temperature: float
) -> None:
    model, text = made(sizes)
    prompts = [text.ids(words).tolist() for words in ("sun moon tree", "rain", "snow wind stone", "bird", "rain")]
    task = TextGeneration(temperature=temperature)
    ends = frozenset(_language.write(model, prompts[:1], most=6, ends=frozenset(), sampled=task, seed=3)[0][3:4])

    def write(few: list[list[int]]) -> list[list[int]]:
        return _language.write(model, few, most=6, ends=ends, sampled=task, seed=3)

    assert len({len(prompt) for prompt in prompts}) > 2
    assert write(prompts) == [write([prompt])[0] for prompt in prompts]


def test_a_table_of_vectors_is_looked_up_and_not_cached(made: Callable[[str], tuple[Model, Text]]) -> None:
    model, _ = made(LLAMA)
    model.requires_grad_(False)
    model.stages["layer1"].requires_grad_(True)
    assert (model.boundary, model.cacheable) == (2, False)
    model.stages["layer1"].requires_grad_(False)
    model.stages["layer2"].requires_grad_(True)
    assert (model.boundary, model.cacheable) == (3, True)


def test_figures_of_several_texts_are_those_of_all_their_tokens() -> None:
    decoded = [np.array([[1.0, 1.0], [3.0, 0.0], [9.0, 0.0]]), np.array([[2.0, 1.0]])]
    labels = Labels({"next": Ragged.of([torch.tensor([4, 5, _language.NONE]), torch.tensor([6])]), "characters": torch.tensor([4, 8])})
    truth = _language.truth_of(labels)
    figures = TextGeneration().metrics(decoded, truth, None)  # type: ignore[arg-type]
    assert figures == pytest.approx({"character_loss": 0.5, "token_loss": 2.0, "perplexity": np.exp(2.0), "token_accuracy": 2 / 3})


def test_a_network_that_sees_what_it_is_to_predict_is_refused(text: Text) -> None:
    backbone = backbones.load("scratch:transformer,width=16,layers=1,heads=2,vocabulary=320")
    backbone.modality = text
    with pytest.raises(SettingError, match="sees what comes after each token"):
        Model(backbone, TextGeneration().head(None), 2, layout="sequence")


def test_the_commands_of_the_guide_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = WORDS.split()
    pairs = [{"prompt": f"Say {one} and then {other}.", "completion": f"{one} {other}"} for one in words for other in words if one != other]
    write_lines(tmp_path / "pairs.jsonl", pairs)
    write_lines(tmp_path / "new.jsonl", [{"prompt": "Say sun and then moon."}, {"prompt": ""}])
    (tmp_path / "corpus.txt").write_text("sun and moon, tree and river.\n" * 100)
    for line in commands(ROOT / "docs" / "tasks" / "language_models.md"):
        arguments = shlex.split(line)
        if arguments[0] == "finetune":
            arguments = [word for word in arguments if word != "task=text_generation"]
            small = "backbone=run:run" if "out=run2" in arguments else "backbone=scratch:gpt,width=16,layers=2,heads=2,max_tokens=64"
            arguments += [small, "precision=float32", "threads=1", "task=text_generation", "task.max_new_tokens=4"]
            arguments += ["epochs=1"] if "epochs=1" not in line else []
            arguments += [] if "strategy=" in line else ["batch_size=16"]
        pretune(*arguments)
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert answers[0]["prompt"] == "Say sun and then moon."
    assert isinstance(answers[0]["prediction"], str)
    assert "empty prompt" in answers[1]["error"]
    metrics = json.loads((tmp_path / "run2" / "metrics.json").read_text())
    assert metrics["floors"]["start"]["value"] > 0
    assert 0 <= metrics["written"]["rouge1"] <= 1
    assert (tmp_path / "run" / "backbone" / "chat_template.jinja").exists()


def test_texts_that_loop_copy_or_end_at_once_are_reported() -> None:
    rows = [Row(id=str(i), text=("", "a long story", ""), target=Answer(scored=(), prompt="a long story of rain")) for i in range(4)]
    task = TextGeneration()
    assert task.faults(rows, ["sun", "moon", "tree", "river"]) == []
    loop = "the sun and the moon " * 5
    assert ["loops" in sentence for sentence in task.faults(rows, [loop, loop, "tree", "river"])] == [True]
    assert ["copied" in sentence for sentence in task.faults(rows, ["story of rain", "a long story", "tree", "river"])] == [True]
    assert ["empty" in sentence for sentence in task.faults(rows, ["", "", "tree", "river"])] == [True]
    assert overlap.loops("好吃的" * 9)
    assert not overlap.loops("the sun and the moon and the tree and the river and the stone")


def test_written_texts_are_compared_with_the_nearest_reference() -> None:
    figures = overlap.figures(["the cat sat", "Sun."], [("a dog", "the cat sat down"), ("sun.",)])
    assert figures["exact_match"] == 0.5
    assert figures["rouge1"] == pytest.approx((6 / 7 + 1) / 2)
    assert overlap.rouge(["双官能团"], [("双官能团活性",)])[0, 0] == pytest.approx(2 * 4 / (4 + 6))


def test_written_answers_stand_beside_answers_that_need_no_network() -> None:
    def answered(prompt: str, answer: str) -> Row:
        return Row(id=prompt, target=Answer(scored=(1,), prompt=prompt, answer=answer))

    train = [answered("the colour of snow", "white"), answered("the colour of grass", "green"), answered("a deep river", "green")]
    held_out = [answered("what colour has snow", "white"), answered("grass colour", "green")]
    task = TextGeneration()
    figures = task.text_metrics(held_out, ["white", "blue"], train)
    assert figures["exact_match"] == 0.5
    assert {name: one["exact_match"] for name, one in figures["baselines"].items()} == {"constant": 0.5, "nearest": 1.0}
    (sentence,) = task.summary({"examples": 2, "split": "val", **figures})
    assert "0.500" in sentence
    assert "the answer to the most similar training prompt 1.000" in sentence
    assert task.summary({"examples": 1, "split": "val"}) == []


def test_metrics_whose_library_is_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert overlap.absent() == ""
    monkeypatch.setattr(overlap, "find_spec", lambda name: None if name == "rouge_score" else name)
    assert overlap.absent() == "Metrics that were not computed: ROUGE. Install them with: pip install 'pretune[metrics]'"
    figures = overlap.figures(["sun"], [("sun",)])
    assert "rouge1" not in figures
    assert figures["chrf"] == pytest.approx(100), "what is there is computed"


def test_an_empty_answer_stands_beside_its_prompt_and_reference() -> None:
    task = TextGeneration()
    lines = task.compare({"prompt": "Capital of France?", "target": "Paris", "prediction": ""}, "")
    assert [(line.name, line.passages[0].text) for line in lines] == [
        ("prompt", "Capital of France?"),
        ("reference", "Paris"),
        ("prediction", "(nothing)"),
    ]
    assert not task.compare({"prompt": "", "target": "", "prediction": ""}, "a plain text"), "no answer was asked for"


def test_a_prompt_has_the_tokens_that_it_had_in_training(text: Text) -> None:
    """GPT-2's byte-level pieces split two line ends before a word, and leave them whole at the end of a text."""
    tokenizer = json.loads(text.tokenizer)
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["ĊĊ"] = max(vocabulary.values()) + 100
    tokenizer["model"]["merges"].append(["Ċ", "Ċ"])
    merging = replace(text, tokenizer=json.dumps(tokenizer), chat_template="")
    whole = merging.ids("sun\n\n").tolist()
    assert whole[-1] == vocabulary["ĊĊ"] not in merging.ids("sun\n\nmoon").tolist()
    target = Answer(scored=(2,), prompt="sun", answer="moon")
    trained, _ = _language_task.asked_of(Row(id="a", text=("sun", "\n\n", "moon"), target=target), merging)
    ids = merging.segments(("sun", "\n\n", "moon"))[0].tolist()
    before = ids[: int(np.flatnonzero(trained != _language.NONE)[0]) + 1]
    asked = Row(id="a", text=("sun", "\n\n"), target=Answer(scored=(), prompt="sun"))
    assert _language_task._prompt(asked, merging, 99, "end") == before


# --- plain text in tables, and prompts that repeat -------------------------------------------------


def test_a_table_with_one_column_of_text_is_plain_text_where_the_task_is_named(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", [{"text": f"the sun and {word}"} for word in WORDS.split()] + [{"text": " "}])
    table = sources.read(path, target=TEXT_GENERATION)
    assert [row.text for row in table.rows[:2]] == [("the sun and sun",), ("the sun and moon",)]
    assert all(row.target == Conversation() for row in table.rows)
    assert [entry.reason for entry in table.ledger] == ["empty_text"]
    assert "plain text" in table.layout
    with pytest.raises(DataError, match="task=text_generation"):
        sources.read(path)
    again = sources.read(path, RunColumns(schema=table.schema), target=TEXT_GENERATION)
    assert again.rows == table.rows, "a run that was trained on it reads the same"
    both = write_lines(tmp_path / "both.jsonl", [{"id": 7, "story": "the sun", "year": 1999}] * 2)
    assert sources.read(both, target=TEXT_GENERATION).rows[0].text == ("the sun",)
    named = write_lines(tmp_path / "named.jsonl", [{"a": "the sun", "b": "rain"}] * 2)
    assert sources.read(named, Columns(text="b"), target=TEXT_GENERATION).rows[0].text == ("rain",)
    with pytest.raises(DataError, match="text=COLUMN alone"):
        sources.read(named, target=TEXT_GENERATION)


def test_invalid_bytes_of_plain_text_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_bytes(f"Grüße aus Köln. {WORDS * 20}".encode() + b"\xff\xfe" + WORDS.encode())
    table = sources.read(tmp_path / "input.txt", target=TEXT_GENERATION)
    assert [(one.kind, one.severity, one.message[:15]) for one in table.findings] == [("invalid_bytes", "warning", "2 invalid bytes")]


def test_texts_without_class_folders_are_told_of_plain_text(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text(WORDS)
    with pytest.raises(DataError, match=r"The one \.txt file makes no classes.* task=text_generation"):
        sources.read(tmp_path)
    assert sources.read(tmp_path, target=TEXT_GENERATION).rows[0].text == (WORDS,)


def test_many_documents_are_not_cut_smaller_than_one_long_one_would_be(text: Text) -> None:
    long = " ".join([WORDS] * 6)
    rows = [Row(id=str(number), text=(long,), target=Conversation()) for number in range(8)]
    sizes = []
    for few in (rows[:1], rows):
        table = table_of(*few)
        _rendering.render(table, replace(text, max_tokens=200), held_out=0.2, answered=True)
        sizes.append(len(table.rows) / len(few))
    assert sizes[0] > sizes[1]


def test_prompts_that_repeat_with_other_answers_are_reported(text: Text) -> None:
    table = table_of(asked("sun", "a"), replace(asked("sun", "b"), id="2"), asked("moon", "c"), replace(asked("sun", "d"), id="3"))
    _rendering.render(table, text, held_out=0.2, answered=True)
    splits: list[Any] = ["train", "train", "train", "val"]
    rows = [replace(row, split=split) for row, split in zip(table.rows, splits, strict=True)]
    several, held_out = TextGeneration().findings(rows, None)
    assert "1 of 2 training prompts have several different answers, such as 'sun'" in several.message
    assert (held_out.severity, held_out.items) == ("warning", ("3",))
    assert TextGeneration().findings(rows[1:3], None) == []


def test_one_long_text_is_not_said_to_be_too_few_examples(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text("the sun and the moon.\n" * 200)
    done = pretune("audit", str(tmp_path / "input.txt"), "task=text_generation", "--json")
    assert "meaningful score" not in done.stdout
    answers = write_lines(tmp_path / "data.jsonl", [{"prompt": f"say {word}", "completion": f"{word} it is"} for word in WORDS.split()])
    assert "meaningful score" in pretune("audit", str(answers), "task=text_generation", "--json").stdout
