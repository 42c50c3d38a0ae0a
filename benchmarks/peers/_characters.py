"""What the language-model peers share: the text as numbers, the number of steps that read it once, and the test loss."""

from pathlib import Path

import torch
import torch.nn.functional as F

BLOCK, BATCH = 64, 12


def read_text(data):
    """Return the training and the test characters (the last tenth) as numbers, and how many different ones there are."""
    text = Path(data, "input.txt").read_text(encoding="utf-8")
    places = {character: place for place, character in enumerate(sorted(set(text)))}
    ids = torch.tensor([places[character] for character in text])
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:], len(places)


def steps_of(train, epochs):
    """Return how many steps see as many tokens as the training text has, times `epochs`."""
    return epochs * -(-(len(train) // BLOCK) // BATCH)


def random_blocks(ids, count):
    """Return inputs and targets (the next characters) of blocks at random places, as nanoGPT takes them."""
    places = torch.randint(len(ids) - BLOCK - 1, (count,))
    pieces = torch.stack([ids[place : place + BLOCK + 1] for place in places])
    return pieces[:, :-1], pieces[:, 1:]


def nats(logits_of, test):
    """Return nats per character over the test text, in blocks that do not overlap."""
    count = (len(test) - 1) // BLOCK
    blocks = torch.stack([test[i * BLOCK : (i + 1) * BLOCK + 1] for i in range(count)])
    with torch.inference_mode():
        parts = [(logits_of(part[:, :-1]).float(), part[:, 1:]) for part in blocks.split(256)]
        total = sum(F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item() for logits, targets in parts)
    return total / (count * BLOCK)
