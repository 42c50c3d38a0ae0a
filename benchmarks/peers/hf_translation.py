"""Hugging Face's Seq2SeqTrainer with a Marian from scratch on parallel lines, after transformers' own run_translation.py example.

The tokenizer is a joint byte-level BPE of the training split. With batches of texts of like length (`group_by_length`) and bfloat16 where a
few steps are faster in it (`--tune`, outside the measurement). Prints one JSON object: BLEU (sacrebleu) on the test split, and pairs/s of
the training epochs after the first (of all, where there is one).
"""

import argparse
import json
from pathlib import Path

import sacrebleu
import torch
from _trainer import Rate, add_precision, tune
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    DataCollatorForSeq2Seq,
    MarianConfig,
    MarianMTModel,
    PreTrainedTokenizerFast,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

LENGTH = 128


def read_split(folder, name):
    """Return the English lines of a split, and those of the other language; the file of test may be called test_2016_flickr.en."""
    languages = sorted((path.suffix[1:] for path in Path(folder).glob("train.*")), key=lambda language: (language != "en", language))
    files = [sorted(Path(folder).glob(f"{name}*.{language}"))[0] for language in languages]
    return [file.read_text(encoding="utf-8").rstrip("\n").split("\n") for file in files]


def tokenizer_of(lines, size):
    """Return a joint byte-level BPE with `</s>` after each text."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "</s>", "<unk>"]
    made.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def translated(trainer, examples, tokenizer):
    """Return the translations by beam search, in the precision of training."""
    model, written = trainer.model.eval(), []
    for start in range(0, len(examples), 64):
        batch = trainer.data_collator([examples[i] for i in range(start, min(start + 64, len(examples)))])
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
        with torch.no_grad():
            ids = model.generate(**inputs, num_beams=4, max_new_tokens=64, early_stopping=True)
        written += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return written


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder with train.en, test.en and those of another language beside them")
    parser.add_argument("--weights", help="not read: the network is randomly initialised")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=3)
    add_precision(parser)
    args = parser.parse_args()
    texts = {name: read_split(args.data, name) for name in ("train", "test")}
    tokenizer = tokenizer_of([*texts["train"][0], *texts["train"][1]], args.vocabulary)

    def encode(sides):
        ids = [tokenizer(side, truncation=True, max_length=LENGTH)["input_ids"] for side in sides]
        return Dataset.from_dict({"input_ids": ids[0], "attention_mask": [[1] * len(one) for one in ids[0]], "labels": ids[1]})

    data = {name: encode(sides) for name, sides in texts.items()}
    sizes = {f"{side}_{what}": value for side in ("encoder", "decoder") for what, value in
             (("layers", args.layers), ("attention_heads", args.width // 64), ("ffn_dim", 4 * args.width))}  # fmt: skip
    config = MarianConfig(
        vocab_size=len(tokenizer),
        d_model=args.width,
        max_position_embeddings=LENGTH,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        forced_eos_token_id=None,
        **sizes,
    )

    def make(**more):
        torch.manual_seed(args.seed)
        model = MarianMTModel(config)
        rate = Rate()
        same = {"warmup_steps": 0.1, "weight_decay": 0.01, "save_strategy": "no", "train_sampling_strategy": "group_by_length"}
        chosen = Seq2SeqTrainingArguments(
            output_dir=args.out,
            seed=args.seed,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            per_device_eval_batch_size=64,
            learning_rate=args.lr,
            use_cpu=not torch.cuda.is_available(),
            bf16=args.dtype == "autocast",
            report_to="none",
            disable_tqdm=True,
            **{**same, **more},
        )
        collator = DataCollatorForSeq2Seq(tokenizer, model=model)
        trainer = Seq2SeqTrainer(
            model=model, args=chosen, train_dataset=data["train"], eval_dataset=data["test"], data_collator=collator,
            processing_class=tokenizer, callbacks=[rate],
        )  # fmt: skip
        return trainer, rate

    if args.tune:
        return tune(make, args)
    trainer, rate = make()
    trainer.train()
    trainer.save_model()
    written = translated(trainer, data["test"], tokenizer)
    bleu = sacrebleu.corpus_bleu(written, [texts["test"][1]], force=True).score
    print(json.dumps({"items_per_s": rate.of(len(data["train"])), "bleu": bleu}))


if __name__ == "__main__":
    main()
