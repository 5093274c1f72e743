"""Train the miniature models of the playground, each in its library's own format.

    python tools/train_playground.py clip OUT [--steps N] [--device cuda] [--threads N]
    python tools/train_playground.py all OUT

writes OUT/NAME, OUT/NAME.json (time and validation figures) and OUT/NAME.checkpoint for each model NAME. A training
that was interrupted, however rudely, goes on from its checkpoint when it is started again. The inpainter needs OUT/vae,
and the autoencoder OUT/classifier. `--report test` measures what is in OUT and trains nothing.
"""

from __future__ import annotations

import argparse
import json
import os
from importlib import import_module
from pathlib import Path

MODELS = {
    "clip": "playground_training.clip:ClipTraining",
    "classifier": "playground_training.classifier:ClassifierTraining",
    "vae": "playground_training.vae:VaeTraining",
    "inpainter": "playground_training.inpainter:InpainterTraining",
}
"""In the order in which they can be trained."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=[*MODELS, "all"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, help="steps of the training (each model has its own default)")
    parser.add_argument("--batch-size", type=int, help="images a step (likewise)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16", help="arithmetic of the forward pass")
    parser.add_argument("--threads", type=int, help="threads of torch on a CPU")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw scenes ahead")
    parser.add_argument("--seed", type=int, default=0, help="of the world, the weights and the order")
    parser.add_argument("--checkpoint-every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--log-every", type=int, default=20, help="steps between lines of the log")
    parser.add_argument("--held-out", type=int, default=50, help="scenes of each class that figures are measured on")
    parser.add_argument("--report", choices=["val", "test"], help="measure the models in OUT on a split, train nothing")
    arguments = parser.parse_args()
    if arguments.threads:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    import torch
    from playground_training.loop import Execution, train

    from synood_cli.models.loading import choose_device
    from synood_cli.playground.world import World

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    execution = Execution(
        device=choose_device(arguments.device),
        bf16=arguments.precision == "bf16",
        workers=arguments.workers,
        checkpoint_every=arguments.checkpoint_every,
        log_every=arguments.log_every,
        held_out=arguments.held_out,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in MODELS if arguments.model == "all" else [arguments.model]:
        module, _, attribute = MODELS[name].partition(":")
        training = getattr(import_module(module), attribute)(World(arguments.seed), arguments.out)
        if arguments.report:
            figures = training.figures(arguments.report, execution.device, execution.held_out)
            print(json.dumps({"model": name, "split": arguments.report, **figures}))
            continue
        recipe = training.recipe._replace(
            steps=arguments.steps or training.recipe.steps,
            batch_size=arguments.batch_size or training.recipe.batch_size,
        )
        train(training, recipe, execution)


if __name__ == "__main__":
    main()
