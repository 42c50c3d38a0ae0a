"""Write the Whisper encoder of the weights package as a transformers folder, which every peer reads natively.

    python whisper_folder.py OUT     # OUT/model.safetensors, config.json, preprocessor_config.json

Done once, before anything is timed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor
from transformers.models.whisper.configuration_whisper import WhisperConfig
from transformers.models.whisper.feature_extraction_whisper import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperForAudioClassification

from pretune import backbones

PARTS = {"attention_norm": "self_attn_layer_norm", "out": "self_attn.out_proj", "feed_norm": "final_layer_norm", "up": "fc1", "down": "fc2"}


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of our stages by the names of transformers."""
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        stage, _, rest = name.partition(".")
        if stage == "stem":
            out["encoder.embed_positions.weight" if rest == "table" else f"encoder.{rest}"] = tensor
        elif stage == "norm":
            out[f"encoder.layer_norm.{rest.removeprefix('norm.')}"] = tensor
        else:
            layer, (part, kind) = f"encoder.layers.{int(stage.removeprefix('layer')) - 1}", rest.rsplit(".", 1)
            if part == "qkv":
                pieces = zip("qkv", tensor.chunk(3), strict=True)
                out |= {f"{layer}.self_attn.{letter}_proj.{kind}": piece for letter, piece in pieces if (letter, kind) != ("k", "bias")}
            else:
                out[f"{layer}.{PARTS[part]}.{kind}"] = tensor
    return out


def main(out: Path) -> None:
    """Write the folder."""
    config = WhisperConfig(
        d_model=512, encoder_layers=6, decoder_layers=6, encoder_attention_heads=8, decoder_attention_heads=8, encoder_ffn_dim=2048,
        decoder_ffn_dim=2048, num_mel_bins=80, max_source_positions=1500,
    )  # fmt: skip
    model = WhisperForAudioClassification(config)
    missing, unexpected = model.load_state_dict(
        renamed(backbones.load("package:whisper_base", offline=True).stages.state_dict()), strict=False
    )
    assert not unexpected
    assert all(not name.startswith("encoder.") for name in missing)
    with torch.no_grad():
        model.save_pretrained(out)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
