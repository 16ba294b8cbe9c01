"""Batched, packed decoding against whisper.transcribe on the same weights, window by window."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from whisper.audio import N_FRAMES, N_SAMPLES, log_mel_spectrogram, pad_or_trim
from whisper.decoding import ApplyTimestampRules
from whisper.model import ModelDimensions, Whisper
from whisper.tokenizer import get_tokenizer
from whisper.transcribe import transcribe as whisper_transcribe

from tasks.core.errors import BadModel, ModelNotFound, SetupError
from tasks.core.models import attention, bundled, decoding, seeking, whisper
from tasks.core.models.attention import share_audio
from tasks.core.models.device import choose_device, choose_precision
from tasks.core.options import TranscriptOptions
from tasks.core.schema import HeardWindow, Segment, SpeechWindow

Audio = npt.NDArray[np.float32]
ENGLISH_VOCABULARY, MULTILINGUAL_VOCABULARY = 51_864, 51_865
LOOSE = {"temperatures": (0.0,), "log_probability": -10.0, "no_speech": 1.0, "compression_ratio": 10.0}


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """Other processes share the cores; two spinning threads would then take many times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_network(vocabulary: int, seed: int = 0) -> Whisper:
    """Untrained: its text is garbage, but it depends on every input and is the same in every run."""
    torch.manual_seed(seed)
    network = Whisper(ModelDimensions(80, 1500, 64, 2, 2, vocabulary, 64, 64, 2, 2))
    torch.nn.init.normal_(network.decoder.positional_embedding, std=2.0)
    with torch.no_grad():
        # Without these the audio hardly matters, and timestamps come too seldom to make several rounds.
        network.decoder.token_embedding.weight.mul_(0.4)
        network.encoder.conv1.weight.mul_(5)
        for block in network.decoder.blocks:
            block.cross_attn.out.weight.mul_(8)
            block.cross_attn.query.weight.mul_(8)
    return share_audio(network.eval().requires_grad_(False))


def segments_of(heard: list[HeardWindow]) -> list[Segment]:
    return [segment for window in heard for segment in window.segments]


def loaded(network: Whisper) -> whisper.WhisperModel:
    return whisper.WhisperModel(network, Path("random.pt"), "cpu", "float32")


