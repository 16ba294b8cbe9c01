"""metrics.json and the model card (README.md) of the bundled files, both written from what was measured."""

import hashlib
import json
from pathlib import Path
from typing import Any

from tasks.core.models.bundled import (
    FOLDER,
    METRICS,
    SAMPLE_CLIP,
    SAMPLE_TRUTH,
    SCENES_MODEL,
    SHAPES_WEIGHTS,
    SPEECH_CHECKPOINT,
)
from tasks.core.models.training.drawing import CLASSES
from tasks.core.models.training.phrases import WORDS
from tasks.core.models.training.sample import SCRIPT
from tasks.core.models.training.scenes import COLOURS, UNSEEN
from tasks.core.models.training.scenes_model import IMAGE_SIZE as SCENES_SIZE
from tasks.core.models.training.scenes_model import MOST_TOKENS, PATCH_SIZE, TEXT, VISION
from tasks.core.models.training.scenes_train import BATCH, FRESH, POOL, TEXTS_FROM
from tasks.core.models.training.scenes_train import STEPS as SCENES_STEPS
from tasks.core.models.training.shapes import IMAGE_SIZE, ROUNDS, SPLITS
from tasks.core.models.training.speech import CORPUS_SIZE, PHASES
from tasks.core.models.training.speech_data import VOICES
from tasks.core.models.training.verify import CONFIDENCE

