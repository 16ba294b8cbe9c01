import { clamp } from "/static/dom.js";

/**
 * A media element over the whole time of a media, whichever way it is played: `choices` are lists of pieces
 * {start, end, src}, the source as one piece or its clips. Where the first list cannot be played, the next one is
 * taken; without any, the position still moves. `changed` is called whenever there is something new to draw, with
 * "playing", "paused", "gap" (no piece has this moment), "broken" or nothing.
 */
export const makePlayer = (element, choices, duration, changed) => {
  let list = 0, at = -1, position = 0, resume = false, gap = false;
  const pieces = () => choices[list] ?? [];
  const isBroken = () => list >= choices.length;
  const isOpen = () => at >= 0 && element.readyState > 0 && !element.seeking;
  const time = () => (isOpen() ? Math.min(pieces()[at].start + element.currentTime, duration) : position);

  const go = () => {
    const found = pieces().findIndex((piece) => piece.start - 0.05 <= position && position < piece.end);
    const wanted = found < 0 && position >= duration ? pieces().findLastIndex((piece) => piece.end >= duration) : found;
    gap = wanted < 0 && !isBroken();
    if (wanted < 0) {
      element.pause();
      at = -1;
    } else if (wanted !== at) {
      at = wanted;
      element.src = pieces()[at].src;
    } else if (element.readyState > 0) {
      element.currentTime = Math.max(0, position - pieces()[at].start);
    }
    changed(gap ? "gap" : isBroken() ? "broken" : undefined);
  };
  const seek = (seconds) => {
    position = clamp(seconds, 0, duration);
    go();
  };
  const play = () => {
    if (gap) {
      const next = pieces().find((piece) => piece.start >= position) ?? pieces()[0];
      resume = true;
      if (next) seek(next.start);
    } else if (!isBroken()) element.play().catch(() => {});
  };

  element.addEventListener("loadedmetadata", () => {
    const start = Math.max(0, position - pieces()[at].start);
    if (Math.abs(element.currentTime - start) > 0.01) element.currentTime = start;
    if (resume) element.play().catch(() => {});
    resume = false;
    changed();
  });
  element.addEventListener("error", () => {
    if (at < 0) return;
    list += 1;
    at = -1;
    element.removeAttribute("src");
    go();
  });
  element.addEventListener("ended", () => {
    const next = pieces().find((piece) => piece.start >= pieces()[at].end - 0.05);
    position = pieces()[at].end;
    resume = Boolean(next);
    if (next) seek(next.start);
    changed("paused");
  });
  const loop = () => {
    changed();
    if (!element.paused && !element.ended) requestAnimationFrame(loop);
  };
  element.addEventListener("play", () => { changed("playing"); requestAnimationFrame(loop); });
  element.addEventListener("pause", () => { if (at >= 0) position = time(); changed("paused"); });
  for (const kind of ["loadeddata", "seeked", "timeupdate"]) element.addEventListener(kind, () => changed());

  /** Plays from where it stands, unless nothing is to be played there or the browser wants to be asked first. */
  const start = () => {
    if (gap || isBroken()) return;
    resume = element.readyState === 0;
    play();
  };

  return { seek, time, isBroken, start, toggle: () => (element.paused ? play() : element.pause()) };
};
