"""Write models of real size with random weights, without a network: for timing, not for results.

    python scripts/build_real_size_models.py OUT [--half] [--classes cat,dog,frog]

`OUT/inpainter` is Stable Diffusion 2 inpainting (UNet of 865.9 M parameters, 9 channels), `OUT/clip` ViT-B/16 with
QuickGELU, `OUT/classifier` a ResNet-50.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import open_clip
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from checkpoints import write_classifier, write_clip, write_inpainter

UNET = {
    "sample_size": 64,
    "in_channels": 9,
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
VAE = {
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
TEXT = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 512,
}
CLIP_MERGES = 48_894
"""All of CLIP's byte pairs: a vocabulary of 49,408 tokens."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Write models of real size with random weights.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", action="store_true", help="store fp16 instead of fp32")
    parser.add_argument("--classes", help="the classifier's classes, comma-separated (default: 1000 without names)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    folder, half = arguments.folder, arguments.half
    parameters = write_inpainter(folder / "inpainter", unet=UNET, vae=VAE, text=TEXT, merges=CLIP_MERGES, half=half)
    print(f"{folder / 'inpainter'}: UNet of {parameters:,} parameters")
    write_clip(folder / "clip", {**open_clip.get_model_config("ViT-B-16"), "quick_gelu": True}, half=half)
    print(folder / "clip")
    class_names = arguments.classes.split(",") if arguments.classes else None
    classes = {"num_classes": len(class_names)} if class_names else {}
    write_classifier(folder / "classifier", "resnet50.tv2_in1k", class_names, half=half, **classes)
    print(folder / "classifier")


if __name__ == "__main__":
    main()
