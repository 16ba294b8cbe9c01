import { boxTrack, drawBoxes } from "/static/boxes.js";
import { ask, byId, clock, day, el, onKeys, setUpHelp, size, toSearch } from "/static/dom.js";
import { makePlayer } from "/static/player.js";
import { recall } from "/static/results.js";
import { makeTimeline } from "/static/timeline.js";
import { makeTranscript } from "/static/transcript.js";

const id = location.pathname.split("/").pop();
const showHelp = setUpHelp();
const FOLLOW_MS = 1000;

const showTitle = (media) => {
  document.title = `${media.name} - Reelflow`;
  byId("name").textContent = media.name;
  const recorded = media.recorded ? `recorded ${day(media.recorded)}` : `analysed ${day(media.created)}`;
  const about = [media.camera, recorded, clock(media.duration), media.size?.join(" × "), media.source];
  byId("about").textContent = about.filter(Boolean).join(" · ");
  byId("notice").hidden = !media.notice;
  byId("notice").textContent = media.notice ?? "";
};

const showFiles = (media) => {
  const link = (text, href, extra) => el("li", {}, el("a", { href, ...extra }, text));
  byId("files").replaceChildren(
    ...media.files.map((file) => el("li", {},
      el("a", { href: file.href, target: file.name === "report.html" ? "_blank" : null }, file.label),
      size(file.bytes) && el("span", { class: "quiet" }, ` ${size(file.bytes)}`))),
    link("Search in this media", `/?media=${media.media_id}`),
    media.runs && /^https?:/.test(media.runs)
      ? link("Runs in Prefect", media.runs, { target: "_blank", rel: "noopener noreferrer" }) : "",
  );
};

/** Tags and captions of the whole and by chunk. Gives a function of the time that marks the chunk. */
const showChunks = (media, seek) => {
  byId("shown").hidden = !(media.tags.length || media.caption || media.chunks.length);
  byId("caption").hidden = !media.caption;
  byId("caption").textContent = media.caption?.text ?? "";
  byId("tags").replaceChildren(...media.tags.map((tag) => el("li", { class: "tag", dir: "auto",
    title: `cosine ${tag.score.toFixed(3)}${tag.probability === null ? "" : `, probability ${tag.probability.toFixed(3)}`}`,
  }, tag.text)));
  const rows = media.chunks.map((chunk) => {
    const row = el("button", { type: "button" }, el("time", {}, clock(chunk.start)), el("span", {},
      chunk.caption && el("span", { dir: "auto" }, chunk.caption),
      el("span", { class: "quiet", dir: "auto" }, chunk.tags.join(", "))));
    row.addEventListener("click", () => seek(chunk.start + 0.001));
    return row;
  });
  byId("chunks").replaceChildren(...rows.map((row) => el("li", {}, row)));
  return (time) => media.chunks.forEach((chunk, at) => {
    if (chunk.start <= time && time < chunk.end) rows[at].setAttribute("aria-current", "true");
    else rows[at].removeAttribute("aria-current");
  });
};

/** Links to the results before and after this one in the last search. Gives a function that goes to one. */
const showAround = (found) => {
  const nav = byId("around");
  nav.hidden = !found;
  if (!found) return () => false;
  const { back, addresses, at } = found;
  const link = (text, to) => (addresses[to] ? el("a", { href: addresses[to] }, text) : el("span", {}, text));
  nav.replaceChildren(el("a", { href: back }, "All results"), link("Previous", at - 1), link("Next", at + 1),
    el("span", {}, `${at + 1} of ${addresses.length}`));
  return (by) => (addresses[at + by] ? location.assign(addresses[at + by]) : false);
};

/** The moment that the address names, in seconds; null where it names none. */
const wanted = () => {
  const given = new URLSearchParams(location.hash.slice(1)).get("t"), time = Number(given);
  return given !== null && Number.isFinite(time) ? Math.max(time, 0) : null;
};

/** The result that this page was opened as; the address goes on with the player, the history's entry keeps it. */
const opened = () => {
  const address = history.state?.opened ?? location.pathname + location.hash;
  history.replaceState({ opened: address }, "");
  return recall(address);
};

/** Gives a function that lets the address follow the player: what is copied from it opens at the same moment. */
const follower = (player) => {
  let timer = 0;
  const note = () => {
    timer = 0;
    const time = player.time(), hash = time > 0 || location.hash ? `#t=${time.toFixed(2)}` : "";
    if (hash !== location.hash) history.replaceState(history.state, "", hash);
  };
  return () => { timer ||= setTimeout(note, FOLLOW_MS); };
};

const pressed = (button, on) => { button.setAttribute("aria-pressed", String(on)); return on; };

