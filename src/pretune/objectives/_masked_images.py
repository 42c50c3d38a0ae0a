"""Reconstruct hidden patches of images from those that are seen: MAE for our vision transformer, SimMIM for maps.

K. He et al., "Masked Autoencoders Are Scalable Vision Learners", 2022;
Z. Xie et al., "SimMIM: A Simple Framework for Masked Image Modeling", 2022.

Shapes: B images, T patches, S seen patches, P numbers of a patch, D channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pretune.architectures.layers.encoder import EncoderLayer
from pretune.architectures.vit import Patches, cut, places
from pretune.backbones import Backbone
from pretune.errors import SettingError
from pretune.modalities.image import Image, Normaliser
from pretune.objectives._items import ItemLearner, collapse, health
from pretune.types import Batch, Features, StepOutput

if TYPE_CHECKING:
    from pretune.objectives.masked import Masked

SHARE = {"sequence": 0.75, "map": 0.6}
"""Share of hidden patches by layout, as in the papers."""
DECODER = (96, 2, 3)
"""Width, layers and heads of the decoder, which is left behind."""
GRID = 8
"""Hidden patches of maps are about so many in a row, as long as they are no smaller than the map's own steps."""
FLAT = 1e-3
"""Added to a patch's variance: what has less contrast is noise that nothing foretells."""


def learner(backbone: Backbone, objective: Masked) -> MaskedImagesLearner:
    """Return the learner that suits the network.

    Raises:
        SettingError: its features have no places.
    """
    share = objective.share or SHARE.get(backbone.layout, 0.0)
    if isinstance(next(iter(backbone.stages.values())), Patches):
        return LeftOut(backbone, share)
    if backbone.layout == "map":
        return Painted(backbone, share)
    raise SettingError(
        f"objective=masked needs scratch:vit or a convolutional network, whose features have places; those of {backbone.builder.id} "
        f"are {backbone.layout}. Take objective=contrastive."
    )


