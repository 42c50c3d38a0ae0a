"""What a person meant by a setting that there is not: names of other libraries lead to ours, and settings of components to their place.

The names are those of scikit-learn, Hugging Face, fastai, Ultralytics, Keras and Lightning.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from typing import Any

from pretune import networks, registry
from pretune.errors import SettingError, did_you_mean
from pretune.schema import bare, field_docs, fields_of, flat_homes, keys, member_of, section_of

_RENAMED: dict[str, str] = {
    "lr": "learning_rate learning_rate_init lr0 lr_init base_lr base_learning_rate max_lr eta eta0 peak_lr lr_max step_size",
    "epochs": "epoch num_train_epochs n_epochs n_epoch num_epochs nb_epochs max_epochs train_epochs",
    "batch_size": "batch bs batchsize per_device_train_batch_size train_batch_size per_device_batch_size minibatch_size",
    "micro_batch": "micro_batch_size per_step_batch_size",
    "backbone": "model arch architecture net network model_name model_name_or_path base_model pretrained_model weights "
    "checkpoint encoder model_id feature_extractor pretrained_model_name_or_path",
    "image_size": "imgsz img_size imagesize image_shape input_size input_shape size img_dim resolution crop_size sz",
    "max_tokens": "max_length max_len maxlen max_seq_length max_seq_len max_sequence_length seq_len sequence_length block_size "
    "context_length model_max_length n_ctx",
    "seconds": "duration clip_length audio_length max_duration max_length_s window_seconds clip_seconds",
    "weight_decay": "wd l2 l2_reg decay",
    "clip": "max_grad_norm grad_clip clip_grad clip_grad_norm gradient_clip_val gradient_clip clipnorm",
    "seed": "random_state random_seed manual_seed rng_seed",
    "threads": "n_jobs workers num_workers num_threads n_threads n_workers num_proc dataloader_num_workers nproc cpus",
    "out": "output_dir output save_dir log_dir logging_dir outdir project run_dir default_root_dir output_path output_folder "
    "results save_to",
    "resume": "resume_from resume_from_checkpoint continue",
    "keep": "save_total_limit save_top_k max_to_keep",
    "cache": "cache_dir",
    "val": "test_size val_size valid_pct val_split validation_split validation_fraction valid_size val_fraction val_ratio holdout val_pct",
    "label": "label_col label_column target target_column target_col y y_col labels class_column class_col label_names",
    "text": "text_col text_cols text_column text_columns sentence_column sentence input_column",
    "path": "fn_col filename filename_col image_column img_col image_col file_column audio_column file_name path_column",
    "group": "groups group_col group_column",
    "split": "valid_col split_col split_column",
    "time": "max_time time_limit timeout budget train_time duration_limit max_duration_s",
    "patience": "early_stopping_patience n_iter_no_change early_stop_patience",
    "label_smoothing": "smoothing label_smoothing_factor ls",
    "augment": "augmentation aug data_augmentation augmentation_preset",
    "augmentations": "transforms transform batch_tfms item_tfms tfms augmentation_list",
    "precision": "dtype torch_dtype data_type",
    "optim": "optimizer opt opt_func",
    "schedule": "scheduler lr_scheduler lr_scheduler_type lr_schedule lrs sched",
    "warmup": "warmup_ratio warmup_fraction",
    "ema": "ema_decay model_ema",
    "head": "classifier top",
    "strategy": "method mode tuning finetuning_type peft_type peft_method tune",
    "objective": "pretext pretext_task ssl_method pretraining_task pretraining_objective",
    "task": "problem_type task_type problem",
    "data": "dataset dataset_name data_dir data_path train_data train_dir train_path dataset_path train_file source_data",
    "views": "n_views num_views",
    "pooling": "pool global_pool pooling_type",
    "fit": "resize_method resize_mode method_resize",
    "min_examples": "min_samples min_samples_per_class",
    "vocabulary": "vocab_size vocab num_words",
    "also": "extra_data more_data additional_data",
    "held": "held_out heldout eval_fraction",
    "then": "downstream finetune_data eval_data downstream_data",
    "share": "mask_ratio masking_ratio mlm_probability mask_prob mask_probability mask_fraction noise_density",
    "rank": "lora_r lora_rank r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout drop drop_rate ps dropout_rate p_dropout",
    "last": "unfreeze_last trainable_layers n_last limit head",
    "lr_decay": "layer_decay llrd layerwise_lr_decay",
    "beta1": "beta_1 adam_beta1",
    "beta2": "beta_2 adam_beta2",
    "momentum": "mom",
    "hidden": "hidden_size hidden_dim hidden_units hidden_layer_sizes",
    "count": "num_return_sequences n num_samples samples n_samples",
    "length": "max_new_tokens max_length max_tokens max_len",
    "top_k": "topk k",
    "top_p": "topp nucleus p",
    "part": "subset eval_split",
    "sort": "order order_by sort_by by",
    "trust": "trust_remote_code allow_code",
}
"""Ours, and what others call the same thing, its value the same too."""

_RELATED: dict[str, str] = {
    "patience": "early_stopping early_stop earlystopping early_stopping_rounds",
    "micro_batch": "gradient_accumulation_steps accum accumulate accumulate_grad_batches grad_accum iters_to_accumulate",
    "precision": "fp16 bf16 amp half mixed_precision use_amp autocast",
    "warmup": "warmup_steps warmup_epochs num_warmup_steps warmup_iters",
    "strategy": "freeze freeze_layers frozen freeze_backbone unfreeze freeze_epochs freeze_encoder trainable "
    "train_backbone lora_config peft",
    "time": "max_steps max_iter n_iter iterations num_steps max_train_steps total_steps",
    "class_weights": "class_weight sample_weight weights_per_class pos_weight balanced",
    "beta1": "betas",
    "schedule": "cos_lr lrf",
}
"""Ours, and what others call something near to it, its value another: an early stop is switched on by a number of epochs here."""

_VALUES: dict[str, dict[str, str]] = {
    "strategy": {
        "linear_probe": "linear probe probing linear_probing feature_extraction features frozen freeze head head_only logistic",
        "full": "finetune fine_tune finetuning fine_tuning full_finetune full_finetuning all unfreeze unfrozen end_to_end",
        "partial": "last_layers top_layers gradual discriminative",
        "lora": "peft adapter adapters qlora dora",
        "scratch": "from_scratch random none train",
        "direct": "knn zero_shot centroid nearest_mean zeroshot",
    },
    "optim": {"adamw": "adam_w adamw_torch adamw_hf adamw_torch_fused default"},
    "schedule": {
        "cosine": "cosine_annealing cosineannealinglr cosine_with_warmup cos cosine_decay",
        "one_cycle": "onecycle onecyclelr fit_one_cycle 1cycle",
        "wsd": "warmup_stable_decay trapezoidal",
        "plateau": "reduce_on_plateau reducelronplateau reduce_lr_on_plateau",
        "step": "steplr multistep multisteplr exponential",
        "linear": "linear_with_warmup linear_decay polynomial",
        "constant": "none constant_with_warmup fixed flat",
    },
    "precision": {
        "float32": "fp32 float full 32 32_true single f32",
        "bfloat16": "bf16 bf16_mixed amp mixed half 16 fp16 float16 16_mixed f16",
    },
    "task": {
        "classification": "single_label_classification classify multiclass multi_class binary image_classification text_classification",
        "multilabel": "multi_label multi_label_classification multilabel_classification tagging",
        "regression": "regress regressor mse",
    },
    "augment": {"none": "false off no 0", "medium": "true yes on default auto_augment autoaugment aug_transforms 1"},
    "objective": {
        "causal": "clm lm gpt next_token language_modeling causal_lm autoregressive",
        "masked": "mlm mae bert masked_lm mim masked_language_modeling beit",
        "contrastive": "simclr vicreg moco byol dino ssl",
        "autoencode": "autoencoder ae vae vqvae vq_vae reconstruction",
        "denoising": "t5 bart span_corruption seq2seq",
        "distillation": "distill knowledge_distillation kd",
    },
    "fit": {"squash": "resize stretch", "pad": "letterbox zeros reflection", "crop": "center_crop centre_crop"},
    "pooling": {"mean": "avg average gap", "first": "cls", "last": "eos"},
    "units": {"piece": "wordpiece bpe subword", "unigram": "sentencepiece", "character": "char byte chars", "word": "words"},
    "head": {"linear": "fc logistic classifier logistic_regression", "mlp": "dense hidden"},
}


_ABSENT: dict[str, str] = {
    "The device is chosen automatically: CUDA, then MPS, then the CPU; CUDA_VISIBLE_DEVICES= hides a GPU.": "device gpu cuda use_cuda "
    "no_cuda use_cpu accelerator device_map",
    "For several processes: torchrun --nproc-per-node 2 -m pretune …; each uses one GPU.": "gpus devices num_gpus n_gpu num_nodes",
    "There is no verbosity; the run folder keeps everything (events.jsonl, report.html).": "verbose quiet logging_steps report_to wandb",
    "Weights are pretrained by default; strategy=scratch starts from randomly initialised ones.": "pretrained use_pretrained",
    "The classes are read from the data.": "num_labels num_classes n_classes nc id2label",
    "Every metric of the task is reported, with 95 % confidence intervals.": "metric metrics scoring eval_metric compute_metrics",
    "One split is evaluated, with 95 % confidence intervals; val= sets its size, seed= draws another.": "cv kfold k_fold n_splits n_folds",
    "In Python, reporter= receives everything that happens; a run folder keeps it in events.jsonl.": "callbacks callback cbs logger",
    "The task chooses the loss; in Python: pretune.finetune(…, loss=function).": "loss criterion loss_func loss_fn",
}
"""What to say of names that others have a setting for, and nothing here has."""


def _inverted(table: dict[str, str]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for ours, others in table.items():
        for other in others.split():
            out.setdefault(other, []).append(ours)
    return out


_OURS, _NEAR, _NO_SETTING = _inverted(_RENAMED), _inverted(_RELATED), _inverted(_ABSENT)
_MOST = 4
"""Places of one setting that are named at most."""


def renamed(key: str, known: Collection[str]) -> str | None:
    """Return what one of the known settings is called elsewhere; None where `key` is no such name."""
    plain = _plain(key)
    return next((ours for ours in (plain, *_OURS.get(plain, ())) if ours in known), None)


def value(key: str, got: str) -> str | None:
    """Return our name of a setting's value that others call otherwise; None where it is no such name."""
    plain = _plain(got)
    tables = _VALUES.get(key.removesuffix(".name").rpartition(".")[2], {})
    return next((ours for ours, others in tables.items() if plain in others.split()), None)


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").strip("_")


