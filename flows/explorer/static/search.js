import { ask, byId, clock, day, el, onKeys, setUpHelp, toSearch } from "/static/dom.js";
import { remember } from "/static/results.js";

const WAIT_MS = 250, DRAFT_MS = 1500, PAGE = 24, FILTERS = ["camera", "since", "until", "prefix", "media"];
const KINDS = { speech: "Said", objects: "Seen", tags: "Tagged", scenes: "Shown" };
const form = byId("search"), list = byId("results"), status = byId("status"), more = byId("more");
let running = null, timer = 0, count = PAGE, draft = null;

/** The form as it stands in the address: only what is set. */
const asked = () => {
  const given = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value.trim()) given.append(name, value.trim());
  return given;
};

const fill = () => {
  const given = new URLSearchParams(location.search);
  for (const name of ["q", ...FILTERS]) form.elements[name].value = given.get(name) ?? "";
  for (const box of form.querySelectorAll("[name=kind]")) box.checked = given.getAll("kind").includes(box.value);
  if (FILTERS.some((name) => given.get(name))) showFilters(true);
};

const showFilters = (shown) => {
  byId("filters").hidden = !shown;
  byId("toggle").setAttribute("aria-expanded", String(shown));
};

const countFilters = () => {
  const set = FILTERS.filter((name) => form.elements[name].value.trim()).length;
  byId("active").textContent = set ? ` ${set}` : "";
  byId("toggle").classList.toggle("on", set > 0);
};

/** A result: `badge` over its picture, what it is, and two quiet lines about it. */
const card = (address, picture, badge, text, label, about, also, title) =>
  el("li", {}, el("a", { class: "card", href: address, title },
    el("span", { class: "shot" },
      el("img", { src: picture || "/static/nothing.svg", alt: "", loading: "lazy", decoding: "async" }),
      el("span", { class: "badge" }, badge)),
    el("span", { class: "words" },
      el("span", { class: "why", dir: "auto" }, text),
      el("span", { class: "of" }, label && el("span", { class: "tag" }, label), el("bdi", {}, about)),
      el("span", { class: "of" }, el("bdi", {}, also)))));

const place = (item) => [item.camera, day(item.recorded || item.created)].filter(Boolean).join(" · ");

const momentCard = (moment) => card(
  `/media/${moment.media_id}#t=${moment.start.toFixed(2)}`, moment.picture,
  moment.end - moment.start >= 1 ? `${clock(moment.start)} – ${clock(moment.end)}` : clock(moment.start),
  moment.why, KINDS[moment.kind], moment.name, place(moment), moment.source,
);

const mediaCard = (media) => {
  const spoken = media.segments ? `${media.segments.toLocaleString()} ${media.segments === 1 ? "line" : "lines"}` : null;
  return card(
    `/media/${media.media_id}`, media.picture, clock(media.duration), media.name, media.demonstration ? "demo" : null,
    place(media), [spoken, ...media.classes].filter(Boolean).join(", "), media.source,
  );
};

const tell = (text, bad = false) => {
  status.textContent = text;
  status.classList.toggle("bad", bad);
};

const nothing = (searched) => el("li", { class: "empty" }, searched
  ? "Nothing found. Try fewer words, or take a filter away."
  : "No media here yet. Analyse one: python -m flows analyze FILE");

/**
 * Puts a search into the address, as an entry of the history that Back leads to. What is typed on at once, letter by
 * letter, takes the place of the entry before; `kind` is typed, chosen (a filter, Enter) or same (Back, a reload).
 */
const enter = (back, text, kind) => {
  const now = performance.now();
  const isTypedOn = kind === "typed" && draft && now - draft.at < DRAFT_MS
    && (text.startsWith(draft.text) || draft.text.startsWith(text));
  if (kind === "same" || isTypedOn) history.replaceState(null, "", back);
  else if (back !== location.pathname + location.search) history.pushState(null, "", back);
  draft = kind === "typed" ? { text, at: now } : null;
};

const look = async (kind) => {
  running?.abort();
  running = new AbortController();
  const { signal } = running, given = asked(), text = given.get("q");
  const back = given.size ? `/?${given}` : "/";
  enter(back, text ?? "", kind);
  countFilters();
  list.setAttribute("aria-busy", "true");
  const query = new URLSearchParams(given);
  query.set("limit", String(count));
  try {
    const found = await ask(`/api/${text ? "search" : "media"}?${query}`, signal);
    const items = text ? found.moments : found.media;
    byId("heading").textContent = text ? "Moments" : "Newest media";
    list.replaceChildren(...(items.length ? items.map(text ? momentCard : mediaCard) : [nothing(given.size)]));
    remember(back, [...list.querySelectorAll("a.card")].map((link) => link.getAttribute("href")));
    if (text) tell(`${items.length}${found.more ? "+" : ""} in ${Math.max(1, Math.round(found.seconds * 1000))} ms`);
    else tell("");
    if (found.cameras) byId("cameras").replaceChildren(...found.cameras.map((name) => el("option", { value: name })));
    more.hidden = !found.more;
  } catch (error) {
    if (error.name === "AbortError") return;
    list.replaceChildren();
    more.hidden = true;
    tell(error.message, true);
  }
  list.setAttribute("aria-busy", "false");
};

const soon = (wait, kind = "chosen") => {
  clearTimeout(timer);
  count = PAGE;
  timer = setTimeout(look, wait, kind);
};

const step = (by) => {
  const links = [...list.querySelectorAll("a.card")];
  const at = links.indexOf(document.activeElement);
  const next = links[at < 0 ? (by > 0 ? 0 : links.length - 1) : at + by];
  if (next) { next.focus(); next.scrollIntoView({ block: "nearest" }); }
};

form.addEventListener("submit", (event) => { event.preventDefault(); soon(0); });
form.addEventListener("input", (event) => (event.target.type === "checkbox" ? soon(0) : soon(WAIT_MS, "typed")));
byId("q").addEventListener("keydown", (event) => {
  if (event.key === "Escape" || event.key === "ArrowDown") {
    event.preventDefault();
    byId("q").blur();
    if (event.key === "ArrowDown") step(1);
  }
});
byId("toggle").addEventListener("click", () => showFilters(byId("filters").hidden));
byId("clear").addEventListener("click", () => {
  for (const name of FILTERS) form.elements[name].value = "";
  soon(0);
});
more.addEventListener("click", async () => {
  const first = list.children.length;
  count += PAGE;
  await look("same");
  list.children[first]?.querySelector("a")?.focus();
});
window.addEventListener("popstate", () => { fill(); soon(0, "same"); });
onKeys({ "/": toSearch, j: () => step(1), k: () => step(-1), "?": setUpHelp() });

fill();
look("same");
if (!location.search && matchMedia("(hover: hover)").matches) byId("q").focus();
