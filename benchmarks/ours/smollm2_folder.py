"""Write the SmolLM2 of the weights package as a transformers folder, which every peer reads natively.

    python smollm2_folder.py OUT     # OUT/model.safetensors, config.json, tokenizer.json

Done once, before anything is timed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from pretune import backbones
from pretune.modalities.text import Text

WIDTH, LAYERS, HEADS, SHARED_HEADS = 576, 30, 9, 3
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "num_key_value_heads": SHARED_HEADS, "intermediate_size": 1536, "rope_theta": 100_000.0,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0}, "rms_norm_eps": 1e-5, "max_position_embeddings": 8192,
    "tie_word_embeddings": True, "hidden_act": "silu", "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
PARTS = {
    "out": "self_attn.o_proj", "down": "mlp.down_proj", "attention_norm": "input_layernorm", "feed_norm": "post_attention_layernorm",
}  # fmt: skip


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of our stages by the names of transformers."""
    out = {"model.embed_tokens.weight": state["embeddings.word.weight"], "model.norm.weight": state["norm.norm.weight"]}
    shared = WIDTH // HEADS * SHARED_HEADS
    for place in range(LAYERS):
        ours, theirs = f"layer{place + 1}.", f"model.layers.{place}."
        attention = zip("qkv", state[f"{ours}qkv.weight"].split([WIDTH, shared, shared]), strict=True)
        out |= {f"{theirs}self_attn.{letter}_proj.weight": piece for letter, piece in attention}
        gates = zip(("gate", "up"), state[f"{ours}gate_up.weight"].chunk(2), strict=True)
        out |= {f"{theirs}mlp.{name}_proj.weight": piece for name, piece in gates}
        out |= {f"{theirs}{name}.weight": state[f"{ours}{part}.weight"] for part, name in PARTS.items()}
    return out


def main(out: Path) -> None:
    """Write the folder."""
    backbone = backbones.load("package:smollm2", offline=True)
    text = backbone.modality
    assert isinstance(text, Text)
    tensors = renamed(backbone.stages.state_dict())
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, out / "model.safetensors", metadata={"format": "pt"})
    size = len(tensors["model.embed_tokens.weight"])
    (out / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": size}), encoding="utf-8")
    (out / "tokenizer.json").write_text(text.tokenizer, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
