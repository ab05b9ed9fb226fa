// The log of a task: a window of its lines, however long it is. The server makes the rows; this places and follows them.
const CHUNK = 200; // lines asked for at a time
const KEPT = 40; // chunks kept
const PLAIN_LINES = 2000; // up to here all rows are in the page, and find and select work
const PLAIN_BYTES = 1 << 20;
const SPAN = 600_000; // lines that the scroll bar spans: browsers cap its height
const MARGIN = 2000; // lines from an end of the span at which it moves on
const MOST_NODES = 900;
const COPY_BYTES = 8 << 20;
const RETRY_MS = 1000;

const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
const typing = (element) => element.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]");

class LogView {
  constructor(root) {
    const { dataset } = root;
    this.root = root;
    this.url = dataset.url;
    this.attempt = Number(dataset.attempt) || 1;
    this.total = Number(dataset.total);
    this.size = Number(dataset.size);
    this.ended = "ended" in dataset;
    this.box = root.querySelector(".lines");
    this.set = this.box.querySelector(".set");
    this.above = document.createElement("div");
    this.below = document.createElement("div");
    this.set.before(this.above);
    this.set.after(this.below);
    this.chunks = new Map(); // number -> { rows, open, size, asked }
    this.loading = new Map(); // number -> { abort, done }
    this.base = 0; // lines before the span
    this.around = 40; // rows beyond what is seen
    this.marked = null; // the first and last line that the address names
    this.search = null;
    this.pausedAt = this.total;
    for (const row of [...this.set.children]) this.#put(row);
    this.#tail(this.total, this.size);
    this.#measure();
    this.#listen();
    this.#begin();
  }

  get plain() {
    return this.total <= PLAIN_LINES && this.size <= PLAIN_BYTES;
  }

  /** The number of the line at the top. */
  get top() {
    return this.base + Math.floor(this.box.scrollTop / this.height + 0.5) + 1;
  }

  get seen() {
    return Math.ceil(this.box.clientHeight / this.height);
  }