CARD = FOLDER / "README.md"
SCENES_FILES = (
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
FILES = (SPEECH_CHECKPOINT, SHAPES_WEIGHTS, *(SCENES_MODEL / name for name in SCENES_FILES), SAMPLE_CLIP, SAMPLE_TRUTH)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_metrics() -> dict[str, Any]:
    if not METRICS.exists():
        return {}
    metrics: dict[str, Any] = json.loads(METRICS.read_text())
    return metrics


def update_metrics(**sections: Any) -> dict[str, Any]:
    """Put the given sections into metrics.json, with the digests of the files as they are now."""
    metrics = read_metrics() | sections
    metrics["files"] = {
        str(path.relative_to(FOLDER)): {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in FILES
        if path.exists()
    }
    METRICS.write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n")
    return metrics


def write_card(metrics: dict[str, Any]) -> None:
    """README.md from the template below and the measured figures."""
    speech, shapes, sample = metrics["speech"], metrics["shapes"], metrics["sample"]
    files = "\n".join(
        f"| `{name}` | {entry['bytes'] / 1e6:.2f} MB | `{entry['sha256']}` |"
        for name, entry in metrics["files"].items()
    )
    phases = ", ".join(f"{p.steps} steps of {p.batch} windows of {p.window_s:.0f} s" for p in PHASES)
    rounds = ", then ".join(str(epochs) for epochs, _ in ROUNDS)
    CARD.write_text(
        _TEMPLATE.format(
            seed=metrics["seed"],
            files=files,
            phases=phases,
            corpus=CORPUS_SIZE,
            voices=", ".join(VOICES),
            words=" ".join(WORDS),
            word_count=len(WORDS),
            classes=", ".join(CLASSES),
            size=IMAGE_SIZE,
            splits=" / ".join(str(n) for n in SPLITS.values()),
            epochs=rounds,
            confidence=CONFIDENCE,
            script="\n".join(f"- {text}" for _, _, text in SCRIPT),
            scenes_size=SCENES_SIZE,
            patch=PATCH_SIZE,
            tokens=MOST_TOKENS,
            vision=VISION,
            text=TEXT,
            colours=", ".join(COLOURS),
            unseen=", ".join(" ".join(pair) for pair in UNSEEN),
            scenes_steps=SCENES_STEPS,
            scenes_batch=BATCH,
            drawings=POOL + FRESH * SCENES_STEPS,
            texts_from=f"{TEXTS_FROM:.0%}",
            sc=_shares(metrics["scenes"]),
            sp=_percentages(speech),
            sh=shapes,
            sa=sample,
        )
    )


def _shares(figures: dict[str, Any]) -> dict[str, Any]:
    return {k: f"{v:.1%}" if isinstance(v, float) and "margin" not in k else v for k, v in figures.items()}


def _percentages(figures: dict[str, Any]) -> dict[str, Any]:
    return {k: f"{v:.2%}" if k.startswith("wer") else v for k, v in figures.items()}


_TEMPLATE = """# Bundled models

For the demo and the tests only.  They know nothing of real speech or of real objects: one hears {word_count} English
words as espeak-ng says them, the others see {classes} as OpenCV draws them.  No result made with them says
anything about a real recording.

| file | size | sha256 |
|---|---|---|
{files}

All data was made by the scripts in `tasks/core/models/training`; no data, weights or recordings of others went in.
espeak-ng (GPL) is a tool of the training only and is not shipped.  Every figure below is in `metrics.json`, measured
on the files as they are.  This card is written by the same scripts.

## Speech: `whisper-bundled.pt`

openai-whisper's checkpoint format, English-only vocabulary (51864), n_mels 80, audio_ctx 1500, width 96, 3 heads,
3 encoder and 2 decoder layers, text_ctx 192 (so that a window may hold 96 tokens, about 12 sentences).  Stored in fp16
without the embedding rows of words that it does not know; `expand_checkpoint` in `__init__.py` puts them back, with
logits of -60.

Words: {words}.

Training: {corpus} utterances ({voices}; 130 to 220 words a minute), a tenth of all sentences held out by digest;
windows composed on the fly with gain, noise (8 to 45 dB), gaps, late starts, cut-off ends, silence; {phases}; AdamW,
averaged weights, losses on tokens, on the word in each encoder frame and on cross-attention at each word's place.
{sp[training_s]} s on 2 shared CPU cores.
The committed file was trained phase by phase while the recipe was tuned: in its first three phases the sound of an
empty window lasted at least a fifth of it.  The recipe as a whole, from one start, has not been run again.

Measured with `whisper.decode` and `whisper.transcribe` on {sp[windows_per_kind]} windows of 30 s of each kind, all of
sentences that training never saw:

| what | figure |
|---|---|
| word error rate, mixed windows | {sp[wer]} |
| one sentence / eight sentences | {sp[wer_one_sentence]} / {sp[wer_eight_sentences]} |
| first word 3 to 8 s late, `max_initial_timestamp=None` | {sp[wer_late_start]} |
| the same with Whisper's default of 1.0 | {sp[wer_late_start_default_options]} |
| beam of 5 | {sp[wer_beam5]} |
| without timestamps | {sp[wer_without_timestamps]} |
| an accent that it never heard | {sp[wer_unseen_accent]} |
| segment start and end, mean / 99 % error | {sp[timestamp_error_mean_s]} s / {sp[timestamp_error_p99_s]} s |
| word start, median / 95 % error | {sp[word_start_error_median_s]} s / {sp[word_start_error_p95_s]} s |
| windows of silence or noise that gave a segment | {sp[silence_false_positives]} of {sp[silence_windows]} |

Use `condition_on_previous_text=False` beyond 30 s: prompts were never trained.  Whisper's default
`max_initial_timestamp=1.0` forbids a first timestamp after 1 s; pass None where a window may start with silence.

## Shapes: `yolo11-shapes.pt`

YOLO11's own layers at depth 0.33 and width 0.125 in ultralytics' checkpoint format, fp16, for {classes}.  Meant for
image size {size} and confidence {confidence}.  Trained for {epochs} epochs with ultralytics' trainer on rendered
images (train / val / test: {splits}, new training images in each round); the best epoch is picked on val, the figures
are from the first round's test split, which no round trains on or picks by.
{sh[training_s]} s on 2 shared CPU cores.

mAP50 {sh[map50]}, mAP50-95 {sh[map50_95]}.

On the sample it is exact at image sizes 320 and 512 (`SAMPLE_OPTIONS`).  At 640 shapes look larger than
those it learned from, and a false triangle appears in some frames.

## Scenes: `siglip-scenes`

transformers' SiglipModel in a folder as SigLIP's publishers lay it out: vision tower of width {vision[hidden_size]} and
{vision[num_hidden_layers]} layers on {scenes_size} x {scenes_size} pixels in patches of {patch}, text tower of width
{text[hidden_size]} and {text[num_hidden_layers]} layers on {tokens} tokens, float16 safetensors, a tokenizer of whole
words.  It knows the shapes above in {colours}, backgrounds that are dark, light, striped or checked, and sentences of
up to four such things.  Shapes are as large as those of the sample (a tenth to a fifth of the picture's width) and,
but for squares, upright.

Training: SigLIP's sigmoid loss; which text is true of which drawing is known exactly, so nothing counts as wrong by
chance.  Captions also compete to be the one that says most.  A second loss names what each patch shows; texts join
after {texts_from} of the steps.  {scenes_steps} steps of {scenes_batch} out of {drawings} drawings, Muon and AdamW,
averaged weights; {sc[training_s]} s on a part of 2 shared CPU cores.  Never shown and never named in training:
{unseen}.
The committed file is of a run in which fewer of the texts about part of a picture were true; the recipe as it stands
now has not been run again.

It knows what colours and what shapes there are better than which goes with which: see the exchanged colours below.

Measured through the pipeline's own engine on {sc[pictures]} new drawings of each kind:

| what | figure |
|---|---|
| one thing, best of the 48 texts "a COLOUR SHAPE" | {sc[single_top1]} |
| the same for the pairs that training left out | {sc[unseen_pairs_top1]} |
| up to four things, mean average precision of each text | {sc[many_ap]} |
| probability on the right side of one half, all texts | {sc[probability_right]} |
| "a red circle and a green square" over "a green circle and a red square" | {sc[exchanged_right]} |
| sample: frames whose best texts are what they show | {sc[sample_frames_right]} of {sc[sample_frames]} |
| sample: things whose frames all outrank those without | {sc[sample_things_right]} of {sc[sample_things]} |
| sample: smallest difference of cosines between them | {sc[sample_lowest_margin]} |

## Sample: `sample.mp4`, truth in `sample.json`

25 s, 640x360, 25 fps, H.264 and AAC; two scenes with a hard cut at 12.6 s.  {sa[words]} words in two voices:

{script}

The models get it exactly right: {sa[word_errors]} word errors, {sa[frames_wrong]} of {sa[frames]} frames (one a second)
with a wrong shape, lowest confidence {sa[lowest_confidence]}, worst segment start off by
{sa[segment_start_error_max_s]} s.

## Make them again

```
uv pip install espeakng-loader        # the `train` extra
python -m tasks.core.models.training all --seed {seed}
```

`speech`, `shapes`, `scenes` and `sample` make one each.  The same seed gives the same data; weights may differ in the
last digits between machines and versions of torch, so digests differ and `metrics.json` is measured again.
"""