def bursts(duration_s: float, seed: int) -> Audio:
    """Noise in bursts: something with pauses and changing pitch for the encoder to react to."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(duration_s * 16_000)) / 16_000
    envelope = np.maximum(0, np.sin(2 * np.pi * (0.4 + 0.2 * rng.random()) * time + rng.random()))
    tone = np.sin(2 * np.pi * (150 + 400 * rng.random()) * time * (1 + 0.02 * np.sin(5 * time)))
    return (envelope * (0.3 * tone + 0.1 * rng.standard_normal(time.size))).astype(np.float32)


def windows_of(lengths_s: Sequence[float]) -> tuple[list[SpeechWindow], list[Audio]]:
    starts = np.cumsum([1.25, *lengths_s])
    windows = [SpeechWindow(start=start, end=start + length) for start, length in zip(starts, lengths_s, strict=False)]
    return windows, [bursts(length, seed) for seed, length in enumerate(lengths_s)]


def reference(
    network: Whisper, windows: list[SpeechWindow], audio: list[Audio], options: TranscriptOptions, language: str
) -> list[tuple[float, float, str, list[tuple[str, float, float]]]]:
    """whisper.transcribe on each window alone, in media time, its empty segments left out."""
    found = []
    for window, samples in zip(windows, audio, strict=True):
        result = whisper_transcribe(
            network,
            samples,
            temperature=options.temperatures,
            compression_ratio_threshold=options.compression_ratio,
            logprob_threshold=options.log_probability,
            no_speech_threshold=options.no_speech,
            condition_on_previous_text=False,
            word_timestamps=options.words,
            beam_size=options.beam_size if options.beam_size > 1 else None,
            language=language,
            fp16=False,
        )
        for segment in result["segments"]:
            if segment["text"]:
                words = [(w["word"].strip(), *_clamp(window, w["start"], w["end"])) for w in segment.get("words", [])]
                found.append((*_clamp(window, segment["start"], segment["end"]), segment["text"].strip(), words))
    return found


def _clamp(window: SpeechWindow, start: float, end: float) -> tuple[Any, Any]:
    begin = min(window.start + start, window.end - 0.02)
    return pytest.approx(begin, abs=2e-3), pytest.approx(min(window.start + end, window.end), abs=2.1e-2)


def seen(heard: list[HeardWindow]) -> list[tuple[float, float, str, list[tuple[str, float, float]]]]:
    found = segments_of(heard)
    return [(s.start, s.end, s.text, [(w.text, w.start, w.end) for w in s.words or []]) for s in found]


@pytest.mark.parametrize(
    ("vocabulary", "language", "changes"),
    [
        (ENGLISH_VOCABULARY, "en", {}),
        (MULTILINGUAL_VOCABULARY, "fr", {}),
        (ENGLISH_VOCABULARY, "en", {"words": True}),
        (ENGLISH_VOCABULARY, "en", {"beam_size": 3}),
        (ENGLISH_VOCABULARY, "en", {"log_probability": 0.0, "no_speech": 0.0}),
    ],
    ids=["english", "multilingual", "words", "beam", "silence"],
)
def test_batch_equals_whisper_transcribe_window_by_window(
    vocabulary: int, language: str, changes: dict[str, Any]
) -> None:
    network = random_network(vocabulary)
    windows, audio = windows_of([30.0, 7.3, 0.4, 18.011])
    options = TranscriptOptions.model_validate(LOOSE | changes)
    expected = reference(network, windows, audio, options, language)
    found = whisper.transcribe(loaded(network), windows, audio, options, language)
    assert seen(found) == expected
    assert bool(segments_of(found)) == ("no_speech" not in changes)
    assert [s.id for window in found for s in window.segments] == [n for w in found for n in range(len(w.segments))]


def test_unfinished_rest_of_windows_is_decoded_in_further_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []
    encode = decoding.encode

    def counted(network: Whisper, mels: Sequence[torch.Tensor], fp16: bool) -> torch.Tensor:
        rounds.append(len(mels))
        return encode(network, mels, fp16)

    monkeypatch.setattr(seeking, "encode", counted)
    network = random_network(ENGLISH_VOCABULARY, seed=3)
    windows, audio = windows_of([30.0, 30.0, 12.0])
    options = TranscriptOptions.model_validate(LOOSE)
    found = whisper.transcribe(loaded(network), windows, audio, options, "en")
    assert rounds[0] == 3
    assert len(rounds) > 1
    assert seen(found) == reference(network, windows, audio, options, "en")


def test_a_short_rest_of_a_window_is_decoded_in_a_shorter_input(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs: list[tuple[int, int]] = []
    encode = decoding.encode

    def noted(network: Whisper, mels: Sequence[torch.Tensor], fp16: bool) -> torch.Tensor:
        inputs.append((len(mels), mels[0].shape[-1]))
        return encode(network, mels, fp16)

    monkeypatch.setattr(seeking, "encode", noted)
    network = random_network(ENGLISH_VOCABULARY)
    progress = [
        seeking.Progress(seeking.window_mel(bursts(length, 1), 80), f"{length}", seek=seek)
        for length, seek in [(30.0, 0), (30.0, 2700), (3.0, 0), (12.0, 500)]
    ]
    options = TranscriptOptions.model_validate(LOOSE | {"batch_size": 3})
    settings = decoding.DecodeSettings(options, "en", False, inputs=((400, 1024), (850, 1536), (N_FRAMES, N_FRAMES)))
    seeking.transcribe_windows(network, progress, settings)
    assert inputs[0] == (1, N_FRAMES)
    assert max(rows for rows, frames in inputs if frames == 1024) >= 2
    assert {frames for _, frames in inputs} == {1024, 1536, N_FRAMES}
    assert all(window.finished for window in progress)


@pytest.mark.parametrize("beams", [1, 3])
def test_windows_whose_text_has_ended_leave_the_batch(monkeypatch: pytest.MonkeyPatch, beams: int) -> None:
    rows: list[int] = []
    logits = attention.SharedAudioInference.logits

    def counted(self: Any, tokens: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        rows.append(len(tokens))
        found = logits(self, tokens, features)
        for row in range(0, len(tokens) - (len(rows) < 20) * beams):  # all but the last window end, it after 20 steps
            found[row, -1] = found[row, -1].masked_fill(torch.arange(found.shape[-1]) != 50256, -1e4)
        return found

    network = random_network(ENGLISH_VOCABULARY)
    windows, audio = windows_of([6.0, 9.0, 4.0, 7.0])
    features = decoding.encode(network, [pad_or_trim(seeking.window_mel(a, 80), N_FRAMES) for a in audio], False)
    options = TranscriptOptions.model_validate(LOOSE | {"beam_size": beams})
    settings = decoding.DecodeSettings(options, "en", False, timestamps=False)
    monkeypatch.setattr(attention.SharedAudioInference, "logits", counted)
    found = decoding.decode_with_fallback(network, features, [str(w.start) for w in windows], settings)
    assert rows[0] == 4 * beams
    assert rows[-1] == beams
    assert [len(one.result.tokens) for one in found[:3]] == [1, 1, 1]  # the end may not come first
    assert len(found[3].result.tokens) > 10


def test_fallback_is_seeded_per_window_and_leaves_the_global_generator_alone() -> None:
    model = loaded(random_network(ENGLISH_VOCABULARY))
    windows, audio = windows_of([6.0, 9.0, 4.0])
    options = TranscriptOptions.model_validate(LOOSE | {"temperatures": (0.6,), "log_probability": 0.0})
    state = torch.random.get_rng_state()
    together = whisper.transcribe(model, windows, audio, options, "en")
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    assert whisper.transcribe(model, windows, audio, options, "en") == together
    alone = [h for w, a in zip(windows, audio, strict=True) for h in whisper.transcribe(model, [w], [a], options, "en")]
    assert [s.text for s in segments_of(alone)] == [s.text for s in segments_of(together)]
    assert {(s.temperature, s.unsure) for s in segments_of(together)} == {(0.6, True)}
    greedy = whisper.transcribe(model, windows, audio, TranscriptOptions.model_validate(LOOSE), "en")
    assert [s.text for s in segments_of(greedy)] != [s.text for s in segments_of(together)]


def test_only_failing_windows_are_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network(ENGLISH_VOCABULARY)
    windows, audio = windows_of([6.0, 9.0, 4.0])
    mels = [seeking.window_mel(samples, 80) for samples in audio]
    features = decoding.encode(network, [seeking.Progress(mel, "").next_mel() for mel in mels], False)
    names = [str(window.start) for window in windows]
    loose = decoding.DecodeSettings(TranscriptOptions.model_validate(LOOSE), "en", False)
    first = decoding.decode_with_fallback(network, features, names, loose)
    likelihoods = sorted(found.result.avg_logprob for found in first)
    between = (likelihoods[0] + likelihoods[1]) / 2
    options = TranscriptOptions.model_validate(LOOSE | {"temperatures": (0.0, 0.8), "log_probability": between})
    again: list[int] = []
    run = decoding.BatchTask.run

    def counted(task: decoding.BatchTask, mel: torch.Tensor) -> Any:
        again.append(len(mel))
        return run(task, mel)

    monkeypatch.setattr(decoding.BatchTask, "run", counted)
    results = decoding.decode_with_fallback(network, features, names, loose._replace(options=options))
    assert again == [3, 1]
    assert [found.unsure for found in results].count(True) <= 1
    kept = [(a, b) for a, b in zip(first, results, strict=True) if a.result.avg_logprob >= between]
    assert all(before.result.tokens == after.result.tokens for before, after in kept)


@pytest.mark.parametrize("samples", [480_000, 480_159, 100_001, 400, 160, 0])
def test_mel_equals_that_of_whisper_transcribe(samples: int) -> None:
    audio = bursts(31, seed=1)[:samples]
    padded = log_mel_spectrogram(torch.from_numpy(audio), 80, padding=N_SAMPLES)
    expected = padded[:, : padded.shape[-1] - N_FRAMES]
    found = seeking.window_mel(audio, 80)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_timestamp_rules_equal_those_of_whisper() -> None:
    tokenizer = get_tokenizer(False)
    rules = ApplyTimestampRules(tokenizer, 3, 50)
    rng = torch.Generator().manual_seed(0)
    stamp, text, end = tokenizer.timestamp_begin, 11, tokenizer.eot
    prefixes = [[], [stamp], [stamp, text], [stamp + 4, text, stamp + 9], [stamp, text, stamp + 9, stamp + 9]]
    prefixes += [[stamp, text, stamp + 9, end], [stamp, text, text, text], [stamp + 1500, text, stamp + 1500]]
    for length in range(5):
        rows = [prefix for prefix in prefixes if len(prefix) == length]
        if not rows:
            continue
        tokens = torch.tensor([[1, 2, 3, *row] for row in rows])
        for scale in (0.1, 3.0):
            logits = torch.randn(len(rows), ENGLISH_VOCABULARY, generator=rng) * scale
            expected, found = logits.clone(), logits.clone()
            rules.apply(expected, tokens)
            decoding.TimestampRules(rules).apply(found, tokens)
            assert torch.equal(found, expected)


def test_language_is_averaged_over_windows_and_fixed_for_english_models() -> None:
    _, audio = windows_of([5.0, 3.0])
    assumed = whisper.detect_language(loaded(random_network(ENGLISH_VOCABULARY)), audio)
    assert (assumed.code, assumed.checked) == ("en", False)
    model = loaded(random_network(MULTILINGUAL_VOCABULARY))
    detected = whisper.detect_language(model, audio)
    assert detected.checked
    assert detected == whisper.detect_language(model, audio[::-1])
    windows, _ = windows_of([5.0, 3.0])
    options = TranscriptOptions.model_validate(LOOSE)
    unset = whisper.transcribe(model, windows, audio, options, None)
    assert unset == whisper.transcribe(model, windows, audio, options, detected.code)
    with pytest.raises(SetupError, match="klingon"):
        whisper.transcribe(model, windows, audio, options, "klingon")
    with pytest.raises(ValueError, match="at least one window"):
        whisper.detect_language(model, [])


def test_windows_and_audio_must_match() -> None:
    model = loaded(random_network(ENGLISH_VOCABULARY))
    windows, audio = windows_of([1.0, 1.0])
    assert whisper.transcribe(model, [], [], TranscriptOptions(), "en") == []
    with pytest.raises(ValueError, match="2 windows"):
        whisper.transcribe(model, windows, audio[:1], TranscriptOptions(), "en")
    with pytest.raises(ValueError, match="30 s or less"):
        whisper.transcribe(model, windows[:1], [bursts(31, 0)], TranscriptOptions(), "en")


def save(path: Path, network: Whisper, **changes: Any) -> Path:
    dims = vars(network.dims) | changes
    torch.save({"dims": dims, "model_state_dict": network.state_dict()}, path)
    return path


def test_load_is_cached_until_the_file_changes(tmp_path: Path) -> None:
    path = save(tmp_path / "own.pt", random_network(ENGLISH_VOCABULARY))
    first = whisper.load(path, "cpu", "float32")
    assert whisper.load(path, "cpu", "float32") is first
    save(path, random_network(ENGLISH_VOCABULARY, seed=1))
    os.utime(path, ns=(1, 1))
    second = whisper.load(path, "cpu", "float32")
    assert second is not first
    assert not torch.equal(second.network.encoder.conv1.weight, first.network.encoder.conv1.weight)


def test_load_refuses_what_is_no_whisper_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="cannot be read"):
        whisper.load(tmp_path / "missing.pt", "cpu", "float32")
    text = tmp_path / "text.pt"
    text.write_text("not a checkpoint")
    network = random_network(ENGLISH_VOCABULARY)
    huge = save(tmp_path / "huge.pt", network, n_text_state=10**9)
    short = save(tmp_path / "short.pt", network, n_audio_ctx=100)
    pickled = tmp_path / "code.pt"
    torch.save({"dims": Path("/")}, pickled)
    for path in (huge, short, pickled):
        with pytest.raises(ModelNotFound, match="holds no Whisper model"):
            whisper.load(path, "cpu", "float32")
    with pytest.raises(BadModel, match="no sound checkpoint"):
        whisper.load(text, "cpu", "float32")


def test_device_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", "transcript") == "cpu"
    with pytest.raises(SetupError, match="no GPU"):
        choose_device("cuda", "transcript")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (choose_device("auto", "transcript"), choose_device("cpu", "transcript")) == ("cuda", "cpu")
    assert (choose_precision("auto", "cuda", "transcript"), choose_precision("auto", "cpu", "transcript")) == (
        "float16",
        "float32",
    )
    with pytest.raises(SetupError, match="needs a GPU"):
        choose_precision("float16", "cpu", "transcript")


@pytest.mark.skipif(not bundled.SPEECH_CHECKPOINT.is_file(), reason="the bundled speech model is not in this checkout")
def test_bundled_model_gives_the_same_text_batched_and_alone() -> None:
    import av

    model = whisper.load(bundled.SPEECH_CHECKPOINT, "cpu", "float32")
    with av.open(str(bundled.SAMPLE_CLIP)) as container:
        resampler = av.AudioResampler("flt", "mono", 16_000)
        decoded = [p.to_ndarray()[0] for f in [*container.decode(audio=0), None] for p in resampler.resample(f)]
    track = np.concatenate(decoded)
    cuts = np.linspace(0, track.size, 4).astype(int)
    windows = [SpeechWindow(start=a / 16_000, end=b / 16_000) for a, b in itertools.pairwise(cuts)]
    audio = [track[a:b] for a, b in itertools.pairwise(cuts)]
    options = TranscriptOptions()
    found = whisper.transcribe(model, windows, audio, options, "en")
    assert segments_of(found)
    assert seen(found) == reference(model.network, windows, audio, options, "en")


def test_a_shorter_input_is_the_same_network_on_fewer_positions() -> None:
    network = random_network(ENGLISH_VOCABULARY)
    mels = [seeking.Progress(seeking.window_mel(bursts(4, seed), 80), "").next_mel(N_FRAMES - 2) for seed in (1, 2)]
    found = decoding.encode(network, mels, False)
    assert found.shape == (2, 1499, 64)
    whole = [torch.nn.functional.pad(mel, (0, 2)) for mel in mels]
    torch.testing.assert_close(found[:, :1000], decoding.encode(network, whole, False)[:, :1000], rtol=0, atol=0.05)
    short = decoding.encode(network, [mel[:, :1536] for mel in mels], False)
    assert short.shape == (2, 768, 64)
    settings = decoding.DecodeSettings(TranscriptOptions.model_validate(LOOSE), "en", False)
    assert len(decoding.decode_with_fallback(network, short, ["a", "b"], settings)) == 2


def test_an_ended_row_gains_nothing_and_turns_nothing_into_nan() -> None:
    sampler = decoding.RowSampler(0.5, 3, [1, 2], torch.device("cpu"))
    tokens, sums = torch.tensor([[0, 3], [0, 1]]), torch.tensor([-1.0, -2.0])
    logits = torch.tensor([[0.0, 1.0, 2.0, float("-inf")], [0.0, 1.0, 2.0, 3.0]])
    found, _ = sampler.update(tokens, logits, sums)
    assert found[0, -1] == 3
    assert sums[0] == -1.0
    assert torch.isfinite(sums).all()


@pytest.mark.parametrize("broken", ["avg_logprob", "compression_ratio"])
def test_nan_passes_no_guard(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    network = random_network(ENGLISH_VOCABULARY)
    features = decoding.encode(network, [seeking.Progress(seeking.window_mel(bursts(4, 1), 80), "").next_mel()], False)
    settings = decoding.DecodeSettings(
        TranscriptOptions.model_validate(LOOSE | {"temperatures": (0.0, 0.2)}), "en", False
    )
    run = decoding.BatchTask.run

    def spoiled(task: decoding.BatchTask, mel: torch.Tensor) -> Any:
        changes = {broken: float("nan")} if task.options.temperature == 0 else {}
        return [dataclasses.replace(result, **changes) for result in run(task, mel)]

    monkeypatch.setattr(decoding.BatchTask, "run", spoiled)
    [found] = decoding.decode_with_fallback(network, features, ["a"], settings)
    assert (found.result.temperature, found.unsure) == (0.2, False)


def test_a_prompt_stands_before_each_window_and_has_a_bound() -> None:
    model = loaded(random_network(ENGLISH_VOCABULARY))
    assert whisper.prompt_tokens(model, TranscriptOptions(), "en") == ()
    options = TranscriptOptions.model_validate(LOOSE | {"prompt": "Hello Anna.", "hotwords": ("Reelflow", "YOLO")})
    tokens = whisper.prompt_tokens(model, options, "en")
    assert get_tokenizer(False).decode(list(tokens)) == " Hello Anna. Reelflow, YOLO"
    windows, audio = windows_of([4.0])
    without = whisper.transcribe(model, windows, audio, TranscriptOptions.model_validate(LOOSE), "en")
    assert whisper.transcribe(model, windows, audio, options, "en") != without
    long = TranscriptOptions(prompt="many words " * 40)
    with pytest.raises(SetupError, match=r"are 80 tokens; random\.pt takes 31"):
        whisper.prompt_tokens(model, long, "en")
