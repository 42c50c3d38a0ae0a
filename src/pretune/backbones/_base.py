"""What every source of pretrained networks gives back: a Backbone cut into ordered stages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pretune import registry
from pretune.errors import SettingError, WeightsError
from pretune.registry import Component
from pretune.types import Features, Layout

if TYPE_CHECKING:
    from pretune.architectures.layers.dense import DenseShape
    from pretune.architectures.layers.detector import LibraryLayers
    from pretune.architectures.layers.token_decoder import TokenDecoder
    from pretune.backbones._states import State
    from pretune.modalities import Modality

Classes = tuple[str, ...] | Callable[[], tuple[str, ...]] | None
"""Names of a pretrained head's classes, or a function that returns them when somebody asks."""


class TensorStage(nn.Module):
    """Wraps a plain module (Tensor -> Tensor) as a stage (Features -> Features)."""

    def __init__(self, module: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.module = module
        self.layout: Layout = layout

    def forward(self, features: Features) -> Features:
        """Run the module on the tensor; the mask travels on."""
        return features.with_tensor(self.module(features.tensor), self.layout)


_COUNTER = "num_batches_tracked"
"""What batch norms count in training; files of early PyTorch versions lack it, and nothing here reads it."""


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """How the tensors of a file met those of an architecture, by name."""

    source: str
    """Where the weights came from, for people: file, package and version, address."""
    matched: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    """Tensors of the file that the network has no place for, its old classifier not counted."""
    sha256: str | None = None
    licence: str | None = None

    def __str__(self) -> str:
        parts = [f"{self.matched} tensors matched", f"{len(self.missing)} missing", f"{len(self.unexpected)} unexpected"]
        licence = f"; licence {self.licence}" if self.licence else ""
        return f"{', '.join(parts)} ({self.source}{licence})"


@dataclass(frozen=True, kw_only=True)
class Builder:
    """All that is needed to build the same network again without its weights and without a network."""

    id: str
    """The id it was loaded by, 'source:name'."""
    settings: dict[str, Any] = field(default_factory=dict)
    """JSON-ready arguments of the source's `build`."""


@dataclass(frozen=True, kw_only=True)
class Readout:
    """How a network's features are best made into one vector."""

    pooling: str = "mean"
    """Default pooling: mean, mean_std, first, last, max; ignored where the layout is pooled."""
    layered: bool = False
    """Whether every stage gives a sequence of one width, so that `pooling=layers` can take them all."""
    probing: str | None = None
    """Default pooling where nothing but a head is learned; None for `pooling`."""


_MEAN = Readout()


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """The head a network was pretrained with, which `strategy=direct` uses."""

    layer: nn.Module
    """Pooled (B, D) -> logits."""
    classes: Classes = None
    """What the logits are of, in their order, where that is known."""


@dataclass(frozen=True, kw_only=True)
class Recogniser:
    """The CTC head that a network was pretrained with."""

    layer: nn.Linear | None = None
    """Sequence (B, T, D) -> scores of the symbols; None where it cannot be used."""
    symbols: tuple[str, ...] = ()
    """What its outputs write, in their order: characters, ' ' between words; '' for the blank and for what has no name."""
    blank: int = 0
    """The output that stands where nothing is written."""
    fault: str = ""
    """Why it cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How a network that writes scores the tokens that may come next."""

    tied: bool = True
    """Whether its table of word pieces does, rather than an output layer of its own."""
    layer: Callable[[], Tensor] | None = None
    """Reads the weight of that layer, (V, D); None where it is not known."""
    shape: tuple[int, int] = (0, 0)
    """(V, D) of that layer."""
    scale: float = 1.0
    """What scores are multiplied with."""
    capped: bool = False
    """Whether scores are squeezed into a range, which is not done here."""


class Backbone(nn.Module):
    """A pretrained ((or randomly initialised)) network as an ordered list of stages, Features -> Features.

    The first stage takes what the modality's normaliser returns; the last returns `layout`.
    A network that cannot be cut is one stage.
    """

    def __init__(
        self,
        *,
        stages: Iterable[tuple[str, nn.Module]],
        modality: Modality,
        layout: Layout,
        width: int,
        builder: Builder,
        readout: Readout = _MEAN,
        classifier: Classifier | None = None,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(dict(stages))
        self.modality = modality
        self.layout: Layout = layout
        self.width = width
        """Channels D of the last stage's output; a pooling may multiply it."""
        self.builder = builder
        self.pooling, self.layered = readout.pooling, readout.layered
        self.probing = readout.probing or readout.pooling
        self.classifier = None if classifier is None else classifier.layer
        """The pretrained head, pooled (B, D) -> logits, where there is one."""
        self._classes = None if classifier is None else classifier.classes
        self.detector: DenseShape | LibraryLayers | None = None
        """The detection head that the network was pretrained with, and which is its classifier: the sizes of a dense one, or the layers
        that another library has for it; None where it has none."""
        self.recogniser: Recogniser | None = None
        """The CTC head that it was pretrained with; None where it has none."""
        self.decoder: TokenDecoder | None = None
        """What writes from the network's features, as it was pretrained; None where there is no such."""
        self.late_decoder: Callable[[], TokenDecoder] | None = None
        """Returns the same, where it is read only when something writes."""
        self.causal = False
        """Whether no position sees what comes after it, so that the network can write."""
        self.scoring = Scoring()
        """Of a network that writes: how it scores tokens."""
        self.report: LoadReport | None = None

    @property
    def is_untrained(self) -> bool:
        """Whether no weights were loaded: a run's network is built like one from scratch, but holds what the run learned."""
        return self.report is None and self.builder.id.startswith("scratch:")

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the pretrained head's classes, in its order."""
        known = self._classes
        self._classes = known if known is None or isinstance(known, tuple) else known()
        return self._classes

    def pretrained_decoder(self) -> TokenDecoder | None:
        """Return what writes from the network's features, as it was pretrained; None where there is no such."""
        return self.decoder if self.late_decoder is None else self.late_decoder()

    def forward(self, features: Features) -> Features:
        """Run all stages."""
        for stage in self.stages.values():
            features = stage(features)
        return features


@dataclass(frozen=True, kw_only=True)
class BackboneSource(Component):
    """One place that backbones come from; members are frozen keyword-only dataclasses named like their file, ids are 'file-name:NAME'.

    Required are `load` and `build`. Settings written after the name ('scratch:cnn,width=64') come to both as further keywords,
    which `load` may take. A source whose networks are made for one image size takes it as `image_size` in both; for all others only
    the preprocessing changes.
    """

    def names(self, pattern: str = "") -> list[str]:
        """Return the names this source offers here and now, without a network; it may offer more than it can list."""
        return []

    def facts(self, name: str) -> str:
        """Return what a list of its networks says of one, such as its licence; nothing by default."""
        return ""

    def load(self, name: str, *, offline: bool) -> Backbone:
        """Return the backbone with its pretrained weights and a `report`.

        Raises:
            SettingError: unknown name (nearest first).
            WeightsError: weights missing (says where to get them), corrupt or mismatched.
        """
        raise TypeError(f"{type(self).__name__} must define load(name, *, offline) -> Backbone")

    def build(self, name: str, **settings: Any) -> Backbone:
        """Return the same architecture with randomly initialised weights: from scratch, and for reading a saved run."""
        raise TypeError(f"{type(self).__name__} must define build(name, **settings) -> Backbone")

    def from_state(self, name: str, state: State, *, image_size: int | None = None, **settings: Any) -> Backbone:
        """Return the architecture with tensors of the person's own: 'file:PATH@source:NAME'.

        Raises:
            SettingError: its networks take none, as is the default.
        """
        kind = registry.name_of(self)
        raise SettingError(
            f"file:…@{kind}:{name}: networks of {kind} take no weights from a file. Name torchvision:NAME, timm:NAME or scratch:NAME."
        )


def load_matching(network: nn.Module, state: dict[str, Tensor], *, source: str, head: tuple[str, ...] = ()) -> LoadReport:
    """Load `state` by name into `network`, refusing any silent mismatch.

    Args:
        network: the architecture; its tensors must all be found, except those under `head`.
        state: tensors by name.
        source: what to call the file in messages.
        head: name prefixes of the classifier, which may be absent or of another shape on either side.

    Raises:
        WeightsError: a tensor is missing, has another shape, is no float where the network has one, or holds NaN or infinity.
    """
    own = network.state_dict()
    in_head = lambda name: name.startswith(head)  # noqa: E731
    other = {k for k in own if k in state and state[k].shape != own[k].shape}
    wrong = [f"{k}: file {tuple(state[k].shape)}, network {tuple(own[k].shape)}" for k in own if k in other and not in_head(k)]
    missing = tuple(k for k in own if k not in state and not in_head(k) and not k.endswith(_COUNTER))
    unexpected = tuple(k for k in state if k not in own and not in_head(k))
    if wrong or missing or unexpected:
        shown = "; ".join([*wrong, *(f"missing {k}" for k in missing), *(f"unexpected {k}" for k in unexpected)][:6])
        matched = len(own) - len(missing) - len(wrong)
        raise WeightsError(
            f"{source} does not fit this architecture: {matched} tensors match by name and shape, "
            f"{len(missing)} missing, {len(unexpected)} unexpected, {len(wrong)} of another shape ({shown}). "
            "Name the architecture these weights were trained with."
        )
    taken: Any = OrderedDict((k, v) for k, v in state.items() if k in own and k not in other)
    require_floats(own, taken, source)
    require_finite(network, taken, source)
    taken._metadata = getattr(own, "_metadata", {})  # the version of each module's format
    network.load_state_dict(taken, strict=False)
    return LoadReport(source=source, matched=len(taken), missing=missing, unexpected=unexpected)


def require_floats(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """Refuse tensors that PyTorch would turn into floats without a word: integers, booleans, 8-bit floats, complex numbers.

    Args:
        own: the network's tensors by name.
        state: what will be put into them.
        source: what to call the file in messages.

    Raises:
        WeightsError: such a tensor stands where the network has floats (its scale is unknown), or floats where it has integers.
    """
    for name, tensor in state.items():
        if name.endswith(_COUNTER) or name not in own or _is_float(tensor) == _is_float(own[name]):
            continue
        theirs, ours = (str(dtype).removeprefix("torch.") for dtype in (tensor.dtype, own[name].dtype))
        cure = (
            "Quantised weights are not read: save the network's float32 weights." if _is_float(own[name]) else "Save the network as it is."
        )
        raise WeightsError(f"{source}: tensor {name!r} is {theirs}, but the network has {ours} there. {cure}")


def _is_float(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dtype.itemsize > 1


def require_finite(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Refuse NaN and infinity in parameters and running statistics; masks may hold them.

    Raises:
        WeightsError: with the tensor's name and how many of its numbers are none.
    """
    parameters = {name for name, _ in network.named_parameters()}
    for name, tensor in state.items():
        if (name not in parameters and "running_" not in name) or not _is_float(tensor):
            continue
        # A sum is NaN or infinite where one of its terms is, and takes no memory; only then are they counted.
        if torch.isfinite(tensor.sum(dtype=torch.float32)) or (bad := int((~torch.isfinite(tensor)).sum())) == 0:
            continue
        raise WeightsError(
            f"{source}: {bad:,} of {tensor.numel():,} numbers of tensor {name!r} are NaN or infinite. "
            "The training that wrote it has diverged, or the file is damaged: take an earlier checkpoint."
        )