def unknown(cls: type, owner: str, key: str, value: Any) -> SettingError:
    """Return the error of a setting that there is not, with what was probably meant.

    Args:
        cls: whose setting it would be.
        owner: what has no such setting, as a person knows it.
        key: as it was written.
        value: its value: text, or a table where keys of its own were written.
    """
    answer, verb = meant(cls, key, value), getattr(cls, "verb", None)
    if answer is None:
        return SettingError(f"{owner} has no setting {key!r}. {did_you_mean(key, keys(cls))}")
    more = f" (See pretune {verb} --help.)" if verb else ""
    return SettingError(f"{owner} has no setting {key!r}. {answer}{more}")


def meant(cls: type, key: str, value: Any) -> str | None:
    """Return a sentence that says what to write instead of a key; None where nothing but similar letters would tell."""
    plain = _plain(key)
    if plain in _NO_SETTING and plain not in keys(cls):
        return _NO_SETTING[plain][0]
    answer = _component(cls, key, value) or _elsewhere(cls, plain, value)
    if answer is None and not difflib.get_close_matches(key, keys(cls), n=1, cutoff=0.6):
        alike = difflib.get_close_matches(plain, [*_OURS, *_NEAR], n=1, cutoff=0.8)
        answer = _elsewhere(cls, alike[0], value) if alike else None
    return answer