class MaskedImagesLearner(ItemLearner):
    """Compares patches' pixels, normalised patch by patch, where they were hidden."""

    fills_in: ClassVar[bool] = True

    patch: int

    def __init__(self, backbone: Backbone, share: float) -> None:
        super().__init__(backbone)
        self.share = share

    def forward(self, batch: Batch) -> StepOutput:
        """Return the mean squared error of hidden patches; in eval mode also that of each patch's own mean."""
        x_BCHW = self.normaliser(batch.inputs).tensor
        target_BTP = normalised(cut(self._whole(x_BCHW), self.patch))
        hidden_BT = hidden(len(x_BCHW), target_BTP.shape[1], self.share, x_BCHW.device)
        predicted_BTP = self.predicted(x_BCHW, hidden_BT).float()
        loss = F.mse_loss(predicted_BTP[hidden_BT], target_BTP[hidden_BT])
        logs = {} if self.training else self._health(batch, target_BTP[hidden_BT])
        return StepOutput(loss=loss, size=batch.size, logs=logs)

    def predicted(self, x_BCHW: Tensor, hidden_BT: Tensor) -> Tensor:
        """Return what the hidden patches are predicted as, (B, T, P), from normalised images."""
        raise TypeError(f"{type(self).__name__} must define predicted(x_BCHW, hidden_BT)")

    def _whole(self, x_BCHW: Tensor) -> Tensor:
        """Continue images to whole patches."""
        down, right = (-side % self.patch for side in x_BCHW.shape[2:])
        return F.pad(x_BCHW, (0, right, 0, down), mode="replicate") if down or right else x_BCHW

    def _health(self, batch: Batch, target_NP: Tensor) -> dict[str, float]:
        pooled_BD = self.pooled(batch.inputs)
        return health(pooled_BD) | {"floor_patch_mean": float(target_NP.square().mean())}

    @torch.no_grad()
    def reconstructions(self, batch: Batch) -> list[tuple[str, list[NDArray[np.uint8]]]]:
        """Return rows of images (H, W, 3) with headings: as they are, as they are seen, and as they are filled in."""
        x_BCHW = self.normaliser(batch.inputs).tensor
        real_BTP = cut(self._whole(x_BCHW), self.patch)
        hidden_BT1 = hidden(len(x_BCHW), real_BTP.shape[1], self.share, x_BCHW.device)[..., None]
        std_BT1, mean_BT1 = torch.std_mean(real_BTP, 2, correction=0, keepdim=True)
        filled_BTP = self.predicted(x_BCHW, hidden_BT1[..., 0]).float() * std_BT1 + mean_BT1
        rows = {
            "held-out images": real_BTP,
            f"with {self.share:.0%} of their patches hidden": real_BTP.masked_fill(hidden_BT1, 0.0),
            "filled in (each patch with its real mean and contrast, which the loss leaves out)": torch.where(
                hidden_BT1, filled_BTP, real_BTP
            ),
        }
        return [(heading, self._pixels(patches, x_BCHW)) for heading, patches in rows.items()]

    def _pixels(self, patches_BTP: Tensor, x_BCHW: Tensor) -> list[NDArray[np.uint8]]:
        """Return images of normalised patches, as large as `x_BCHW`."""
        height, width = x_BCHW.shape[2:]
        grid = patches_BTP.unflatten(1, (-(-height // self.patch), -1)).unflatten(3, (self.patch, self.patch, 3))
        x_BHWC = grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :height, :width]
        image = self.normaliser
        assert isinstance(image, Normaliser)
        pixels = (x_BHWC.cpu() - torch.tensor(image.shift)) / torch.tensor(image.scale)
        return list(pixels.round().clamp(0, 255).to(torch.uint8).numpy())

    def verdict(self, metrics: dict[str, float], floors: dict[str, float]) -> list[str]:
        """Report where features collapsed, or no more is known of a hidden patch than its mean."""
        messages = collapse(metrics)
        floor = floors["patch_mean"]
        if metrics["loss"] > 0.98 * floor:
            messages.append(
                "Masked patches are not predicted better than the baseline: "
                f"the loss is {metrics['loss']:.3f}, and predicting the mean gives {floor:.3f}. "
                "Train longer or raise lr."
            )
        return messages


def hidden(items: int, patches: int, share: float, device: torch.device) -> Tensor:
    """Return (B, T) bool, True on as many patches of every image: at least one, and never all."""
    count = min(max(1, round(share * patches)), patches - 1)
    order_BT = torch.rand(items, patches, device=device).argsort(1)
    return torch.zeros(items, patches, dtype=torch.bool, device=device).scatter_(1, order_BT[:, :count], True)


def normalised(x_BTP: Tensor) -> Tensor:
    """Return patches of mean 0 and, but for flat ones, variance 1."""
    variance_BT1, mean_BT1 = torch.var_mean(x_BTP.float(), 2, correction=0, keepdim=True)
    return (x_BTP.float() - mean_BT1) * (variance_BT1 + FLAT).rsqrt()


class LeftOut(MaskedImagesLearner):
    """Hidden patches never enter the encoder; a narrow decoder fills them in."""

    heads = ("head", "start", "unknown")

    def __init__(self, backbone: Backbone, share: float) -> None:
        super().__init__(backbone, share)
        first = next(iter(backbone.stages.values()))
        assert isinstance(first, Patches)
        self.patch = first.patch
        width, layers, heads = DECODER
        self.start = nn.Linear(backbone.width, width)
        self.unknown = nn.Parameter(torch.zeros(width))
        self.decoder = nn.Sequential(*(EncoderLayer(width, heads, 4 * width, 0.0, 1e-6, pre_norm=True) for _ in range(layers)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * self.patch**2))

    def predicted(self, x_BCHW: Tensor, hidden_BT: Tensor) -> Tensor:
        """Encode what is seen, put it back in its places, and decode."""
        first, *others = self.backbone.stages.values()
        x_BTD = first(Features(tensor=x_BCHW, layout="raw")).tensor
        seen = Features(tensor=x_BTD[~hidden_BT].unflatten(0, (len(x_BTD), -1)), layout="sequence")
        for stage in others:
            seen = stage(seen)
        start_BSD = self.start(seen.tensor)
        all_BTD = self.unknown.to(start_BSD.dtype).repeat(*hidden_BT.shape, 1)
        all_BTD = all_BTD.masked_scatter(~hidden_BT[..., None], start_BSD)
        rows = x_BCHW.shape[2] // self.patch
        all_BTD = all_BTD + places(rows, hidden_BT.shape[1] // rows, all_BTD.shape[2]).to(all_BTD)
        return self.head(self.decoder(Features(tensor=all_BTD, layout="sequence")).tensor)


class Painted(MaskedImagesLearner):
    """Hidden patches are painted over with a learned colour, and read from the map behind them."""

    heads = ("head", "colour")

    def __init__(self, backbone: Backbone, share: float) -> None:
        super().__init__(backbone, share)
        assert isinstance(backbone.modality, Image)
        size = backbone.modality.size
        self.stride = _stride(backbone, size)
        self.patch = self.stride * max(1, round(size / GRID / self.stride))
        if self.patch >= size:
            raise SettingError(
                f"the map of {backbone.builder.id} has a single place for {size} x {size} pixels, too few to hide some. Raise image_size."
            )
        self.colour = nn.Parameter(torch.zeros(3, 1, 1))
        self.head = nn.Conv2d(backbone.width, 3 * self.stride**2, 1)

    def predicted(self, x_BCHW: Tensor, hidden_BT: Tensor) -> Tensor:
        """Paint, encode, and turn each place of the map into its pixels."""
        height, width = x_BCHW.shape[2:]
        rows = -(-height // self.patch)
        grid_B1HW = hidden_BT.unflatten(1, (rows, -1))[:, None].float()
        over_B1HW = F.interpolate(grid_B1HW, scale_factor=self.patch, mode="nearest")[:, :, :height, :width].bool()
        painted = torch.where(over_B1HW, self.colour, x_BCHW).contiguous(memory_format=torch.channels_last)
        map_BDHW = self.backbone(Features(tensor=painted, layout="raw")).tensor
        pixels_BCHW = F.pixel_shuffle(self.head(map_BDHW), self.stride)[:, :, :height, :width]
        return cut(self._whole(pixels_BCHW), self.patch)


@torch.no_grad()
def _stride(backbone: Backbone, size: int) -> int:
    """Return how many pixels one step of the map is, rounded up."""
    mode = backbone.training
    places = backbone.eval()(Features(tensor=torch.zeros(1, 3, size, size), layout="raw")).tensor.shape[2]
    backbone.train(mode)
    return -(-size // places)
