// Forms: sent once, asked about where they are, filled from a file; commands to copy. Without this script all of it works by pages.
/** After so long a form may be sent again: the sending was given up. */
const ONCE_MS = 10_000;
let sent = new WeakSet();

document.documentElement.classList.add("scripted");

addEventListener("pageshow", () => {
  sent = new WeakSet();
});

addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || !form.matches("[data-once]")) return;
  if (sent.has(form)) return event.preventDefault();
  sent.add(form);
  setTimeout(() => sent.delete(form), ONCE_MS);
});

addEventListener("click", (event) => {
  const link = event.target.closest("a[data-ask], a[data-close], [data-copy]");
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const dialog = link.closest("dialog");
  if (link.matches("[data-copy]")) copy(link);
  else if (link.matches("[data-ask]")) ask(link).catch(() => location.assign(link.href));
  else if (dialog) dialog.close();
  else return;
  event.preventDefault();
});

addEventListener("change", async ({ target }) => {
  const file = target.matches?.("[data-fills]") && target.files[0];
  if (file) document.getElementById(target.dataset.fills).value = await file.text();
});

/** Show the page that a link leads to, a form, as a dialog over this one, which stays live. */
async function ask(link) {
  const answer = await fetch(link.href, { headers: { Accept: "text/html", Prefer: "wait=3" }, cache: "no-store" });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const asked = page.getElementById("main");
  if (!answer.ok || answer.redirected || !asked?.querySelector("form")) return location.assign(link.href);
  const dialog = document.createElement("dialog");
  const title = document.createElement("h2"); // the page has its h1
  title.id = "asked";
  title.append(...asked.querySelector("h1").childNodes);
  asked.querySelector("h1").replaceWith(title);
  dialog.setAttribute("aria-labelledby", title.id);
  dialog.append(...asked.childNodes);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/** Copy the command before a button; where the clipboard is closed to pages, as it is without TLS, select it. */
async function copy(button) {
  const text = button.previousElementSibling;
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(text);
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}