  #begin() {
    const { searchParams } = new URL(location);
    for (const each of this.root.querySelectorAll("[data-script]")) each.hidden = false;
    for (const each of this.root.querySelectorAll("[data-no-script]")) each.hidden = true;
    const line = Number(searchParams.get("line"));
    const given = searchParams.get("follow");
    this.follow = given === "1" || (given !== "0" && !line && !place(location.hash));
    this.#lay();
    if (given === "1" || !this.#toHash()) {
      if (line && !this.follow) this.go(line < 0 ? this.total + line + 1 : line, 0);
      else this.end();
    }
    const q = this.form.elements.q.value;
    if (q) this.find(q, true);
  }

  // --- rows

  #put(row) {
    const number = Number(row.id.slice(1));
    const chunk = this.#chunk(Math.floor((number - 1) / CHUNK));
    const at = (number - 1) % CHUNK;
    if (!chunk.rows[at] || number >= chunk.open) chunk.rows[at] = row; // a line that had ended stays the row it is
  }

  #chunk(k) {
    const chunk = this.chunks.get(k) ?? { rows: new Array(CHUNK), open: Infinity, size: 0, asked: "" };
    this.chunks.delete(k);
    this.chunks.set(k, chunk); // the latest used are last
    return chunk;
  }

  /** The last line of the log may go on: what was read of it is of that size of the log. */
  #tail(total, size) {
    const chunk = this.chunks.get(Math.floor((total - 1) / CHUNK));
    if (chunk) [chunk.open, chunk.size] = [total, size];
  }

  #wants(k, total, size) {
    const chunk = this.chunks.get(k);
    if (!chunk) return true;
    if (chunk.open <= (k + 1) * CHUNK && chunk.size !== size) return true;
    const last = Math.min(CHUNK, total - k * CHUNK);
    for (let i = 0; i < last; i++) if (!chunk.rows[i]) return true;
    return false;
  }

  #load(k) {
    if (!this.loading.has(k)) {
      const abort = new AbortController();
      this.loading.set(k, { abort, done: this.#fetch(k, abort.signal).finally(() => this.loading.delete(k)) });
    }
    return this.loading.get(k).done;
  }

  /** Whether it worked. */
  async #fetch(k, signal) {
    const chunk = this.#chunk(k);
    try {
      const address = this.#address("lines", { line: k * CHUNK + 1, count: CHUNK });
      const answer = await fetch(address, { headers: { Accept: "text/html" }, cache: "no-store", signal });
      if (!answer.ok) throw new Error(answer.status);
      const template = document.createElement("template");
      template.innerHTML = await answer.text();
      const set = template.content.firstElementChild;
      for (const row of [...set.children]) this.#put(row);
      this.#tail(Number(set.dataset.total), Number(set.dataset.size));
      this.#note("lines", "");
      return true;
    } catch {
      if (signal.aborted) {
        chunk.asked = "";
        return false;
      }
      this.#note("lines", "Some lines could not be read; trying again.");
      clearTimeout(this.retry);
      this.retry = setTimeout(() => {
        for (const each of this.chunks.values()) each.asked = "";
        this.#soon();
      }, RETRY_MS);
      return false;
    }
  }

  #address(what, more = {}) {
    const { stream, ts } = this.root.dataset;
    const parameters = new URLSearchParams({ attempt: this.attempt, ...(stream && { stream }), ...(ts && { ts }), ...more });
    return `${this.url}/${what}?${parameters}`;
  }

  // --- the window

  #measure() {
    const probe = document.createElement("div");
    probe.className = "ln";
    this.set.append(probe);
    this.height = probe.getBoundingClientRect().height;
    probe.remove();
  }

  get spanEnd() {
    return Math.min(this.total, this.base + SPAN);
  }

  /** Give the whole span its height; rows come with `show`. */
  #lay() {
    this.set.replaceChildren();
    this.to = this.base;
    this.above.style.height = "0";
    this.#room();
  }

  #room() {
    this.below.style.height = `${Math.max(0, this.spanEnd - this.to) * this.height}px`;
  }

  /** Move the span if a line is too near to an end of it; by how many lines. */
  #rebase(line) {
    const before = this.base;
    const end = before + SPAN;
    if ((before && line - before < MARGIN) || (end < this.total && end - line < MARGIN)) {
      this.base = Math.max(0, line - SPAN / 2);
    }
    return before - this.base;
  }

  /** Put the rows in the page that can be seen, and ask for those that are not there yet. */
  show() {
    const moved = this.#rebase(this.top);
    if (moved) {
      const to = this.box.scrollTop + moved * this.height;
      this.#lay();
      this.#scroll(to);
    }
    const top = this.base + Math.floor(this.box.scrollTop / this.height);
    const from = this.plain ? 0 : Math.max(this.base, top - this.around);
    const to = this.plain ? this.total : Math.min(this.spanEnd, top + this.seen + this.around);
    const rows = [];
    for (let line = from, gap = 0; line <= to; line++) {
      const row = line < to ? this.chunks.get(Math.floor(line / CHUNK))?.rows[line % CHUNK] : null;
      if (!row && line < to) {
        gap++;
        continue;
      }
      if (gap) {
        const empty = document.createElement("div");
        empty.style.height = `${gap * this.height}px`;
        rows.push(empty);
      }
      gap = 0;
      if (row) rows.push(row);
    }
    this.above.style.height = `${(from - this.base) * this.height}px`;
    this.to = to;
    this.#room();
    this.#place(rows);
    this.#ask(from, to);
    this.#paint();
  }

  /** Change only what differs: a selection in rows that stay stays. */
  #place(rows) {
    const wanted = new Set(rows);
    for (const row of [...this.set.children]) if (!wanted.has(row)) row.remove();
    let at = this.set.firstElementChild;
    for (const row of rows) {
      if (row === at) at = at.nextElementSibling;
      else this.set.insertBefore(row, at);
    }
    if (!this.plain && this.around > 8 && this.set.getElementsByTagName("*").length > MOST_NODES) this.around >>= 1;
  }

  #ask(from, to) {
    const ahead = this.plain ? 0 : CHUNK / 2;
    const first = Math.floor(Math.max(0, from - ahead) / CHUNK);
    const last = Math.floor((Math.min(this.total, to + ahead) - 1) / CHUNK);
    for (const [k, { abort }] of this.loading) if ((k < first || k > last) && !this.growing) abort.abort();
    const asked = `${this.total} ${this.size}`;
    for (let k = first; k <= last; k++) {
      const chunk = this.#chunk(k);
      if (chunk.asked === asked || !this.#wants(k, this.total, this.size)) continue;
      chunk.asked = asked; // once: it may give fewer lines than it says
      this.#load(k).then(() => this.#soon());
    }
    for (const k of this.chunks.keys()) {
      if (this.chunks.size <= Math.max(KEPT, last - first + 1)) break;
      this.chunks.delete(k);
    }
  }

  #soon() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.show();
    });
  }

  #scroll(to) {
    this.box.scrollTop = to;
    this.last = this.box.scrollTop;
  }

  /** Show a line, by default a quarter from the top. */
  go(line, share = 0.25) {
    this.pause();
    line = Math.max(1, Math.min(line, this.total));
    this.#rebase(line);
    this.#lay();
    this.#scroll((line - 1 - this.base) * this.height - this.box.clientHeight * share);
    this.show();
    this.#remember();
  }

  end() {
    this.#rebase(this.total);
    this.#lay();
    this.#scroll(this.box.scrollHeight);
    this.show();
    this.#say();
  }

  // --- follow and pause

  pause() {
    if (!this.follow) return;
    this.follow = false;
    this.#remember();
    this.#say();
  }

  resume() {
    this.follow = true;
    this.end();
    this.#write({ follow: location.hash ? "1" : null, line: null });
  }

  /** The log has grown: the lines first, then the room for them, so that nothing flickers. */
  async grow(now) {
    this.latest = now;
    if (this.growing) return;
    this.growing = true;
    try {
      while (this.latest) {
        const { attempt, lines, size, ended } = this.latest;
        this.latest = null;
        if (attempt !== this.attempt) {
          this.#other(attempt);
          continue;
        }
        if (size < this.size) this.chunks.clear(); // it is another log than it was
        if (this.follow && !(await this.#loadEnd(lines, size)) && this.follow) {
          this.latest ??= { attempt, lines, size, ended }; // what is in sight stays until they are there
          clearTimeout(this.again);
          this.again = setTimeout(() => this.latest && this.grow(this.latest), RETRY_MS);
          return;
        }
        [this.total, this.size, this.ended] = [lines, size, ended];
        if (this.follow) {
          if (this.#rebase(this.total)) this.#lay();
          else this.#room();
          this.#scroll(this.box.scrollHeight);
        }
        this.show();
        this.#say();
      }
    } finally {
      this.growing = false;
    }
  }

  /** Whether they could all be read. */
  async #loadEnd(lines, size) {
    const first = this.plain && lines <= PLAIN_LINES ? this.total : lines - this.seen - 1;
    const asked = [];
    for (let k = Math.floor(Math.max(0, first) / CHUNK); k * CHUNK < lines; k++) {
      if (this.#wants(k, lines, size)) asked.push(this.#load(k));
    }
    return (await Promise.all(asked)).every(Boolean);
  }

  #other(attempt) {
    if (attempt < this.attempt) return;
    const there = new URL(location);
    for (const name of ["line", "follow"]) there.searchParams.delete(name);
    there.searchParams.set("attempt", attempt);
    there.hash = "";
    if (this.follow && "whole" in this.root.dataset && !new URL(location).searchParams.has("attempt")) {
      there.searchParams.delete("attempt");
      location.replace(there);
      return;
    }
    this.#note("attempt", `Attempt ${attempt} has begun.`, there.href);
  }

  // --- the address

  #write(changes) {
    const url = new URL(location);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null) url.searchParams.delete(name);
      else url.searchParams.set(name, value);
    }
    if (url.href !== location.href) history.replaceState(history.state, "", url);
    for (const link of this.root.querySelectorAll("a[data-same]")) {
      const to = new URL(link.href);
      for (const name of ["line", "follow"]) {
        if (url.searchParams.has(name)) to.searchParams.set(name, url.searchParams.get(name));
        else to.searchParams.delete(name);
      }
      to.hash = url.hash;
      link.href = to;
    }
  }

  /** A reload shows what is shown now: paused stays paused, and where it was. */
  #remember() {
    clearTimeout(this.remembering);
    const write = () => !this.follow && this.#write({ follow: this.ended ? null : "0", line: this.top });
    if (!new URL(location).searchParams.has("line")) write();
    else this.remembering = setTimeout(write, 250);
  }

  #toHash() {
    this.marked = place(location.hash);
    if (this.marked) this.go(this.marked[0]);
    else this.#paint();
    this.#say();
    return Boolean(this.marked);
  }

  // --- search

  find(q, stay) {
    this.search = { q, exact: this.form.elements.case.checked, at: 0, first: 1, total: 0, matches: [], stay };
    this.#write({ q, case: this.search.exact ? "1" : null });
    this.#step({ from: this.top }, { from: 1 });
  }

  /** Go to the next match or the one before. */
  walk(step) {
    const { search } = this;
    if (!search) return this.form.elements.q.focus();
    const at = search.matches.findIndex((match) => match.line === search.at) + step;
    if (search.matches[at] && at - step >= 0) this.#hit(at);
    else if (step > 0) this.#step({ from: search.at + 1 }, { from: 1 });
    else this.#step({ before: Math.max(1, search.at) }, { before: this.total + 1 });
  }

  /** Go to the nearest match; from the other end when there is none left. */
  async #step(...ways) {
    const { search } = this;
    this.#found("searching…");
    for (const way of ways) {
      const more = { q: search.q, ...(search.exact ? { case: "1" } : {}), ...way };
      try {
        const answer = await fetch(this.#address("search", more), { headers: { Accept: "application/json" } });
        const found = await answer.json();
        if (search !== this.search) return;
        if (!answer.ok) return this.#found(found.detail);
        Object.assign(search, found);
      } catch {
        return this.#found("the search was not answered: try again");
      }
      if (search.matches.length) return this.#hit("before" in way ? search.matches.length - 1 : 0);
      if (!search.total) break;
    }
    search.at = 0;
    this.#found("no line has it");
    this.#paint();
  }

  #hit(at) {
    const { search } = this;
    search.at = search.matches[at].line;
    this.#found(`${(search.first + at).toLocaleString("en")} of ${count(search.total, "line")}`);
    if (search.stay) this.#paint();
    else this.go(search.at);
    search.stay = false;
  }

  #found(text) {
    this.root.querySelector("#log-found").textContent = text;
  }

  // --- looks

  #paint() {
    const [first, last] = this.marked ?? [0, -1];
    for (const row of this.set.children) {
      const line = Number(row.id.slice(1));
      row.classList.toggle("sel", line >= first && line <= last);
      row.classList.toggle("hit", line > 0 && line === this.search?.at);
    }
    if (!CSS.highlights) return;
    CSS.highlights.delete("found");
    if (this.search?.q) CSS.highlights.set("found", new Highlight(...this.#ranges(this.search)));
  }

  /** Where the text is in the rows; an agent finds none that a colour interrupts. */
  *#ranges({ q, exact }) {
    const fold = (text) => (exact ? text : text.toLowerCase());
    const walker = document.createTreeWalker(this.set, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (node.parentElement.closest("a, time")) continue;
      const text = fold(node.data);
      for (let at = text.indexOf(fold(q)); at >= 0 && at + q.length <= node.length; at = text.indexOf(fold(q), at + 1)) {
        const range = new Range();
        range.setStart(node, at);
        range.setEnd(node, at + q.length);
        yield range;
      }
    }
  }

  #say() {
    const button = this.root.querySelector("[data-act=follow]");
    button.hidden = this.ended;
    this.root.toggleAttribute("data-ended", this.ended);
    button.setAttribute("aria-pressed", String(this.follow));
    const news = this.total - this.pausedAt;
    if (this.follow) this.pausedAt = this.total;
    button.textContent = this.follow ? "Following" : news > 0 ? `Follow (${count(news, "new line")})` : "Follow";
    const copy = this.root.querySelector("[data-act=copy]");
    const [first, last] = this.marked ?? [];
    copy.textContent = !first ? "Copy" : first === last ? `Copy line ${first}` : `Copy lines ${first} to ${last}`;
    const size = this.root.querySelector("#log-size");
    size.textContent = `${count(this.total, "line")}, ${bytes(this.size)}`;
  }

  /** Say or take back what is out of the ordinary, one thing each. */
  #note(about, text, href) {
    const id = `log-note-${about}`;
    let note = document.getElementById(id);
    if (!text) return note?.remove();
    if (!note) {
      note = document.createElement("p");
      [note.id, note.className] = [id, "notice"];
      this.box.before(note);
    }
    note.textContent = text;
    if (href) {
      const link = document.createElement("a");
      [link.href, link.textContent] = [href, "Show it"];
      note.append(" ", link);
    }
  }

  silent(contact) {
    if (contact.agent !== this.root.dataset.of) return;
    const gone = contact.status !== "fresh";
    this.root.classList.toggle("stale", gone);
    const since = new Date(contact.tried_at).toLocaleTimeString();
    this.#note("agent", gone ? `No more is known since ${since}: ${contact.agent} is ${contact.status} (${contact.reason}).` : "");
    if (!gone) this.#soon();
  }

  // --- what people do

  async copy() {
    const button = this.root.querySelector("[data-act=copy]");
    const done = (text) => {
      button.textContent = text;
      setTimeout(() => this.#say(), 2000);
    };
    if (!this.marked && this.size > COPY_BYTES) return done("Too much: click a line, shift-click another");
    try {
      const lines = this.marked ? { lines: this.marked.join("-") } : {};
      const answer = await fetch(this.#address("raw", lines));
      if (!answer.ok || Number(answer.headers.get("Content-Length")) > COPY_BYTES) throw new Error("too large");
      await clip(await answer.text());
      done("Copied");
    } catch {
      done("Not copied: use Raw");
    }
  }

  #listen() {
    const { root, box } = this;
    this.form = root.querySelector("form[role=search]");
    box.addEventListener("scroll", () => {
      const up = box.scrollTop < this.last - 1;
      this.last = box.scrollTop;
      if (up && this.follow && box.scrollTop + box.clientHeight < box.scrollHeight - this.height) this.pause();
      if (!this.follow) this.#remember();
      this.#soon();
    });
    new ResizeObserver(() => {
      if (this.follow) this.#scroll(box.scrollHeight);
      this.#soon();
    }).observe(box);
    box.addEventListener("click", (event) => {
      const number = event.target.closest(".ln > a:first-child");
      if (!number || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      this.#mark(Number(number.textContent), event.shiftKey);
    });
    root.addEventListener("click", (event) => {
      const { act } = event.target.closest("[data-act]")?.dataset ?? {};
      if (act === "follow") this.#turn();
      else if (act === "copy") this.copy();
      else if (act === "next") this.walk(1);
      else if (act === "previous") this.walk(-1);
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      const { q } = this.form.elements;
      if (q.value && q.value === this.search?.q) this.walk(1);
      else if (q.value) this.find(q.value);
    });
    root.querySelector("form[data-go]").addEventListener("submit", (event) => {
      event.preventDefault();
      const line = Math.min(Number(event.target.elements.line.value) || 1, this.total);
      this.#mark(line);
      this.go(line);
    });
    addEventListener("hashchange", () => this.#toHash());
    document.addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("agentd:log", ({ detail }) => this.grow(detail));
    document.addEventListener("agentd:agent", ({ detail }) => this.silent(detail));
    document.addEventListener("agentd:hello", () => root.classList.remove("stale"));
  }

  #turn() {
    if (this.follow) this.pause();
    else this.resume();
  }

  #mark(line, extend) {
    const [first] = this.marked ?? [line];
    this.marked = extend ? [Math.min(first, line), Math.max(first, line)] : [line, line];
    const [from, to] = this.marked;
    history.replaceState(history.state, "", from === to ? `#L${from}` : `#L${from}-L${to}`);
    this.pause();
    this.#write({});
    this.#paint();
    this.#say();
  }

  #key(event) {
    if ((event.ctrlKey || event.metaKey) && event.key === "f" && !this.plain) {
      if (document.activeElement === this.form.elements.q) return; // once more, and the browser's own search opens
      event.preventDefault();
      return this.form.elements.q.select();
    }
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || typing(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const attempt = (which) => document.querySelector(`#log-attempts [data-attempt=${which}]`)?.click();
    const act = {
      f: () => !this.ended && this.#turn(),
      g: () => this.go(1, 0),
      G: () => this.end(),
      n: () => this.walk(1),
      N: () => this.walk(-1),
      "[": () => attempt("before"),
      "]": () => attempt("after"),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }
}

/** The lines that `#L10` or `#L10-L20` names. */
function place(hash) {
  const match = /^#L(\d+)(?:-L(\d+))?$/.exec(hash);
  if (!match) return null;
  const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])];
  return [Math.min(first, last), Math.max(first, last)];
}

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; number >= 1024 && unit < 4; unit++) number /= 1024;
  return `${number.toFixed(unit ? 1 : 0)} ${units[unit]}`;
}

/** Put a text on the clipboard, also where the page did not come by HTTPS. */
async function clip(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (!copied) throw new Error("refused");
}

let view = null;
function look() {
  const root = document.getElementById("log");
  if (root && root !== view?.root) view = new LogView(root);
}
document.addEventListener("agentd:shown", look);
look();
