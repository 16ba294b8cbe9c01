"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const screen = byId("screen"), stage = byId("stage"), media = byId("media"), canvas = byId("boxes");
  const spoken = byId("spoken"), timeline = byId("timeline"), playhead = byId("playhead"), list = byId("segments");
  const lines = list ? [...list.querySelectorAll("button")] : [];
  const starts = lines.map((line) => Number(line.dataset.start));
  const ends = lines.map((line) => Number(line.dataset.end));
  const times = data.frames.map((frame) => frame[0]);
  const gaps = times.slice(1).map((time, at) => time - times[at]).sort((a, b) => a - b);
  const usual = gaps.length ? gaps[gaps.length >> 1] : 1;
  let broken = !media, position = 0, current = -1, showBoxes = true, showCaptions = screen.classList.contains("audio");
  let wantedAt = 0;

  const clock = (seconds, tenths) => {
    const steps = tenths ? Math.round(seconds * 10) : Math.floor(seconds) * 10;
    const s = Math.floor(steps / 10) % 60, m = Math.floor(steps / 600) % 60, h = Math.floor(steps / 36000);
    const two = (n) => String(n).padStart(2, "0");
    return (h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`) + (tenths ? `.${steps % 10}` : "");
  };
  const now = () => (broken ? position : media.seeking ? position : media.currentTime);
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  /** Index of the last element that is at most `value`, -1 when there is none. */
  const before = (sorted, value) => {
    let low = 0, high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] <= value) low = middle + 1; else high = middle;
    }
    return low - 1;
  };

  const seek = (seconds) => {
    position = clamp(seconds, 0, data.duration);
    if (!broken) media.currentTime = position;
    draw();
  };
  const toggle = () => {
    if (broken) return;
    if (media.paused) media.play().catch(() => {}); else media.pause();
  };

  /** Overlap of two boxes [class, confidence, x1, y1, x2, y2] as intersection over union. */
  const overlap = (a, b) => {
    const w = Math.min(a[4], b[4]) - Math.max(a[2], b[2]), h = Math.min(a[5], b[5]) - Math.max(a[3], b[3]);
    if (w <= 0 || h <= 0) return 0;
    const area = (box) => (box[4] - box[2]) * (box[5] - box[3]);
    return (w * h) / (area(a) + area(b) - w * h);
  };

  /** Boxes at a time: those of the sampled frames on both sides, moved evenly where one box is seen in both. */
  const boxesAt = (time) => {
    const at = before(times, time + 0.02);
    if (at < 0) return data.frames.length && times[0] - time < usual / 2 ? data.frames[0][1] : [];
    const here = data.frames[at][1], next = data.frames[at + 1];
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

  const drawBoxes = (time) => {
    if (!canvas || !data.size) return;
    const ratio = window.devicePixelRatio || 1, width = stage.clientWidth, height = stage.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!showBoxes) return;
    const shape = (!broken && media.videoWidth && media.videoWidth / media.videoHeight) || data.size[0] / data.size[1];
    const w = Math.min(width, height * shape), h = w / shape, left = (width - w) / 2, top = (height - h) / 2;
    pen.font = "600 12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    pen.lineWidth = 2;
    const taken = [];
    const boxes = boxesAt(time).slice().sort((a, b) => b[1] - a[1]);
    // boxes are pixels of a picture of data.size, into which one of another shape was fitted
    const inner = Math.min(data.size[0], data.size[1] * shape), scale = w / inner;
    const x0 = left - ((data.size[0] - inner) / 2) * scale, y0 = top - ((data.size[1] - inner / shape) / 2) * scale;
    const place = (box) => [x0 + box[2] * scale, y0 + box[3] * scale, (box[4] - box[2]) * scale, (box[5] - box[3]) * scale];
    for (const box of boxes) {
      pen.strokeStyle = data.classes[box[0]][1];
      pen.strokeRect(...place(box));
    }
    for (const box of boxes) {
      const [name, color] = data.classes[box[0]], [x, y] = place(box);
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

  const follow = (time) => {
    const at = before(starts, time + 0.001);
    const found = at >= 0 && time < Math.max(ends[at], starts[at] + 0.2) ? at : -1;
    spoken.hidden = !(showCaptions && found >= 0);
    if (found === current) return;
    if (current >= 0) lines[current].removeAttribute("aria-current");
    current = found;
    if (found < 0) return;
    lines[found].setAttribute("aria-current", "true");
    spoken.textContent = lines[found].lastElementChild.textContent;
    if (performance.now() < wantedAt) return;
    const row = lines[found].parentElement;
    list.scrollTop = row.offsetTop - list.clientHeight / 2 + row.offsetHeight / 2;
  };

  const draw = () => {
    const time = now();
    byId("now").textContent = clock(time, true);
    playhead.style.left = `${clamp((100 * time) / Math.max(data.duration, 1e-9), 0, 100)}%`;
    timeline.setAttribute("aria-valuenow", time.toFixed(1));
    timeline.setAttribute("aria-valuetext", clock(time));
    follow(time);
    drawBoxes(time);
  };
  const loop = () => {
    draw();
    if (!broken && !media.paused && !media.ended) requestAnimationFrame(loop);
  };

  const press = (id, action) => {
    const button = byId(id);
    if (button) button.addEventListener("click", () => { action(button); draw(); });
  };
  const pressed = (button, on) => button.setAttribute("aria-pressed", String(on));
  const fail = () => {
    broken = true;
    screen.classList.add("broken");
    byId("missing").hidden = false;
    const why = media.src.startsWith("data:") ? "This browser cannot play the media."
      : "This media is not part of the report, and cannot be opened from here.";
    byId("missing").textContent = `${why} The timeline still shows what was found when.`;
    for (const id of ["play", "speed", "mute", "full"]) if (byId(id)) byId(id).disabled = true;
    draw();
  };

  byId("controls").hidden = false;
  if (media) {
    media.controls = false;
    screen.classList.add("ready");
    media.addEventListener("error", fail);
    media.addEventListener("play", () => {
      screen.classList.add("playing");
      byId("play").setAttribute("aria-label", "Pause");
      requestAnimationFrame(loop);
    });
    for (const kind of ["pause", "ended"]) {
      media.addEventListener(kind, () => {
        screen.classList.remove("playing");
        byId("play").setAttribute("aria-label", "Play");
      });
    }
    for (const kind of ["loadedmetadata", "loadeddata", "seeked", "timeupdate"]) media.addEventListener(kind, draw);
    media.addEventListener("click", toggle);
    if (media.error) fail();
  } else byId("play").disabled = true;
  if (byId("show-captions")) pressed(byId("show-captions"), showCaptions);
  if (!lines.length) byId("show-captions").hidden = true;
  press("play", toggle);
  press("show-boxes", (button) => pressed(button, (showBoxes = !showBoxes)));
  press("show-captions", (button) => pressed(button, (showCaptions = !showCaptions)));
  press("mute", (button) => pressed(button, (media.muted = !media.muted)));
  press("full", () => (document.fullscreenElement ? document.exitFullscreen() : screen.requestFullscreen()));
  press("speed", (button) => {
    const rates = [1, 1.5, 2, 0.5];
    media.playbackRate = rates[(rates.indexOf(media.playbackRate) + 1) % rates.length];
    button.textContent = `${media.playbackRate}\u00d7`;
    button.setAttribute("aria-label", `Playback speed, ${media.playbackRate} times`);
  });

  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => {
      const kind = button.dataset.save, link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([data.subtitles[kind]], { type: "text/plain" }));
      link.download = `transcript.${kind}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
  }
  for (const target of document.querySelectorAll("[data-start]")) {
    target.addEventListener("click", () => seek(Number(target.dataset.start) + 0.001));
  }
  if (list) for (const kind of ["wheel", "touchmove"]) {
    list.addEventListener(kind, () => { wantedAt = performance.now() + 4000; }, { passive: true });
  }
  const pointAt = (track, event) => {
    const box = track.getBoundingClientRect();
    seek(clamp((event.clientX - box.left) / box.width, 0, 1) * data.duration);
  };
  const track = timeline.querySelector(".head div");
  timeline.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    timeline.setPointerCapture(event.pointerId);
    pointAt(track, event);
  });
  timeline.addEventListener("pointermove", (event) => { if (event.buttons & 1) pointAt(track, event); });
  const plot = document.querySelector(".plot");
  if (plot) plot.addEventListener("click", (event) => pointAt(plot, event));

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input")) return;
    const act = {
      " ": event.target.closest("button, summary, a") ? null : toggle,
      ArrowLeft: () => seek(now() - 5), ArrowRight: () => seek(now() + 5),
      ",": () => seek(now() - 1 / data.fps), ".": () => seek(now() + 1 / data.fps),
    }[event.key];
    const inside = event.target === timeline && {
      ArrowDown: () => seek(now() - 5), ArrowUp: () => seek(now() + 5),
      Home: () => seek(0), End: () => seek(data.duration),
    }[event.key];
    const row = list && list.contains(event.target) && lines.indexOf(event.target.closest("button"));
    const move = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (typeof row === "number" && row >= 0 && move) {
      let next = row + move;
      while (lines[next] && lines[next].parentElement.hidden) next += move;
      if (lines[next]) lines[next].focus();
      event.preventDefault();
    } else if (act || inside) {
      (act || inside)();
      event.preventDefault();
    }
  });

  const find = byId("find");
  if (find) {
    find.hidden = lines.length < 4;
    find.addEventListener("input", () => {
      const wanted = find.value.trim().toLowerCase();
      let shown = 0;
      for (const line of lines) {
        const fits = line.lastElementChild.textContent.toLowerCase().includes(wanted);
        line.parentElement.hidden = !fits;
        shown += fits ? 1 : 0;
      }
      byId("none").hidden = shown > 0;
    });
  }
  new ResizeObserver(draw).observe(stage);
  draw();
})();
