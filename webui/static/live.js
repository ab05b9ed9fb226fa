// An open page that stays true: on every tick it asks for itself and takes in what came, by the same render as a reload.
import { Connection } from "./agentd.js";
import { tally } from "./tally.js";

const { Idiomorph } = window;
/** How long agents that were slow may take when the page asks once more, in seconds: beside all else; holding it up. */
const PATIENCE_S = 10;
const TURN_S = 2;
const SLOW_MS = 400;
/** While something is wrong with the viewer itself, the page asks again after so long. */
const AGAIN_MS = 2000;
const ANSWER_MS = 15_000;
/** Parts of the status line that are the page's own. */
const LINES = ["#connection", "#news"];
/** A page that is costly to make is asked for half of the time at most, but not more seldom than this. */
const REST_MS = 1000;

const heard = new Map(); // agent -> when the page last showed what it said
const silent = new Set(); // agents whose streams are lost: what they still answer may be the last of it, and no tick tells
let lost = null; // since when there is no stream
let failed = null; // since when the viewer does not answer, and how
let losses = 0; // of the stream
let asked = 0; // an answer that was asked for before another was taken in is old
let wanted = false;
let asking = false;
let filling = false;
let patience = 0; // in seconds, with agents that are slow and do answer
let timer = 0;

/** Ask for this page and take it in; one at a time, and once more if something changed meanwhile. */
export async function refresh() {
  wanted = true;
  if (asking) return;
  asking = true;
  while (wanted) {
    wanted = false;
    const began = performance.now();
    const page = await ask(patience);
    if (page) take(page);
    const took = performance.now() - began;
    if (took < SLOW_MS || took > TURN_S * 1000) patience = 0; // all are quick again, or one answers no more
    await new Promise((done) => setTimeout(done, Math.min(took, REST_MS)));
  }
  asking = false;
}

/** Ask with patience for the agents that were slow, while ticks go on to be answered at once. */
async function fillIn() {
  if (filling) return;
  filling = true;
  const before = asked;
  const page = await ask(PATIENCE_S);
  filling = false;
  if (page && asked === before) return take(page);
  const slow = [...document.querySelectorAll("#main [data-reason=slow]")].map((each) => each.dataset.unknown);
  if (!slow.length) return;
  const answered = page?.getElementById("main").dataset.heard.split(" ") ?? [];
  if (slow.some((name) => answered.includes(name))) patience = TURN_S; // what it said is old by now: wait for it
  refresh();
}

/** This page anew; null when there is none to take in, which is then said. */
async function ask(wait) {
  const before = losses;
  const headers = { Accept: "text/html", ...(wait && { Prefer: `wait=${wait}` }) };
  const signal = AbortSignal.timeout(ANSWER_MS);
  try {
    const answer = await fetch(location.href, { headers, signal, cache: "no-store" });
    if (answer.redirected) return void location.assign(answer.url); // to the login
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (losses !== before) return null; // it was true before the stream was lost; nobody says that it still is
    if (page.getElementById("main")) return page;
    fail(page.querySelector("main p")?.textContent ?? `the viewer answered ${answer.status}`);
  } catch {
    fail("the viewer does not answer");
  }
  return null;
}

function fail(why) {
  failed = { since: failed?.since ?? new Date(), why };
  ageAll();
  later();
}

/** Ask again soon, as long as no tick will tell when to. */
function later() {
  tell();
  clearTimeout(timer);
  const doubted = document.getElementById("main").dataset.heard?.split(" ").some((name) => silent.has(name));
  if (lost || failed || doubted) timer = setTimeout(() => document.hidden || refresh(), AGAIN_MS);
}

function tell() {
  const line = document.getElementById("connection");
  const since = failed?.since ?? lost;
  const text = since
    ? `not live since ${since.toLocaleTimeString()}: ${failed?.why ?? `asked again every ${AGAIN_MS / 1000} s`}`
    : "";
  if (line && line.textContent !== text) line.textContent = text;
}

function take(page) {
  asked++;
  failed = null;
  const main = page.getElementById("main");
  tidy(main);
  const unknown = new Set();
  for (const notice of main.querySelectorAll("[data-unknown]")) {
    unknown.add(notice.dataset.unknown);
    sayHeard(notice, heard.get(notice.dataset.unknown));
  }
  note(main);
  if (unknown.size) keepWhatWasKnown(main, unknown);
  // What has the focus keeps its value, which for Idiomorph is also all that is in it: a click into a text focuses main.
  const ignoreActiveValue = document.activeElement?.matches("input, textarea, select") ?? false;
  Idiomorph.morph(document.getElementById("main"), main, { ...options, ignoreActiveValue });
  const status = page.getElementById("status");
  for (const own of LINES) status?.querySelector(own)?.replaceWith(document.querySelector(own).cloneNode(true));
  if (status) Idiomorph.morph(document.getElementById("status"), status, { morphStyle: "outerHTML" });
  document.title = page.title;
  document.dispatchEvent(new Event("agentd:shown"));
  later();
  if (main.hasAttribute("data-pending")) fillIn();
}

