import { ask, byId, el, onKeys, setUpHelp } from "/static/dom.js";
import { remember } from "/static/results.js";

const FIELDS = ["show", "camera", "day", "zone"], HERE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
const STATES = { open: "waiting", held: "held", sent: "sent", failed: "failed", dropped: "dropped", cooldown: "not sent" };
const NOTHING = {
  alerts: ["No alerts yet. Write down what is to be told, and have it looked for in the recordings of a camera:",
    "python -m flows alerts --help", "python -m flows alerts run RECORDINGS --rules rules.yaml"],
  visits: ["No visits yet. They are what the windows of a camera show, once they are analysed and followed:",
    "python -m flows backfill RECORDINGS", "python -m flows alerts run RECORDINGS --rules rules.yaml"],
};
const form = byId("asked"), results = byId("results"), status = byId("status"), more = byId("more");
let running = null, after = null, timer = 0;

/** The form as it stands in the address: only what differs from how the page opens. */
const asked = () => {
  const given = new URLSearchParams();
  for (const name of FIELDS) {
    const value = form.elements[name].value.trim();
    if (value && !(name === "show" && value === "alerts")) given.set(name, value);
  }
  return given;
};

const fill = () => {
  const given = new URLSearchParams(location.search);
  offer([given.get("camera") ?? ""]);
  for (const name of FIELDS) form.elements[name].value = given.get(name) ?? (name === "show" ? "alerts" : "");
  if (!form.elements.show.value) form.elements.show.value = "alerts";
};

/** The cameras to choose from; the chosen one stays, whether it is there or not. */
const offer = (names) => {
  const select = form.elements.camera, chosen = select.value;
  const all = [...new Set([...names, chosen])].filter(Boolean).sort();
  select.replaceChildren(el("option", { value: "" }, "all"), ...all.map((name) => el("option", { value: name }, name)));
  select.value = chosen;
};

const lasting = (seconds) => {
  const s = Math.round(seconds), two = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} min`;
};

const delivery = (row) => {
  const tries = row.state !== "sent" && row.tries > 1 ? `after ${row.tries} tries` : null;
  const when = row.state === "sent" ? row.time : null;
  return el("span", { class: `told ${row.state}` }, el("b", {}, el("bdi", {}, row.target)),
    ` ${[STATES[row.state] ?? row.state, tries, when].filter(Boolean).join(" ")}`,
    row.why && el("span", {}, ": ", el("bdi", {}, row.why)));
};

const told = (rows) => {
  if (rows === null) return el("span", { class: "told failed" }, "The ledger of messages cannot be read.");
  return rows.length ? el("span", { class: "all-told" }, ...rows.map(delivery)) : el("span", { class: "told" }, "nobody is told");
};

/** A link where a media shows it, else a card that leads nowhere. */
const card = (item, title, about, last) =>
  el("li", {}, el(item.href ? "a" : "div", { class: "card", href: item.href },
    el("span", { class: "shot" },
      el("img", { src: item.picture || "/static/nothing.svg", alt: "", loading: "lazy", decoding: "async" }),
      el("span", { class: "badge" }, item.time)),
    el("span", { class: "words" },
      el("span", { class: "why", dir: "auto" }, title),
      el("span", { class: "told" }, about && el("bdi", {}, about), about && " · ", el("bdi", {}, item.camera)),
      last)));

const make = {
  alerts: (item) => card(item, item.rule, item.why, told(item.deliveries)),
  visits: (item) => card(item, item.class, null, el("span", { class: "told" }, item.lasts
    ? `${lasting(item.dwell)} so far`
    : `${lasting(item.dwell)}, until ${item.end_day === item.day ? "" : `${item.end_day} `}${item.end_time}`)),
};

const heading = (day) =>
  new Date(`${day}T00:00:00Z`).toLocaleDateString(undefined, { dateStyle: "full", timeZone: "UTC" });

/** Adds what was found below what is shown, under a heading for each day. */
const append = (items, kind) => {
  for (const item of items) {
    let group = results.lastElementChild;
    if (group?.dataset.day !== item.day) {
      group = el("section", { "data-day": item.day }, el("h2", {}, heading(item.day)), el("ol", { class: "results" }));
      results.append(group);
    }
    group.lastElementChild.append(make[kind](item));
  }
};

const nothing = (kind, narrowed) => {
  if (narrowed) return el("p", { class: "empty" }, `No ${kind} of this camera and day. Take a filter away.`);
  const [text, ...commands] = NOTHING[kind];
  return el("div", { class: "empty" }, el("p", {}, text), ...commands.map((line) => el("pre", {}, el("code", {}, line))));
};

const tell = (text, bad = false) => {
  status.textContent = text;
  status.classList.toggle("bad", bad);
};

/** Shows what the form asks for; `older` adds to it. `kind` is chosen (a new entry of the history) or same. */
const look = async (entry, older = false) => {
  running?.abort();
  running = new AbortController();
  const { signal } = running, given = asked(), show = form.elements.show.value;
  const back = given.size ? `/alerts?${given}` : "/alerts";
  if (entry === "chosen" && back !== location.pathname + location.search) history.pushState(null, "", back);
  results.setAttribute("aria-busy", "true");
  const query = new URLSearchParams(given);
  query.delete("show");
  if (!given.has("zone")) query.set("zone", HERE);
  if (older) query.set("after", after);
  try {
    const found = await ask(`/api/${show}?${query}`, signal);
    if (!older) results.replaceChildren();
    append(found.items, show);
    if (!results.children.length) results.append(nothing(show, given.has("camera") || given.has("day")));
    offer(found.cameras);
    form.elements.zone.placeholder = found.zone;
    remember(back, [...results.querySelectorAll("a.card")].map((link) => link.getAttribute("href")));
    tell(found.cut ? `A day has more than ${found.most.toLocaleString()}: of it those that were written last are shown. Choose a camera.` : "");
    after = found.after;
    more.hidden = !after;
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!older) results.replaceChildren();
    more.hidden = true;
    tell(error.message, true);
  }
  results.setAttribute("aria-busy", "false");
};

const soon = (wait) => {
  clearTimeout(timer);
  timer = setTimeout(look, wait, "chosen");
};

const step = (by) => {
  const links = [...results.querySelectorAll("a.card")], at = links.indexOf(document.activeElement);
  const next = links[at < 0 ? (by > 0 ? 0 : links.length - 1) : at + by];
  if (next) { next.focus(); next.scrollIntoView({ block: "nearest" }); }
};

form.addEventListener("submit", (event) => { event.preventDefault(); soon(0); });
form.addEventListener("change", () => soon(0));
byId("clear").addEventListener("click", () => {
  for (const name of ["camera", "day", "zone"]) form.elements[name].value = "";
  soon(0);
});
more.addEventListener("click", async () => {
  const shown = results.querySelectorAll("li").length;
  await look("same", true);
  results.querySelectorAll("li")[shown]?.querySelector("a")?.focus();
});
window.addEventListener("popstate", () => { fill(); look("same"); });
onKeys({ j: () => step(1), k: () => step(-1), "?": setUpHelp() });

form.elements.zone.placeholder = HERE;
fill();
look("same");
