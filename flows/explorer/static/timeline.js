import { byId, clamp, clock, el } from "/static/dom.js";

const bars = (found, attributes) => found.map(([x, width, weight]) => el("svg:rect", {
  x: `${x}%`, width: `${width}%`, height: "100%", ...attributes, opacity: weight === 1 ? null : weight,
}));

const swatch = (color) => el("svg:svg", { class: "swatch", width: 10, height: 10, "aria-hidden": "true" },
  el("svg:rect", { width: 10, height: 10, rx: 3, fill: color }));

const lane = (label, title, shapes, color = null) => el("div", { class: "lane" },
  el("span", { title: label }, color && swatch(color), el("bdi", {}, label)),
  el("svg:svg", { class: "track", role: "img", "aria-label": title }, el("svg:title", {}, title), ...shapes));

/** Lanes for speech, object classes and scene changes. */
const lanes = (media) => {
  const made = [el("div", { class: "lane axis" }, el("span"), el("svg:svg", { class: "track", "aria-hidden": "true" },
    ...media.timeline.ticks.map(([at, label]) => el("svg:text", { x: `${at}%`, y: 13 }, label))))];
  if (media.scenes.length) {
    const changes = media.scenes.map(({ time, method }) => el("svg:rect", {
      class: method, x: `${(100 * time) / media.duration}%`, width: 2, y: method === "shot" ? 0 : "50%", height: "50%",
    }));
    made.push(lane("Scenes", `${media.scenes.length} scene changes: cuts above, changes of content below`, changes));
  }
  if (media.segments.length) {
    const spoken = bars(media.timeline.speech, { class: "speech" });
    made.push(lane("Speech", `${media.segments.length} segments of speech`, spoken));
  }
  media.timeline.objects.forEach((found, at) => {
    const { name, color } = media.classes[at];
    made.push(lane(name, `${name} over time`, bars(found, { fill: color }), color));
  });
  return made;
};

/** Fills the timeline and lets it be dragged. Gives a function that moves its head. */
export const makeTimeline = (media, seek, time) => {
  const timeline = byId("timeline"), head = timeline.querySelector(".head");
  head.before(...lanes(media));
  timeline.setAttribute("aria-valuemax", media.duration.toFixed(1));
  const point = (event) => {
    const box = head.lastElementChild.getBoundingClientRect();
    seek(clamp((event.clientX - box.left) / box.width, 0, 1) * media.duration);
  };
  timeline.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    timeline.setPointerCapture(event.pointerId);
    point(event);
  });
  timeline.addEventListener("pointermove", (event) => { if (event.buttons & 1) point(event); });
  timeline.addEventListener("keydown", (event) => {
    const to = { ArrowDown: time() - 5, ArrowUp: time() + 5, Home: 0, End: media.duration }[event.key];
    if (to === undefined) return;
    seek(to);
    event.preventDefault();
  });
  return (seconds) => {
    byId("playhead").style.left = `${clamp((100 * seconds) / Math.max(media.duration, 1e-9), 0, 100)}%`;
    timeline.setAttribute("aria-valuenow", seconds.toFixed(1));
    timeline.setAttribute("aria-valuetext", clock(seconds));
  };
};
