"""Frozen sentence-transformers embeddings and scikit-learn's logistic regression, on TSV files of texts and labels.

After sentence-transformers' documentation ("Computing Embeddings"): `encode` sorts the texts by length itself. The precision
(float32 or bfloat16 weights, "Speeding up Inference") and the batch size are tried ahead, outside the measurement (`--tune`).
"""

import json

import torch
from _probe import fastest, finish, options
from _tables import read_split
from sentence_transformers import SentenceTransformer

TUNED_ON = 256


def make_model(args):
    dtype = torch.bfloat16 if args.dtype == "bfloat16" else torch.float32
    return SentenceTransformer(args.weights, device="cpu", local_files_only=True, model_kwargs={"dtype": dtype})


def features(model, texts, args):
    return model.encode(texts, batch_size=args.batch_size, convert_to_tensor=True, show_progress_bar=False).float().numpy()


def tune(texts, args):
    """Choose the precision and the batch size by the time of some texts."""
    models = {}
    for args.dtype in ("float32", "bfloat16"):
        models[args.dtype] = make_model(args)

    def run(candidate):
        vars(args).update(candidate)
        features(models[args.dtype], texts[:TUNED_ON], args)

    print(json.dumps(fastest([{"dtype": dtype, "batch_size": size} for dtype in models for size in (16, 32, 64, 128)], run)))


def main():
    args = options(__doc__).parse_args()
    texts, labels = read_split(args.data, "train")
    if args.tune:
        return tune(texts, args)
    model = make_model(args)
    test_texts, test_labels = read_split(args.data, "test")
    finish(args, features(model, texts, args), labels, features(model, test_texts, args), test_labels)


if __name__ == "__main__":
    main()
