// The keyboard: / searches, j and k walk the rows, Enter opens one, ? tells. Keys of a log are log.js's.
const typing = (element) => element.closest("input, textarea, select, [contenteditable]");
const rows = () => [...document.querySelectorAll("#main [data-row]")];
const help = document.getElementById("keys-help");
let here = null; // the id of the row, so that it stays the same when rows come and go

function mark() {
  for (const row of rows()) row.classList.toggle("here", row.id === here);
}

function walk(step) {
  const all = rows();
  const at = all.findIndex((row) => row.id === here);
  const row = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + step, 0), all.length - 1)];
  if (!row) return;
  here = row.id;
  mark();
  row.scrollIntoView({ block: "nearest" });
  row.querySelector("[data-go]")?.focus({ preventScroll: true });
}

const KEYS = {
  "/": () => {
    const field = document.querySelector("[data-search]");
    field?.focus();
    field?.select?.();
    return Boolean(field);
  },
  j: () => walk(1),
  k: () => walk(-1),
  "?": () => help?.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Escape" && typing(event.target)) {
    event.preventDefault(); // else the browser empties a search
    return event.target.blur();
  }
  if (typing(event.target) || help?.open) return;
  if (event.key === "Enter" && here && event.target === document.body) {
    document.getElementById(here)?.querySelector("[data-go]")?.click();
    return;
  }
  const act = KEYS[event.key];
  if (act && act() !== false) event.preventDefault();
});
document.addEventListener("agentd:shown", mark);
document.getElementById("keys")?.addEventListener("click", () => help?.showModal());