def _component(cls: type, key: str, value: Any) -> str | None:
    """Return what to write where the key is the name of a component: `lora.rank=4`, `flip=true`."""
    for name, annotation in fields_of(cls).items():
        member = member_of(annotation)
        if member is None or key not in registry.names(member.family):
            continue
        prefix = f"{name}.{key}" if name == member.family else name
        own = [f"{prefix}.{k}={v}" for k, v in value.items() if not isinstance(v, dict)] if isinstance(value, dict) else []
        return f"{key} is one of the {member.family}: write {' '.join([f'{name}={key}', *own])}."
    return None


def _elsewhere(cls: type, key: str, value: Any) -> str | None:
    """Return what to write where others call a setting so, or where it belongs to a section or a component."""
    text = str(value) if isinstance(value, str | int | float) else "…"
    same = renamed(key, keys(cls))
    if same is not None:
        return f"The key is {same}: write {written(same, text)}{_docs(cls, same)}."
    near = next((ours for ours in _NEAR.get(key, ()) if ours in keys(cls)), None)
    if near is not None:
        return f"The closest setting is {near}=…{_docs(cls, near)}."
    for ours, shown in ((key, text), *((ours, text) for ours in _OURS.get(key, ())), *((ours, "…") for ours in _NEAR.get(key, ()))):
        places = list(_places(cls, ours, shown))
        if places:
            return f"Write {', or '.join(places[:_MOST])}."
    return None


def written(key: str, text: str) -> str:
    """Return a setting as it is written; a network's name alone gets its source, a file the network that it is of."""
    if key == "backbone" and text.endswith((".pt", ".pth", ".bin", ".safetensors", ".ckpt")) and ":" not in text:
        return f"{key}=file:{text}@SOURCE:NAME"
    ids = networks.ids_of(text) if key == "backbone" and ":" not in text else []
    return " or ".join(f"{key}={value}" for value in ids or [text])


def _places(cls: type, key: str, text: str) -> Iterator[str]:
    """Yield the words that set a key of a section, or of a component that has it."""
    for name, annotation in fields_of(cls).items():
        section, member = section_of(annotation), member_of(annotation)
        if section is not None and key in keys(section):
            yield f"{name}.{key}={text}{_docs(section, key)}"
        for component in registry.names(member.family) if member else ():
            try:
                found = member.load(member.family, component) if member else object
            except SettingError:  # a plug-in that is broken
                continue
            if key in keys(found):
                prefix = f"{name}.{component}" if name == getattr(member, "family", "") else name
                yield f"{name}={component} {prefix}.{key}={text}{_docs(found, key)}"


def _docs(cls: type, key: str) -> str:
    """Return the gist of what a setting means, in brackets."""
    homes = flat_homes(cls)
    home = bare(fields_of(cls)[homes[key]])[0] if key in homes else cls
    doc = re.split(r"[;.] ", field_docs(home).get(key, ""))[0].rstrip(".")
    return f" ({doc})" if doc else ""
