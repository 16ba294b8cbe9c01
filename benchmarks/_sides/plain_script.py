"""A plain script: every frame decoded, one frame and one stretch of speech at a time, as libraries' READMEs show."""

from __future__ import annotations

from pathlib import Path

from benchmarks._media import read_samples
from benchmarks._sides import CONFIDENCE, Box, Found, Job, Parts, boxes_of, load_whisper, load_yolo, main


def plain_script(job: Job) -> Found:
    """Objects at one frame a second, then speech."""
    import cv2
    import whisper

    from tasks.core.options import SegmentOptions
    from tasks.core.segments import segment_speech

    [source] = job.sources
    yolo, speech = load_yolo(job), load_whisper(job)
    segment_speech(read_samples(Path(source))[:16000], SegmentOptions())
    parts = Parts()
    capture = cv2.VideoCapture(source)
    fps = capture.get(cv2.CAP_PROP_FPS)
    boxes: list[Box] = []
    number = wanted = 0
    while True:
        read, frame = capture.read()
        if not read:
            break
        if number >= round(wanted * fps):
            parts.end("decode")
            boxes += boxes_of(yolo, number, yolo.predict(frame, conf=CONFIDENCE, verbose=False)[0])
            parts.end("detections")
            wanted += 1
        number += 1
    parts.end("decode")
    samples = read_samples(Path(source))
    parts.end("audio")
    spoken = segment_speech(samples, SegmentOptions())
    parts.end("segments")
    said = [
        whisper.transcribe(
            speech,
            samples[int(part.start * 16000) : int(part.end * 16000)],
            fp16=False,
            condition_on_previous_text=False,
        )["text"]
        for part in spoken
    ]
    parts.end("transcript")
    return parts.found(boxes, said)


if __name__ == "__main__":
    main(plain_script)
