"""SPDL's threaded pipeline from files to normalised batches: images/s ready for a network.

After SPDL's documentation ("Building and Running Pipeline", "Filter Graphs"): one thread a worker demuxes, decodes, scales and crops
with FFmpeg in one filter graph, without Python's lock; batches are made in the same pool. Prints one JSON object: first_epoch (equal
to first_ready: nothing is prepared once) and repeat_epoch of the deterministic transform, random_crop of repeat epochs.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import spdl.io
import torch
from spdl.pipeline import PipelineBuilder

END = "format=pix_fmts=rgb24"
CENTRE = f"scale=w='if(lt(iw,ih),256,-1)':h='if(lt(iw,ih),-1,256)':flags=bicubic,crop=224:224,{END}"


def read(pair, random_crop):
    """Return one image as uint8 (224, 224, 3), and its target."""
    path, target = pair
    packets = spdl.io.demux_image(str(path))
    graph = cropped(packets.width, packets.height) if random_crop else CENTRE
    frames = spdl.io.decode_packets(packets, filter_desc=graph)
    return spdl.io.to_torch(spdl.io.convert_frames(frames)), target


def cropped(width, height):
    """Return the filter graph of a random resized crop, with torchvision's own scale and ratio."""
    for _ in range(10):
        area, ratio = width * height * random.uniform(0.08, 1.0), math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if w <= width and h <= height:
            x, y = random.randint(0, width - w), random.randint(0, height - h)
            return f"crop={w}:{h}:{x}:{y},scale=224:224:flags=bicubic,{END}"
    side = min(width, height)
    return f"crop={side}:{side},scale=224:224:flags=bicubic,{END}"


def batch(pairs):
    """Return normalised float images (B, 3, 224, 224), and targets."""
    images = torch.stack([image for image, _ in pairs]).permute(0, 3, 1, 2).float()
    return images.div_(127.5).sub_(1.0), torch.tensor([target for _, target in pairs])


def listed(folder):
    """Return (path, target) of the files of class folders."""
    kinds = sorted(path for path in Path(folder).iterdir() if path.is_dir())
    return [(path, target) for target, kind in enumerate(kinds) for path in sorted(kind.iterdir())]


def epoch_seconds(pairs, args, random_crop=False):
    began = time.perf_counter()
    order = random.sample(pairs, len(pairs))
    pipeline = (
        PipelineBuilder()
        .add_source(order)
        .pipe(lambda pair: read(pair, random_crop), concurrency=args.workers)
        .aggregate(args.batch_size)
        .pipe(batch)
        .add_sink(4)
        .build(num_threads=args.workers)
    )
    with pipeline.auto_stop():
        images = sum(len(targets) for _, targets in pipeline)
    assert images == len(pairs)
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--out", required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3, help="repeat epochs")
    parser.add_argument("--workers", type=int, required=True)
    args = parser.parse_args()
    began = time.perf_counter()
    pairs = listed(f"{args.data}/train")
    epoch_seconds(pairs, args)
    first = len(pairs) / (time.perf_counter() - began)
    repeat = sum(epoch_seconds(pairs, args) for _ in range(args.epochs))
    crops = sum(epoch_seconds(pairs, args, random_crop=True) for _ in range(args.epochs))
    many = len(pairs) * args.epochs
    print(json.dumps({"first_epoch": first, "first_ready": first, "repeat_epoch": many / repeat, "random_crop": many / crops}))


if __name__ == "__main__":
    main()
