// An open page that stays true: on every tick it asks for itself and takes in what came, by the same render as a reload.
import { Connection } from "./agentd.js";

const { Idiomorph } = window;
/** With how much patience a page asks again for agents that were slow. */
const PATIENCE_S = 10;
const shownAt = new Map(); // agent -> when it last answered for this page

const connectionLine = document.getElementById("connection");
let wanted = false;
let asking = false;

/** Ask for this page and take it in; one at a time, and once more if something changed meanwhile. */
export async function refresh() {
  wanted = true;
  if (asking) return;
  asking = true;
  try {
    while (wanted) {
      wanted = false;
      const answer = await fetch(location.href, {
        headers: { Accept: "text/html", Prefer: `wait=${PATIENCE_S}` },
        cache: "no-store",
      });
      if (answer.redirected && new URL(answer.url).pathname.endsWith("/login")) return location.assign(answer.url);
      take(new DOMParser().parseFromString(await answer.text(), "text/html"));
      if (!lost) say("");
    }
  } catch {
    say("the viewer does not answer");
  } finally {
    asking = false;
  }
}

function take(page) {
  const main = page.getElementById("main");
  if (!main) return;
  const unknown = new Set([...main.querySelectorAll("[data-unknown]")].map((each) => each.dataset.unknown));
  if (main.hasAttribute("data-whole") || !unknown.size) forget(unknown);
  keepWhatWasKnown(main, unknown);
  Idiomorph.morph(document.getElementById("main"), main, options);
  const status = page.getElementById("status");
  if (status) {
    status.querySelector("#connection")?.replaceWith(connectionLine.cloneNode(true));
    Idiomorph.morph(document.getElementById("status"), status, { morphStyle: "outerHTML" });
  }
  if (page.title) document.title = page.title;
  document.dispatchEvent(new Event("agentd:shown"));
}

const options = {
  morphStyle: "outerHTML",
  ignoreActiveValue: true,
  callbacks: {
    beforeNodeMorphed(old, fresh) {
      if (!(old instanceof Element)) return true;
      if (old.hasAttribute("data-keep") && !old.hasAttribute("data-unlocked")) return false;
      if (old.tagName === "DETAILS" && fresh instanceof Element) fresh.open = old.open;
      if (old.tagName === "DIALOG" && old.open) return false;
      return true;
    },
  },
};

/** Rows of an agent that fell silent stay, greyed and said to be unknown: the answer cannot have them. */
function keepWhatWasKnown(fresh, unknown) {
  if (!unknown.size) return;
  const now = document.getElementById("main");
  if (fresh.hasAttribute("data-nothing") && !now.hasAttribute("data-nothing")) {
    const notices = [...fresh.querySelectorAll("[data-unknown]")];
    fresh.replaceChildren(...notices, ...[...now.cloneNode(true).childNodes].filter((each) => !each.dataset?.unknown));
    for (const each of fresh.children) if (!each.dataset.unknown) age(each);
    return;
  }
  for (const row of now.querySelectorAll("[data-row][data-agent]")) {
    if (!unknown.has(row.dataset.agent) || fresh.querySelector(`#${CSS.escape(row.id)}`)) continue;
    const kept = row.cloneNode(true);
    age(kept);
    const before = row.previousElementSibling && fresh.querySelector(`#${CSS.escape(row.previousElementSibling.id)}`);
    const home = row.closest("[data-rows][id]"); // of a page with a list for each agent
    if (before) before.after(kept);
    else fresh.querySelector(home ? `#${CSS.escape(home.id)}` : "[data-rows]")?.prepend(kept);
  }
}

/** Nothing may be said to run that nobody vouches for. */
function age(element) {
  element.classList.add("stale");
  for (const state of element.querySelectorAll("[data-state]:not([data-was])")) {
    state.dataset.was = state.dataset.state;
    state.dataset.state = "unknown";
    state.className = "state odd";
    state.title = `was ${state.dataset.was} when last heard of`;
    state.textContent = "? unknown";
  }
}

function forget(unknown) {
  for (const name of unknown) shownAt.delete(name);
}

function say(text) {
  const line = document.getElementById("connection");
  if (line && line.textContent !== text) line.textContent = text;
}

let lost = false;
const url = document.body.dataset.live;
if (url) {
  const connection = new Connection(url, ["changed", "agent", "log"]);
  for (const type of ["hello", "agent", "log", "lost"]) {
    const pass = ({ detail }) => document.dispatchEvent(new CustomEvent(`agentd:${type}`, { detail }));
    connection.addEventListener(type, pass); // a page has one stream: what else it tells is for the page's other modules
  }
  connection.addEventListener("changed", refresh);
  connection.addEventListener("hello", refresh);
  connection.addEventListener("lost", (event) => {
    lost = true;
    say(`not live since ${event.detail.since.toLocaleTimeString()}: the viewer does not answer`);
    for (const each of document.querySelectorAll("#main > *")) if (!each.matches("form,h1,.notice")) age(each);
  });
  connection.addEventListener("restored", () => {
    lost = false;
    say("");
  });
}
if (document.querySelector("[data-pending]")) refresh();
