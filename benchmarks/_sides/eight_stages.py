"""The sequential pipeline that came before: eight stages, each finished and stored before the next one starts.

One clip and one frame at a time, every clip and every frame an object of its own in a folder, a process of ffmpeg for
each cut and each compression; libraries as their READMEs show. Its cloud functions paid transfers and cold starts on
top, which are left out here.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks._media import read_samples
from benchmarks._sides import CONFIDENCE, Box, Found, Job, Parts, boxes_of, ffmpeg, load_whisper, load_yolo, main


def eight_stages(job: Job) -> Found:
    """Audio, segments, cut, compress, transcribe, sample, detect, collect."""
    import cv2
    import whisper

    from tasks.core.options import SegmentOptions
    from tasks.core.segments import segment_speech

    [source] = job.sources
    folder = Path(job.folder)
    yolo, speech = load_yolo(job), load_whisper(job)
    segment_speech(read_samples(Path(source))[:16000], SegmentOptions())
    for name in ("clips", "compressed", "frames", "said", "seen"):
        (folder / name).mkdir()
    parts = Parts()

    audio = folder / "audio.wav"
    ffmpeg("-i", source, "-vn", "-ac", "1", "-ar", "16000", str(audio))
    parts.end("audio")

    spoken = segment_speech(read_samples(audio), SegmentOptions())
    (folder / "segments.json").write_text(json.dumps([[part.start, part.end] for part in spoken]))
    parts.end("segments")

    for number, (start, end) in enumerate(json.loads((folder / "segments.json").read_text())):
        ffmpeg("-ss", str(start), "-i", source, "-t", str(end - start), str(folder / "clips" / f"{number:04d}.mp4"))
    parts.end("cut")

    for clip in sorted((folder / "clips").iterdir()):
        small = ["-vf", "scale=-2:480", "-crf", "28", "-ac", "1", "-ar", "16000", "-b:a", "64k"]
        ffmpeg("-i", str(clip), *small, str(folder / "compressed" / clip.name))
    parts.end("compress")

    for clip in sorted((folder / "compressed").iterdir()):
        text = whisper.transcribe(speech, read_samples(clip), fp16=False, condition_on_previous_text=False)["text"]
        (folder / "said" / f"{clip.stem}.txt").write_text(text)
    parts.end("transcribe")

    full_colour = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # as ours: equal boxes
    capture = cv2.VideoCapture(source)
    fps = capture.get(cv2.CAP_PROP_FPS)
    number = wanted = 0
    while True:
        read, frame = capture.read()
        if not read:
            break
        if number >= round(wanted * fps):
            cv2.imwrite(str(folder / "frames" / f"{number:06d}.jpg"), frame, full_colour)
            wanted += 1
        number += 1
    parts.end("sample")

    for path in sorted((folder / "frames").iterdir()):
        [result] = yolo.predict(str(path), conf=CONFIDENCE, verbose=False)
        (folder / "seen" / f"{path.stem}.json").write_text(json.dumps(boxes_of(yolo, int(path.stem), result)))
    parts.end("detect")

    boxes: list[Box] = []
    for path in sorted((folder / "seen").iterdir()):
        boxes += json.loads(path.read_text())
    said = [path.read_text() for path in sorted((folder / "said").iterdir())]
    (folder / "result.json").write_text(json.dumps({"boxes": boxes, "text": said}))
    parts.end("collect")
    return parts.found(boxes, said)


if __name__ == "__main__":
    main(eight_stages)
