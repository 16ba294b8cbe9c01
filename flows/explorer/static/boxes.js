import { before, clamp } from "/static/dom.js";

/** Overlap of two boxes [class, confidence, x1, y1, x2, y2] as intersection over union. */
const overlap = (a, b) => {
  const w = Math.min(a[4], b[4]) - Math.max(a[2], b[2]), h = Math.min(a[5], b[5]) - Math.max(a[3], b[3]);
  if (w <= 0 || h <= 0) return 0;
  const area = (box) => (box[4] - box[2]) * (box[5] - box[3]);
  return (w * h) / (area(a) + area(b) - w * h);
};

/**
 * Boxes at a time, from the sampled frames on both sides of it, moved evenly where one box is seen in both. `frames`
 * are [time, boxes] in order.
 */
export const boxTrack = (frames) => {
  const times = frames.map((frame) => frame[0]);
  const gaps = times.slice(1).map((time, at) => time - times[at]).sort((a, b) => a - b);
  const usual = gaps.length ? gaps[gaps.length >> 1] : 1;
  return (time) => {
    const at = before(times, time + 0.02);
    if (at < 0) return frames.length && times[0] - time < usual / 2 ? frames[0][1] : [];
    const here = frames[at][1], next = frames[at + 1];
    if (!next || next[0] - times[at] > 2.5 * usual) return time - times[at] <= usual ? here : [];
    const part = clamp((time - times[at]) / (next[0] - times[at]), 0, 1);
    const free = new Set(next[1].keys()), shown = [];
    for (const box of here) {
      let best = -1, most = 0.2;
      for (const key of free) {
        const score = next[1][key][0] === box[0] ? overlap(box, next[1][key]) : 0;
        if (score > most) { most = score; best = key; }
      }
      if (best >= 0) {
        free.delete(best);
        shown.push(box.map((value, index) => (index < 2 ? value : value + (next[1][best][index] - value) * part)));
      } else if (part < 0.5) shown.push(box);
    }
    if (part >= 0.5) for (const key of free) shown.push(next[1][key]);
    return shown;
  };
};

/**
 * Draws boxes of a picture of `size` [width, height] into a canvas that lies over it, letterboxed as the video is. A
 * picture of another `shape` (width by height) was fitted into that size before its boxes were found.
 */
export const drawBoxes = (canvas, boxes, size, classes, shape = size[0] / size[1]) => {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const w = Math.min(width, height * shape), h = w / shape, left = (width - w) / 2, top = (height - h) / 2;
  const inner = Math.min(size[0], size[1] * shape), scale = w / inner;
  const x0 = left - ((size[0] - inner) / 2) * scale, y0 = top - ((size[1] - inner / shape) / 2) * scale;
  const place = (box) => [x0 + box[2] * scale, y0 + box[3] * scale, (box[4] - box[2]) * scale, (box[5] - box[3]) * scale];
  const surest = [...boxes].sort((a, b) => b[1] - a[1]);
  pen.lineWidth = 2;
  for (const box of surest) {
    pen.strokeStyle = classes[box[0]].color;
    pen.strokeRect(...place(box));
  }
  pen.font = "600 12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const taken = [];
  for (const box of surest) {
    const { name, color } = classes[box[0]], [x, y] = place(box);
    const label = `${name.slice(0, 28)} ${Math.round(box[1] * 100)}%`, wide = pen.measureText(label).width + 8;
    const lx = clamp(x - 1, 0, Math.max(0, width - wide)), ly = y >= 17 ? y - 17 : y;
    if (taken.some((other) => Math.abs(other[1] - ly) < 17 && lx < other[2] && other[0] < lx + wide)) continue;
    taken.push([lx, ly, lx + wide]);
    pen.fillStyle = color;
    pen.fillRect(lx, ly, wide, 17);
    pen.fillStyle = "#101113";
    pen.fillText(label, lx + 4, ly + 9);
  }
};