const show = (media) => {
  const stage = byId("stage"), screen = byId("screen"), canvas = byId("boxes"), missing = byId("missing");
  const isVideo = media.player.kind === "video";
  const element = el(isVideo ? "video" : "audio", { id: "media", preload: "auto", playsinline: true });
  const boxesAt = boxTrack(media.frames);
  let boxes = true, captions = pressed(byId("show-captions"), !isVideo);
  showTitle(media);
  screen.classList.add(media.player.kind, "ready");
  stage.prepend(element);
  if (media.size) stage.style.aspectRatio = `${media.size[0]} / ${media.size[1]}`;
  byId("length").textContent = `/ ${clock(media.duration)}`;
  for (const name of ["show-boxes", "full"]) byId(name).hidden = !isVideo;
  byId("show-captions").hidden = !media.segments.length;

  let follow = () => "", mark = () => {}, move = () => {};
  const player = makePlayer(element, media.player.choices, media.duration, (state) => draw(state));
  const keepAddress = follower(player);
  const draw = (state) => {
    const time = player.time();
    if (state === "playing" || state === "paused") {
      screen.classList.toggle("playing", state === "playing");
      byId("play").setAttribute("aria-label", state === "playing" ? "Pause" : "Play");
    }
    const gap = state === "gap" || (screen.classList.contains("gap") && !element.hasAttribute("src"));
    screen.classList.toggle("gap", gap);
    screen.classList.toggle("broken", player.isBroken());
    missing.hidden = !gap && !player.isBroken();
    if (gap) missing.textContent = "The source is not playable here, and no clip was kept of this moment.";
    if (player.isBroken()) missing.textContent = "This media cannot be played here. The timeline still shows what was found when.";
    byId("now").textContent = clock(time, true);
    const text = follow(time);
    byId("spoken").textContent = text;
    byId("spoken").hidden = !(captions && text);
    mark(time);
    move(time);
    keepAddress();
    const shape = element.videoWidth ? element.videoWidth / element.videoHeight : undefined;
    if (media.size) drawBoxes(canvas, boxes ? boxesAt(time) : [], media.size, media.classes, shape);
  };
  follow = makeTranscript(media, player.seek);
  mark = showChunks(media, player.seek);
  move = makeTimeline(media, player.seek, player.time);
  showFiles(media);

  const act = {
    play: player.toggle,
    "show-boxes": () => { boxes = pressed(byId("show-boxes"), !boxes); },
    "show-captions": () => { captions = pressed(byId("show-captions"), !captions); },
    mute: () => { element.muted = pressed(byId("mute"), !element.muted); },
    full: () => (document.fullscreenElement ? document.exitFullscreen() : screen.requestFullscreen()),
    speed: () => {
      const rates = [1, 1.5, 2, 0.5];
      element.defaultPlaybackRate = element.playbackRate = rates[(rates.indexOf(element.playbackRate) + 1) % rates.length];
      byId("speed").textContent = `${element.playbackRate}×`;
      byId("speed").setAttribute("aria-label", `Playback speed, ${element.playbackRate} times`);
    },
  };
  const press = (name) => { if (!byId(name).hidden) act[name](); draw(); };
  for (const name of Object.keys(act)) byId(name).addEventListener("click", () => press(name));
  element.addEventListener("click", player.toggle);

  let around = () => false;
  /** Goes to the moment of the address; a moment that was opened from a search plays. */
  const arrive = (isNew) => {
    const found = opened(), time = wanted();
    around = showAround(found);
    player.seek(time ?? 0);
    if (isNew && found && time !== null) player.start();
  };
  const change = (by) => {
    const times = media.scenes.map((scene) => scene.time), now = player.time();
    const next = by > 0 ? times.find((time) => time > now + 0.5 / media.fps) : times.findLast((time) => time < now - 0.5);
    player.seek(next ?? (by > 0 ? media.duration : 0));
  };
  onKeys({
    " ": (event) => (event.target.closest("button, a, summary") ? false : player.toggle()),
    ArrowLeft: () => player.seek(player.time() - 5), ArrowRight: () => player.seek(player.time() + 5),
    ",": () => player.seek(player.time() - 1 / media.fps), ".": () => player.seek(player.time() + 1 / media.fps),
    "[": () => change(-1), "]": () => change(1), j: () => around(1), k: () => around(-1),
    b: () => press("show-boxes"), c: () => press("show-captions"), m: () => press("mute"), f: () => press("full"),
    "/": toSearch, "?": showHelp,
  });
  window.addEventListener("hashchange", () => arrive(!history.state));
  new ResizeObserver(() => draw()).observe(stage);
  arrive(performance.getEntriesByType("navigation")[0]?.type === "navigate");
};

ask(`/api/media/${id}`).then(show).catch((error) => {
  byId("failure").hidden = false;
  byId("failure").textContent = error.message;
}).finally(() => byId("page").setAttribute("aria-busy", "false"));
