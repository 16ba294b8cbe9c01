"""Train the bundled models and make the sample clip: `python -m tasks.core.models.training all --seed 7`."""

import argparse
import tempfile
import time
from pathlib import Path

from tasks.core.models.bundled import SAMPLE_CLIP, SAMPLE_TRUTH, SCENES_MODEL, SHAPES_WEIGHTS, SPEECH_CHECKPOINT

SEED = 7
STEPS = ("speech", "shapes", "scenes", "sample")


def main() -> None:
    """Run the chosen steps; each replaces its files in the bundled folder and its figures in metrics.json."""
    parser = argparse.ArgumentParser(prog="python -m tasks.core.models.training", description=__doc__)
    parser.add_argument("what", choices=(*STEPS, "all"), help="what to make")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of data and weights (default %(default)s)")
    parser.add_argument("--work", type=Path, help="folder for data and checkpoints (default: a temporary one)")
    parser.add_argument("--measure-only", action="store_true", help="measure the files that are there, train nothing")
    options = parser.parse_args()
    steps = STEPS if options.what == "all" else (options.what,)
    with tempfile.TemporaryDirectory(prefix="reelflow-training-") as temporary:
        work: Path = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        run(steps, work.resolve(), options.seed, options.measure_only)


def run(steps: tuple[str, ...], work: Path, seed: int, measure_only: bool) -> None:
    from tasks.core.models.training import card, sample, scenes_eval, scenes_train, shapes, speech, speech_eval, verify

    metrics = card.read_metrics() | {"seed": seed}
    if "speech" in steps:
        taken = metrics.get("speech", {}).get("training_s", 0)
        if not measure_only:
            taken = round(speech.train_speech(work, SPEECH_CHECKPOINT, seed))
        started = time.monotonic()
        figures = speech_eval.measure_speech(SPEECH_CHECKPOINT, seed)
        print(f"speech measured in {time.monotonic() - started:.0f} s: {figures}")
        metrics["speech"] = figures | {"training_s": taken}
    if "shapes" in steps:
        taken = metrics.get("shapes", {}).get("training_s", 0)
        if measure_only:
            data = shapes.write_dataset(work / "shapes1", seed)
            figures = shapes.measure_shapes(SHAPES_WEIGHTS, data, work) | {"training_s": taken}
        else:
            figures = shapes.train_shapes(work, SHAPES_WEIGHTS, seed)
        print(f"shapes measured: {figures}")
        metrics["shapes"] = figures
    if "scenes" in steps:
        taken = metrics.get("scenes", {}).get("training_s", 0)
        if not measure_only:
            taken = round(scenes_train.train_scenes(SCENES_MODEL, seed))
        metrics["scenes"] = scenes_eval.measure_scenes(SCENES_MODEL, seed) | {"training_s": taken}
        metrics["scenes"] |= scenes_eval.verify_scenes_sample(SCENES_MODEL, SAMPLE_CLIP)
        print(f"scenes measured: {metrics['scenes']}")
    if "sample" in steps:
        if not measure_only:
            sample.make_sample(work, SAMPLE_CLIP, SAMPLE_TRUTH)
        metrics["sample"] = verify.verify_sample(SPEECH_CHECKPOINT, SHAPES_WEIGHTS, SAMPLE_CLIP, SAMPLE_TRUTH, work)
        print(f"sample verified: {metrics['sample']}")
    metrics = card.update_metrics(**metrics)
    if {"speech", "shapes", "scenes", "sample"} <= metrics.keys():
        card.write_card(metrics)


if __name__ == "__main__":
    main()
