import { before, byId, clock, el } from "/static/dom.js";

/** Fills the transcript. Gives a function of the time that marks the line that is said then and returns its text. */
export const makeTranscript = (media, seek) => {
  const list = byId("segments"), find = byId("find"), none = byId("none");
  const starts = media.segments.map((segment) => segment.start);
  const lines = media.segments.map((segment) => el("button", { type: "button" },
    el("time", {}, clock(segment.start)), el("span", { dir: "auto" }, segment.text)));
  let current = -1, wantedAt = 0;
  byId("language").textContent = media.language ?? "";
  list.replaceChildren(...lines.map((line) => el("li", {}, line)));
  lines.forEach((line, at) => line.addEventListener("click", () => seek(starts[at] + 0.001)));
  none.hidden = lines.length > 0;
  none.textContent = media.silence ? `Nothing was said: ${media.silence}.` : "";
  find.hidden = lines.length < 4;
  find.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase();
    for (const line of lines) line.parentElement.hidden = !line.lastElementChild.textContent.toLowerCase().includes(wanted);
    none.textContent = "No segment has these words.";
    none.hidden = lines.some((line) => !line.parentElement.hidden);
  });
  for (const kind of ["wheel", "touchmove"]) {
    list.addEventListener(kind, () => { wantedAt = performance.now() + 4000; }, { passive: true });
  }
  list.addEventListener("keydown", (event) => {
    const move = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!move) return;
    let next = lines.indexOf(event.target.closest("button")) + move;
    while (lines[next]?.parentElement.hidden) next += move;
    lines[next]?.focus();
    event.preventDefault();
  });

  return (time) => {
    const at = before(starts, time + 0.001);
    const found = at >= 0 && time < Math.max(media.segments[at].end, starts[at] + 0.2) ? at : -1;
    if (found !== current) {
      lines[current]?.removeAttribute("aria-current");
      current = found;
      lines[found]?.setAttribute("aria-current", "true");
      const row = lines[found]?.parentElement;
      if (row && performance.now() >= wantedAt) {
        list.scrollTop = row.offsetTop - list.clientHeight / 2 + row.offsetHeight / 2;
      }
    }
    return found < 0 ? "" : media.segments[found].text;
  };
};
