"""A network of our own as a Backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.overrides import TorchFunctionMode

from pretune import config, registry
from pretune.backbones._base import Backbone, Builder, Classifier, LoadReport, Readout
from pretune.errors import SettingError

if TYPE_CHECKING:
    from pretune.architectures import Architecture, Network


class Unfilled(TorchFunctionMode):
    """Within this context networks are built without drawing initial weights: for those that are read from a file.

    Drawing 134 million numbers takes seconds; `load_matching` then sees to it that every tensor is read.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Leave tensors as they are where `torch.nn.init` would fill them."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def wrap(sizes: Architecture, network: Network, *, classifier: Classifier | None = None, report: LoadReport | None = None) -> Backbone:
    """Return the network with the preprocessing its sizes ask for.

    Raises:
        SettingError: heads of attention do not divide its channels.
    """
    name = registry.name_of(sizes)
    _check_multiples(name, sizes)
    modality: Any = config.build(registry.load("modalities", sizes.modality), sizes.preprocessing())
    backbone = Backbone(
        stages=network.stages.items(),
        modality=modality,
        layout=network.layout,
        width=network.width,
        builder=Builder(id=f"scratch:{name}", settings=_settings(sizes)),
        readout=Readout(pooling=sizes.pooling, layered=sizes.layered, probing=sizes.probing),
        classifier=classifier,
    )
    backbone.causal = sizes.causal()
    backbone.report = report
    return backbone


def _check_multiples(name: str, sizes: Architecture) -> None:
    for whole, part in sizes.multiples:
        values = config.to_tree(sizes)
        if values[whole] % values[part]:
            raise SettingError(f"scratch:{name}: {whole}={values[whole]} must be a multiple of {part}={values[part]}.")


def _settings(sizes: Architecture) -> dict[str, Any]:
    return {key: value for key, value in config.to_tree(sizes).items() if key != "name"}
