"""Names that people give to columns; lower case, words joined by '_'."""

from __future__ import annotations

import re


def _words(text: str) -> list[str]:
    return text.split()


LABEL = _words(
    "label labels class classes category categories target targets y sentiment class_name classname class_label label_name gold_label "
    "tag tags species emotion intent topic genre diagnosis annotation stance polarity answer_label outcome verdict"
)
"""In order of preference."""
QUANTITY = _words("value size age price amount weight height length width depth distance angle temperature percent pct duration")
"""Columns whose whole numbers are measured, where there are more than a handful of them."""
NUMBER = ["score", "rating", "ratings", "stars", "quality", "similarity", *QUANTITY]
TEXT = _words(
    "text texts sentence sentences review reviews review_text content contents comment comments comment_text body document utterance tweet "
    "message question query title description abstract passage transcript news headline prompt input"
)
PAIRS = (
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text_1", "text_2"),
    ("text_a", "text_b"),
    ("query", "passage"),
)
PATH = _words(
    "path paths file files filename file_name filepath file_path image images img image_path img_path image_id audio audio_path clip wav"
)
SPLIT = _words("split splits set subset part partition fold usage")
FLAGS = {
    "is_valid": "val",
    "is_val": "val",
    "is_validation": "val",
    "is_test": "test",
    "is_train": "train",
    "is_training": "train",
    "is_holdout": "test",
}
"""Columns of true and false that mark one part; what is not marked is train, or test where train is marked."""
FOLD = ("fold", "folds", "cv_fold", "kfold", "fold_id")
"""Columns that number the folds of a cross-validation."""
GROUP = _words("group groups group_id")
GROUPLIKE = _words(
    "patient patient_id subject subject_id participant participant_id speaker speaker_id user user_id author session writer site"
)
"""Columns worth suggesting as group=."""
ID = _words("id ids idx index uid uuid guid no nr row row_id key sample_id item_id unnamed_0")


def plain(name: str) -> str:
    """Return a column name in the form of the lists above: 'Review Text' -> 'review_text', 'ProductId' -> 'product_id'."""
    return "_".join(re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold()))


def known() -> frozenset[str]:
    """Return every name of the lists above."""
    pairs = [name for pair in PAIRS for name in pair]
    return frozenset([*LABEL, *NUMBER, *TEXT, *pairs, *PATH, *SPLIT, *FLAGS, *GROUP, *GROUPLIKE, *ID])
