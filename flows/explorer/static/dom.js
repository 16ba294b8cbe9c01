/** What both pages need: elements made of text, times, and the server's answers. */

export const byId = (id) => document.getElementById(id);

/**
 * An element with these attributes (`class`, `href`, `data-...`; true for one without a value) and children. Strings
 * become text: nothing that comes from a media is ever read as markup.
 */
export const el = (tag, attributes = {}, ...children) => {
  const made = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
};

export const clock = (seconds, tenths = false) => {
  const steps = tenths ? Math.round(seconds * 10) : Math.floor(seconds) * 10;
  const s = Math.floor(steps / 10) % 60, m = Math.floor(steps / 600) % 60, h = Math.floor(steps / 36000);
  const two = (n) => String(n).padStart(2, "0");
  return (h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`) + (tenths ? `.${steps % 10}` : "");
};

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Index of the last element that is at most `value`, -1 when there is none. */
export const before = (sorted, value) => {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle + 1; else high = middle;
  }
  return low - 1;
};

export const day = (iso) => (iso ? new Date(iso).toLocaleDateString(undefined, { dateStyle: "medium" }) : null);

export const size = (bytes) => {
  if (typeof bytes !== "number") return null;
  for (const unit of ["bytes", "kB", "MB"]) {
    if (bytes < 1000) return `${unit === "bytes" ? bytes : bytes.toFixed(1)} ${unit}`;
    bytes /= 1000;
  }
  return `${bytes.toFixed(1)} GB`;
};

/** The server's answer as data. Throws an Error whose message can be shown. */
export const ask = async (address, signal) => {
  let answer;
  try {
    answer = await fetch(address, { signal, headers: { accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The explorer does not answer; is it still running?");
  }
  if (answer.status === 401) throw new Error("This explorer needs its token; open the address that it printed.");
  const data = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(data.error || `The explorer answered ${answer.status}.`);
  return data;
};

/** Keys by name; they do nothing while something is typed, a dialog is open or a modifier is held. */
export const onKeys = (keys) => {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, textarea, select")) return;
    const act = keys[event.key];
    if (act && act(event) !== false) event.preventDefault();
  });
};

export const setUpHelp = () => {
  const help = byId("help");
  for (const button of document.querySelectorAll("[data-help]")) button.addEventListener("click", () => help.showModal());
  help.addEventListener("click", (event) => { if (event.target === help) help.close(); });
  return () => help.showModal();
};

/** The search box has the focus, with what it holds selected. */
export const toSearch = () => { byId("q").focus(); byId("q").select(); };
