"""Data for every case: generated from what installed packages ship, or made up.

    python -m benchmarks.data OUT     # OUT/images, OUT/texts, OUT/tags, OUT/pairs, OUT/boxes, OUT/audio, OUT/speech …

- images: pieces of photographs of scikit-image and scikit-learn as JPEG files of 500 x 375; which photograph is it a piece of?
  Pieces of the test split come from another part of each photograph than those of the training split.
- texts: sentences of SciPy's documentation; which of its packages do they describe?
- tags: paragraphs of the same documentation, as CoNLL files; which words are code, and which are names of functions or parameters?
- pairs: first sentences of the same documentation; which of its paragraphs goes on from them?
- boxes: pieces of the same photographs with discs and squares cut out of other pieces of them, in YOLO's layout.
- audio: ten words of two vowels each, synthesised by speakers of different pitch and vocal tract, with noise.
- speech: clips of two to four of these words, as a CSV file with transcripts.
- translations: sentences of a small grammar, English and German.
- characters: Python's own language reference, as `pydoc` ships it.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

PHOTOGRAPHS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png", "retina.jpg", "brick.png", "gravel.png",
               "grass.png", "china.jpg", "flower.jpg", "moon.png")  # fmt: skip
IMAGE_SIZE = (500, 375)
PACKAGES = ("stats", "signal", "optimize", "sparse", "ndimage", "special", "spatial", "interpolate")
VOWELS = {"a": (730, 1090, 2440), "e": (530, 1840, 2480), "i": (270, 2290, 3010), "o": (570, 840, 2410), "u": (300, 870, 2240)}
"""Formants in Hz (Peterson and Barney, 1952)."""
WORDS = ("ae", "ai", "au", "ei", "eo", "ia", "io", "oa", "ou", "ui")
RATE = 16_000
MODALITIES = {
    "image": "images",
    "text": "texts",
    "tags": "tags",
    "pairs": "pairs",
    "boxes": "boxes",
    "audio": "audio",
    "speech": "speech",
    "translations": "translations",
    "corpus": "characters",
}


def generate(modality: str, out: Path) -> Path:
    """Write the generated data set of a modality below `out` and return its folder; the same bytes each time."""
    folder = out / MODALITIES[modality]
    write = {
        "image": _images, "text": _texts, "tags": _tags, "pairs": _pairs, "boxes": _boxes, "audio": _audio, "speech": _speech,
        "translations": _translations, "corpus": _characters,
    }  # fmt: skip
    write[modality](folder)
    return folder


def _images(out: Path, train: int = 40, test: int = 20) -> None:
    """Write pieces of each photograph, turned, enlarged, recoloured, blurred and with noise."""
    for kind, photograph in enumerate(_photographs()):
        name, picture = photograph
        rng = np.random.default_rng(kind)
        cut = int(0.62 * picture.width)
        regions = {"train": (picture.crop((0, 0, cut, picture.height)), train), "test": (picture.crop((cut, 0, *picture.size)), test)}
        for split, (region, count) in regions.items():
            folder = out / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                _piece(region, rng).save(folder / f"{index:03}.jpg", quality=88)


def _boxes(out: Path, train: int = 10, val: int = 4) -> None:
    """Write pieces of each photograph with discs and squares pasted on them, filled with another part of it, in YOLO's layout."""
    from PIL import Image, ImageDraw

    for photograph, (name, picture) in enumerate(_photographs()):
        rng = np.random.default_rng(photograph)
        for index in range(train + val):
            split = "train" if index < train else "val"
            piece, lines = _piece(picture, rng), []
            for _ in range(int(rng.integers(1, 4))):
                side, kind = int(rng.integers(50, 140)), int(rng.integers(2))
                left, top = (int(rng.integers(length - side)) for length in IMAGE_SIZE)
                shape = Image.new("L", (side, side), 0)
                draw = ImageDraw.Draw(shape)
                (draw.ellipse if kind == 0 else draw.rectangle)((0, 0, side - 1, side - 1), fill=255)
                piece.paste(_piece(picture, rng).resize((side, side)), (left, top), shape)
                sides = ((left + side / 2) / IMAGE_SIZE[0], (top + side / 2) / IMAGE_SIZE[1], side / IMAGE_SIZE[0], side / IMAGE_SIZE[1])
                lines.append(" ".join([str(kind), *(f"{value:.5f}" for value in sides)]))
            for kind_of in ("images", "labels"):
                (out / kind_of / split).mkdir(parents=True, exist_ok=True)
            piece.save(out / "images" / split / f"{name}-{index:02}.jpg", quality=88)
            (out / "labels" / split / f"{name}-{index:02}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (out / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [disc, square]\n", encoding="utf-8")


def _photographs() -> Iterator[tuple[str, Picture]]:
    from PIL import Image

    for file in PHOTOGRAPHS:
        package, inner = (
            ("scikit-learn", "sklearn/datasets/images") if file in ("china.jpg", "flower.jpg") else ("scikit-image", "skimage/data")
        )
        with Image.open(str(distribution(package).locate_file(f"{inner}/{file}"))) as picture:
            scale = 400 / min(picture.size)
            yield Path(file).stem, picture.convert("RGB").resize((round(picture.width * scale), round(picture.height * scale)))


