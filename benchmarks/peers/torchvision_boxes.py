"""Object detection with torchvision's reference recipe: FCOS on the pyramid of EfficientNet-Lite0, on a COCO-like YOLO folder.

After references/detection of torchvision (its `fcos_resnet50_fpn`, SGD with momentum 0.9, a linear warm-up, horizontal flips), the backbone
being timm's, on the same weights, with frozen batch-norm statistics, and images of 320 pixels. Prints AP50 and mAP of the val split, by
faster-coco-eval, and images/s of the epochs after the first, without evaluation.
"""

import argparse
import contextlib
import io
import json
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import timm
import torch
from _rate import items_per_s
from faster_coco_eval import COCO, COCOeval_faster
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.transforms.functional import hflip, pil_to_tensor

SIZE = 320


class Boxes(Dataset):
    def __init__(self, folder, split, train):
        self.files = sorted((Path(folder) / "images" / split).iterdir())
        self.train = train

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        path = self.files[index]
        image = Image.open(path).convert("RGB")
        lines = (path.parents[2] / "labels" / path.parent.name / f"{path.stem}.txt").read_text().split("\n")
        rows = np.array([[float(word) for word in line.split()] for line in lines if line.strip()]).reshape(-1, 5)
        sides = rows[:, 1:] * np.array([image.width, image.height] * 2)
        boxes = torch.tensor(np.hstack([sides[:, :2] - sides[:, 2:] / 2, sides[:, :2] + sides[:, 2:] / 2]), dtype=torch.float32)
        if self.train and torch.rand(1) < 0.5:
            image, boxes = hflip(image), torch.stack([image.width - boxes[:, 2], boxes[:, 1], image.width - boxes[:, 0], boxes[:, 3]], 1)
        return pil_to_tensor(image).float() / 255, {"boxes": boxes, "labels": torch.tensor(rows[:, 0], dtype=torch.int64)}


class Pyramid(torch.nn.Module):
    def __init__(self, weights, channels=128):
        super().__init__()
        overlay = {"file": f"{weights}/model.safetensors"}
        self.body = timm.create_model(
            "tf_efficientnet_lite0", pretrained=True, pretrained_cfg_overlay=overlay, features_only=True, out_indices=(2, 3, 4)
        )
        self.neck = FeaturePyramidNetwork(self.body.feature_info.channels(), channels)
        self.out_channels = channels

    def forward(self, images):
        return self.neck(OrderedDict((str(at), one) for at, one in enumerate(self.body(images))))


def make_model(args, classes):
    anchors = AnchorGenerator(sizes=((8,), (16,), (32,)), aspect_ratios=((1.0,),) * 3)
    half = [0.5] * 3
    return FCOS(Pyramid(args.weights), classes, min_size=SIZE, max_size=SIZE, image_mean=half, image_std=half, anchor_generator=anchors)


def fit(model, loader, args):
    """Train, and return the seconds of each epoch."""
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, weight_decay=1e-4)
    total = args.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=total, pct_start=0.1)
    seconds = []
    for _ in range(args.epochs):
        began = time.perf_counter()
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        for images, targets in loader:
            loss = sum(model(images, targets).values())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            schedule.step()
        seconds.append(time.perf_counter() - began)
    return seconds


def xywh(box):
    return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]


@torch.inference_mode()
def evaluate(model, loader, classes):
    model.eval()
    truth, found, at = [], [], 0
    for images, targets in loader:
        for out, target in zip(model(images), targets, strict=True):
            at += 1
            for box, name in zip(target["boxes"], target["labels"], strict=True):
                sides = xywh(box)
                entry = {"id": len(truth) + 1, "image_id": at, "category_id": int(name) + 1, "bbox": sides, "iscrowd": 0}
                truth.append({**entry, "area": sides[2] * sides[3]})
            for box, name, score in zip(out["boxes"], out["labels"], out["scores"], strict=True):
                found.append({"image_id": at, "category_id": int(name) + 1, "bbox": xywh(box), "score": float(score)})
    categories = [{"id": number + 1, "name": str(number)} for number in range(classes)]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO({"images": [{"id": number + 1} for number in range(at)], "annotations": truth, "categories": categories})
        scores = COCOeval_faster(coco, coco.loadRes(found), "bbox")
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
    return {"map": float(scores.stats[0]), "ap50": float(scores.stats[1])}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    train, val = Boxes(args.data, "train", True), Boxes(args.data, "val", False)
    classes = 1 + max(name for index in range(len(train)) for name in train[index][1]["labels"].tolist())
    collate = lambda batch: tuple(zip(*batch, strict=True))  # noqa: E731
    loader = DataLoader(
        train, args.batch_size, shuffle=True, num_workers=args.workers, collate_fn=collate, persistent_workers=args.workers > 0
    )
    model = make_model(args, classes)
    seconds = fit(model, loader, args)
    score = evaluate(model, DataLoader(val, args.batch_size, collate_fn=collate), classes)
    torch.save(model.state_dict(), f"{args.out}/model.pt")
    print(json.dumps({**score, "items_per_s": items_per_s(len(train), seconds)}))


if __name__ == "__main__":
    main()