/** Rows with nothing between them stay where they are when others come; a row that is moved loses its selection. */
function tidy(main) {
  for (const list of main.querySelectorAll("[data-rows]")) list.replaceChildren(...list.children);
}

/** Remember which agents answered for what is shown. */
function note(main) {
  for (const name of main.dataset.heard?.split(" ") ?? []) heard.set(name, new Date());
}

function sayHeard(notice, at) {
  if (at) notice.append(` Last heard of at ${at.toLocaleTimeString()}: what is grey is from then.`);
}

const options = {
  morphStyle: "outerHTML",
  callbacks: {
    beforeNodeMorphed(old, fresh) {
      if (!(old instanceof Element) || !(fresh instanceof Element)) return true;
      if (old.hasAttribute("data-keep") && !old.hasAttribute("data-unlocked")) return false;
      if (old.tagName === "DETAILS") fresh.open = old.open;
      return !(old.tagName === "DIALOG" && old.open);
    },
  },
};

/** What an agent said before it fell silent stays, greyed and said to be unknown: the answer cannot have it. */
function keepWhatWasKnown(fresh, unknown) {
  const now = document.getElementById("main");
  if (fresh.hasAttribute("data-nothing")) {
    if (now.hasAttribute("data-nothing")) return; // it never knew more
    fresh.removeAttribute("data-nothing");
    const known = [...now.cloneNode(true).children].filter((each) => !each.matches("[data-unknown]"));
    fresh.replaceChildren(...fresh.querySelectorAll("[data-unknown]"), ...known);
    known.forEach(age);
    return;
  }
  for (const row of now.querySelectorAll("[data-row][data-agent]")) {
    if (!unknown.has(row.dataset.agent) || find(fresh, row)) continue;
    const kept = row.cloneNode(true);
    age(kept);
    const before = row.previousElementSibling && find(fresh, row.previousElementSibling);
    if (before) before.after(kept);
    else listOf(row, fresh).prepend(kept);
  }
}

/** The list in an answer that a row belongs to; where nothing was left to list, as it was before, without rows. */
function listOf(row, fresh) {
  const list = row.closest("[data-rows]");
  const found = list.id ? find(fresh, list) : fresh.querySelector("[data-rows]");
  if (found) return found;
  const whole = (list.closest("table") ?? list).cloneNode(true);
  for (const each of whole.querySelectorAll("[data-row]")) each.remove();
  fresh.append(whole);
  return whole.matches("[data-rows]") ? whole : whole.querySelector("[data-rows]");
}

function find(fresh, element) {
  return element.id ? fresh.querySelector(`#${CSS.escape(element.id)}`) : null;
}

/** Nothing may be said to run that nobody vouches for. */
function age(element) {
  if (element.matches("h1, form, .notice, [data-keep]")) return;
  element.classList.add("stale");
  for (const state of element.querySelectorAll("[data-state]")) {
    if (state.dataset.state === "unknown") continue;
    state.setAttribute("title", `was ${state.dataset.state} when last heard of`);
    state.dataset.state = "unknown";
    state.setAttribute("class", "state odd");
    state.textContent = "? unknown";
  }
  for (const each of element.querySelectorAll("[data-passing]")) each.remove();
}

function ageAll() {
  for (const each of document.getElementById("main").children) age(each);
  for (const each of [...document.getElementById("status").childNodes]) if (!LINES.includes(`#${each.id}`)) each.remove();
}

tidy(document.getElementById("main"));
note(document.getElementById("main"));
const url = document.body.dataset.live;
if (url) {
  const connection = new Connection(url, ["changed", "agent", "log"]);
  for (const type of ["hello", "agent", "log", "lost"]) {
    const pass = ({ detail }) => document.dispatchEvent(new CustomEvent(`agentd:${type}`, { detail }));
    connection.addEventListener(type, pass); // a page has one stream: what else it tells is for the page's other modules
  }
  tally(connection, url);
  connection.addEventListener("hello", () => silent.clear());
  connection.addEventListener("agent", ({ detail: { agent, status } }) => {
    if (status === "fresh") silent.delete(agent);
    else silent.add(agent);
  });
  connection.addEventListener("changed", refresh); // told of each agent on every connect: nothing is missed before
  connection.addEventListener("lost", ({ detail }) => {
    lost = detail.since;
    losses++;
    ageAll();
    later();
  });
  connection.addEventListener("restored", () => {
    lost = null;
    refresh();
  });
  // What was shown when the tab was left is old, and no tick has told of it.
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  addEventListener("pageshow", ({ persisted }) => persisted && refresh());
}
if (document.querySelector("#main[data-pending]")) fillIn();