def _piece(region: Picture, rng: np.random.Generator) -> Picture:
    """Return one piece of a photograph as a photo of its own."""
    from PIL import Image, ImageEnhance, ImageFilter

    width = int(rng.uniform(0.45, 0.8) * min(region.size))
    height = width * 3 // 4
    left, top = int(rng.integers(region.width - width + 1)), int(rng.integers(region.height - height + 1))
    piece = region.crop((left, top, left + width, top + height)).resize(IMAGE_SIZE)
    if rng.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    piece = piece.rotate(rng.uniform(-25, 25), expand=False).filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))
    for change in (ImageEnhance.Color, ImageEnhance.Brightness, ImageEnhance.Contrast):
        piece = change(piece).enhance(rng.uniform(0.4, 1.5))
    noisy = np.asarray(piece, dtype=np.float32) + rng.normal(0, rng.uniform(2, 14), (IMAGE_SIZE[1], IMAGE_SIZE[0], 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _texts(out: Path, train: int = 100, test: int = 40) -> None:
    """Write sentences of SciPy's docstrings; a module's sentences are all in one split."""
    root = Path(str(distribution("scipy").locate_file("scipy")))
    lines: dict[str, list[str]] = defaultdict(list)
    for kind, package in enumerate(PACKAGES):
        rng = np.random.default_rng(kind)
        modules = sorted((root / package).glob("*.py"))
        found = {path: set(_sentences(path)) for path in modules}
        known = {sentence for path in modules if path not in modules[2::3] for sentence in found[path]}
        new = {sentence for path in modules[2::3] for sentence in found[path]} - known
        for split, sentences, count in (("train", sorted(known), train), ("test", sorted(new), test)):
            lines[split] += [f"{sentences[place]}\t{package}\n" for place in rng.permutation(len(sentences))[:count]]
    out.mkdir(parents=True)
    for split, found in lines.items():
        order = np.random.default_rng(0).permutation(len(found))
        (out / f"{split}.tsv").write_text("".join(found[place] for place in order), encoding="utf-8")


def _tags(out: Path, train: int = 600, test: int = 200) -> None:
    """Write paragraphs of SciPy's docstrings as CoNLL files; a module's paragraphs are all in one split."""
    root = Path(str(distribution("scipy").locate_file("scipy")))
    modules = [path for package in PACKAGES for path in sorted((root / package).glob("*.py"))]
    found = {path: set(_paragraphs(path)) for path in modules}
    known = {text for path in modules if path not in modules[2::3] for text in found[path]}
    new = {text for path in modules[2::3] for text in found[path]} - known
    out.mkdir(parents=True)
    for split, texts, count in (("train", sorted(known), train), ("test", sorted(new), test)):
        order = np.random.default_rng(0).permutation(len(texts))[:count]
        (out / f"{split}.conll").write_text("\n".join(texts[place] for place in order), encoding="utf-8")


def _pairs(out: Path, train: int = 400, test: int = 120) -> None:
    """Write the first sentence of SciPy's docstrings with a later paragraph of each; a module's pairs are all in one split."""
    root = Path(str(distribution("scipy").locate_file("scipy")))
    modules = [path for package in PACKAGES for path in sorted((root / package).glob("*.py"))]
    found = {path: dict(_summaries(path)) for path in modules}
    known = {query: passage for path in modules if path not in modules[2::3] for query, passage in found[path].items()}
    new = {query: passage for path in modules[2::3] for query, passage in found[path].items() if query not in known}
    out.mkdir(parents=True)
    for split, pairs, count in (("train", sorted(known.items()), train), ("test", sorted(new.items()), test)):
        order = np.random.default_rng(0).permutation(len(pairs))[:count]
        lines = (json.dumps({"anchor": pairs[place][0], "positive": pairs[place][1]}) + "\n" for place in order)
        (out / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def _summaries(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the first line of each docstring of a module, and its longest paragraph of plain words."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        text = ast.get_docstring(node) if isinstance(node, ast.ClassDef | ast.FunctionDef) else None
        first, *rest = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text or "")]
        plain = [one for one in rest if 80 <= len(one) <= 600 and "---" not in one and re.fullmatch(r"[A-Z][^<>|{}\\~]*\.", one)]
        if plain and 20 <= len(first) <= 150:
            yield first, max(plain, key=len)


def _paragraphs(path: Path) -> Iterator[str]:
    """Yield the paragraphs of a module's docstrings with marked words, a word and its tag a line; the marks are taken out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        text = ast.get_docstring(node) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) else None
        for paragraph in re.split(r"\n\s*\n", text or ""):
            whole = " ".join(paragraph.split())
            if 40 <= len(whole) <= 400 and "`" in whole and not re.search(r"[|_]`|:`|>>>", whole):
                yield "".join(
                    f"{word}\t{'O' if not kind else ('B-' if at == 0 else 'I-') + kind}\n"
                    for piece, kind in _marked(whole)
                    for at, word in enumerate(re.findall(r"\w+|[^\w\s]", piece))
                )


def _marked(text: str) -> Iterator[tuple[str, str]]:
    """Yield the pieces of a paragraph: CODE between double backticks, NAME between single ones, and what is between them."""
    for match in re.finditer(r"``(.+?)``|`([^`]+)`|([^`]+)", text):
        yield match[1] or match[2] or match[3], "CODE" if match[1] else "NAME" if match[2] else ""


def _sentences(path: Path) -> Iterator[str]:
    """Yield the English sentences of a module's docstrings; the names of SciPy's packages are taken out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        text = ast.get_docstring(node) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) else None
        for paragraph in re.split(r"\n\s*\n", text or ""):
            for sentence in re.split(r"(?<=[.])\s+", " ".join(paragraph.split())):
                if 40 <= len(sentence) <= 250 and re.fullmatch(r"[A-Z][^<>=|{}\\`_~]*\.", sentence):
                    yield re.sub(r"(?i)\bscipy(\.\w+)*", "it", sentence)


def _audio(out: Path, train: int = 40, test: int = 20) -> None:
    """Write synthesised words; the speakers of the test split are others than those of the training split."""
    import soundfile

    for kind, word in enumerate(WORDS):
        rng = np.random.default_rng(kind)
        for split, count, pitches in (("train", train, (90, 180)), ("test", test, (140, 240))):
            folder = out / split / word
            folder.mkdir(parents=True)
            for index in range(count):
                soundfile.write(folder / f"{index:03}.wav", _spoken(word, rng.uniform(*pitches), rng), RATE, subtype="PCM_16")


def _spoken(word: str, pitch: float, rng: np.random.Generator) -> np.ndarray:
    """Return a word: pulses of the voice through the formants of its vowels, with noise; float samples at RATE."""
    from scipy.signal import lfilter

    tract = rng.uniform(0.85, 1.2)
    pieces = []
    for vowel in word:
        samples = int(rng.uniform(0.12, 0.3) * RATE)
        phase = np.cumsum(pitch * rng.uniform(0.9, 1.1) * (1 + 0.02 * np.sin(np.arange(samples) / 500)) / RATE)
        sound = np.diff(np.floor(phase), prepend=0.0) + 0.02 * rng.standard_normal(samples)
        for formant in VOWELS[vowel]:
            centre, radius = 2 * np.pi * formant * tract * rng.uniform(0.94, 1.06) / RATE, 0.97
            sound = lfilter([1 - radius], [1, -2 * radius * np.cos(centre), radius**2], sound)
        pieces.append(sound / (np.abs(sound).max() + 1e-9) * np.hanning(samples) ** 0.3)
    voice = np.concatenate([np.zeros(int(rng.uniform(0, 0.1) * RATE)), *pieces])
    return 0.4 * voice / np.abs(voice).max() + rng.uniform(0.005, 0.1) * rng.standard_normal(len(voice))


def _speech(out: Path, train: int = 120, test: int = 40) -> None:
    """Write clips of two to four synthesised words, with pauses; the speakers of the test split are others."""
    import soundfile

    (out / "wav").mkdir(parents=True)
    lines = ["path,text,split\n"]
    for seed, (split, count, pitches) in enumerate((("train", train, (90, 180)), ("test", test, (140, 240)))):
        rng = np.random.default_rng(seed)
        for index in range(count):
            words = [WORDS[place] for place in rng.integers(len(WORDS), size=int(rng.integers(2, 5)))]
            pitch = rng.uniform(*pitches)
            pieces = [piece for word in words for piece in (_spoken(word, pitch, rng), np.zeros(int(rng.uniform(0.1, 0.3) * RATE)))]
            soundfile.write(out / "wav" / f"{split}-{index:03}.wav", np.concatenate(pieces), RATE, subtype="PCM_16")
            lines.append(f"wav/{split}-{index:03}.wav,{' '.join(words)},{split}\n")
    (out / "clips.csv").write_text("".join(lines), encoding="utf-8")


def _translations(out: Path, train: int = 6000, test: int = 300) -> None:
    """Write sentences of a small grammar with their translations; no sentence is in both splits."""
    from benchmarks.translated import sentences

    out.mkdir(parents=True)
    pairs: dict[str, str] = {}
    for english, german in sentences(seed=0):
        pairs.setdefault(english, german)
        if len(pairs) == train + test:
            break
    for at, language in enumerate(("en", "de")):
        lines = [f"{pair[at]}\n" for pair in pairs.items()]
        (out / f"train.{language}").write_text("".join(lines[:train]), encoding="utf-8")
        (out / f"test.{language}").write_text("".join(lines[train:]), encoding="utf-8")


def _characters(out: Path) -> None:
    """Write Python's language reference as one text of ASCII characters."""
    from pydoc_data.topics import topics

    out.mkdir(parents=True)
    text = "\n\n".join(topics[name] for name in sorted(topics))
    (out / "input.txt").write_text("".join(character for character in text if character.isascii()), encoding="utf-8")


if __name__ == "__main__":
    for wanted in MODALITIES:
        print(generate(wanted, Path(sys.argv[1])))
