// agentd in a page: the state of tasks as their agents tell it, never as it was. No dependency.

/** A stream of events that heals by itself: closed while the tab is hidden, reopened when it is seen again. */
export class Connection extends EventTarget {
  #url;
  #source = null;
  #turn = null;
  #tries = 0;
  #timer = 0;
  #silence = 0;
  #lostAt = null;
  #connected = false;
  #closed = false;

  /** @param {string} url of the viewer's `/live`
   *  @param {string[]} types the events to pass on, as CustomEvents with `detail` = the data */
  constructor(url, types = ["changed", "agent"]) {
    super();
    this.#url = url;
    this.types = types;
    document.addEventListener("visibilitychange", this.#seen);
    addEventListener("pagehide", this.#stop);
    addEventListener("pageshow", this.#seen);
    this.#open();
  }

  /** When the stream was lost, null while it is there. */
  get lostAt() {
    return this.#lostAt;
  }

  /** Whether the stream is there and has said hello. */
  get connected() {
    return this.#connected;
  }

  close() {
    this.#closed = true;
    document.removeEventListener("visibilitychange", this.#seen);
    removeEventListener("pagehide", this.#stop);
    removeEventListener("pageshow", this.#seen);
    this.#stop();
  }

  #seen = () => {
    if (document.visibilityState === "hidden") this.#stop();
    else if (!this.#turn && !this.#timer && !this.#closed) this.#open();
  };

  #stop = () => {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#timer = 0;
    this.#connected = false;
    this.#source?.close();
    this.#source = null;
    this.#turn?.abort();
    this.#turn = null;
  };

  #open() {
    this.#stop();
    if (document.visibilityState === "hidden") return;
    const turn = (this.#turn = new AbortController());
    const again = () => turn.signal.aborted || this.#open();
    inTurn(turn.signal, () => this.#listen(), again);
  }

  #listen() {
    const source = (this.#source = new EventSource(this.#url));
    const alive = () => {
      clearTimeout(this.#silence);
      this.#silence = setTimeout(() => this.#again("silent"), SILENCE_MS);
    };
    source.addEventListener("hello", (event) => {
      alive();
      this.#tries = 0;
      this.#connected = true;
      const back = this.#lostAt !== null;
      this.#lostAt = null;
      this.#say("hello", JSON.parse(event.data));
      if (back) this.#say("restored", {});
    });
    source.addEventListener("beat", alive);
    for (const type of this.types) {
      source.addEventListener(type, (event) => {
        alive();
        this.#say(type, JSON.parse(event.data));
      });
    }
    source.onerror = () => this.#again("lost");
    alive();
  }

  #again(reason) {
    this.#stop();
    if (this.#lostAt === null) {
      this.#lostAt = new Date();
      this.#say("lost", { reason, since: this.#lostAt });
    }
    const pause = PAUSES_MS[Math.min(this.#tries++, PAUSES_MS.length - 1)];
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      if (!this.#closed) this.#open();
    }, pause);
  }

  #say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** HTTP/1.1 gives all windows of a browser six connections: so many may be streams, the others are for what is asked. */
const STREAMS = 4;
/** Where more windows than that are seen, each has a stream in its turn, for so long. */
const TURN_MS = 1000;

/** Begin when one of the streams is free, keep it until `signal`, and call `over` once another window waits for it. */
async function inTurn(signal, begin, over) {
  const { locks } = navigator; // not there on a page of another machine without TLS
  if (!locks) return begin();
  const { held, pending } = await locks.query();
  const wanted = (name) => [...held, ...pending].filter((lock) => lock.name === name).length;
  const names = Array.from({ length: STREAMS }, (_, number) => `agentd-stream-${number}`);
  const name = names.reduce((best, each) => (wanted(each) < wanted(best) ? each : best));
  const hold = () =>
    new Promise((release) => {
      const timer = setInterval(async () => {
        if ((await locks.query()).pending.some((lock) => lock.name === name)) over();
      }, TURN_MS);
      const end = () => (clearInterval(timer), release());
      if (signal.aborted) return end();
      signal.addEventListener("abort", end);
      begin();
    });
  if (!signal.aborted) await locks.request(name, { signal }, hold).catch(() => {}); // left while it waited
}

/** The server says something at least every 10 s. */
const SILENCE_MS = 25_000;
const PAUSES_MS = [200, 500, 1000, 2000];

/** What agents or the viewer refused, or why there was no answer. `status` is 0 when the viewer gave none; `code` is
 *  stable; `agent` and `reason_code` are there when it is about an agent in trouble. */
export class AgentdError extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? `the viewer answered ${status}`);
    this.name = "AgentdError";
    this.status = status;
    this.code = problem?.code ?? "bad_body";
    this.agent = problem?.agent ?? null;
    this.reason_code = problem?.reason_code ?? this.code;
    this.errors = problem?.errors ?? [];
  }
}

const ACTIVE = ["running", "queued", "waiting"];
const TERMINAL = ["completed", "failed", "timeout", "cancelled"];
const PAGE = 1000;
/** Of tasks that are listed or walked through. */
const MAX_ROWS = 10_000;
const ANSWER_MS = 20_000;
/** The least between two looks, however fast things change; a costly look gets a fifth of the time at most. */
const SETTLE_MS = 200;
/** Answers after which a write may or may not have happened: it is sent again, with the same key. */
const UNSURE = [0, 502, 504];

/** The tasks that are active, followed. A tick of the stream, or the clock where there is none, only says when to look;
 *  what is told is always what agents answered just now. What nobody vouches for is `unknown`, never "running". */
export class TaskStateManager {
  static EVENTS = [
    "taskRestored", "noActiveTask", "taskStarted", "taskProgress", "taskCompleted", "taskError", "connectionLost",
    "connectionRestored",
  ];
  #listeners = new Map();
  #tasks = new Map(); // "agent/task_id" -> the task as last answered, active then
  #unknown = new Map(); // agent, "" for the viewer itself -> {agent, reason_code, reason, since, tasks}
  #greeted = new Set(); // agents that have told their tasks at least once
  #doubted = new Set(); // tasks that were told to be unknown
  #told = false; // whether it was said that there is nothing to restore
  #feed = null;
  #own = false;
  #wanted = false;
  #looking = null;
  #timer = 0;
  #following = false;
  #closed = false;

  /** @param {object} [options] see agentd.d.ts */
  constructor({ baseUrl, prefix, agent, session, pollingFrequency = 3000, feed, fetch, csrfToken } = {}) {
    this.prefix = (baseUrl ?? prefix ?? meta("agentd-prefix") ?? "").replace(/\/+$/, "");
    this.agent = agent ?? null;
    this.session = session ?? null;
    this.pollingFrequency = Math.max(100, pollingFrequency);
    this.#feed = feed ?? null;
    this.fetch = fetch ?? ((...given) => globalThis.fetch(...given));
    this.csrfToken = csrfToken ?? null;
  }

  /** The active tasks as last heard of, newest first; those that nobody vouches for are `unknown`. */
  get tasks() {
    const age = (task) => task.created_at ?? "";
    return [...this.#tasks.values()].sort((a, b) => (age(a) < age(b) ? 1 : -1)).map((task) => this.#seen(task));
  }

  /** Follow the tasks: tells each active one by `taskRestored`, or `noActiveTask` once all agents have answered. */
  async initialize() {
    this.#follow();
    await this.refresh();
    return this.tasks;
  }

  /** The newest active task, or the one of this id as it is now, ended or not; null when there is none. */
  async restoreActiveTask(taskId) {
    this.#follow();
    if (taskId) {
      const task = await this.getTaskStatus(taskId);
      if (ACTIVE.includes(task.state)) this.#keep(task);
      if (task.state !== "unknown") this.emit(ACTIVE.includes(task.state) ? "taskRestored" : ending(task), task);
      return task;
    }
    await this.refresh();
    const [task] = this.tasks;
    if (task) this.emit("taskRestored", task);
    else if (!this.#unknown.size) this.emit("noActiveTask", {});
    return task ?? null;
  }

  /** Start a task: a shell command, or what `POST /tasks` takes. Sent again until it is known to have started, once. */
  async startTask(task, { agent, key = newKey() } = {}) {
    const body = typeof task === "string" ? { kind: "shell", spec: { command: task } } : { ...task };
    if (this.session) body.session_id ??= this.session;
    agent = await this.#agentOf(agent);
    this.#follow();
    const made = await this.#write("POST", `${at(agent)}/tasks`, body, key);
    const started = { ...made, agent };
    if (!this.#tasks.has(id(started)) && this.#covers(started)) {
      this.#keep(started);
      this.emit("taskStarted", started);
    }
    this.refresh();
    return started;
  }

  /** Ask a task to stop; gives it as it is then. One that has ended already is no error. */
  async stopTask(taskId, { agent } = {}) {
    agent ??= this.#known(taskId)?.agent ?? (await this.getTaskStatus(taskId)).agent;
    try {
      await this.#write("DELETE", `${at(await this.#agentOf(agent))}/tasks/${encodeURIComponent(taskId)}`);
    } catch (error) {
      if (error.status !== 409) throw error;
    }
    this.refresh();
    return this.getTaskStatus(taskId, { agent });
  }

  /** A task as its agent answers now; `{state: "unknown", reason_code, reason, since}` when none does. Never throws. */
  async getTaskStatus(taskId, { agent, session } = {}) {
    const known = this.#known(taskId);
    agent ??= known?.agent ?? this.agent;
    try {
      if (agent) return await this.#one(agent, taskId, session ?? known?.session_id ?? this.session);
      const { data, agents } = await this.#read(`/tasks?prefix=${encodeURIComponent(taskId)}`);
      const found = data.find((task) => task.task_id === taskId);
      if (found) return found;
      for (const contact of agents) {
        if (contact.status !== "fresh") continue;
        const task = await this.#one(contact.agent, taskId).catch(() => null); // its list may not go back so far
        if (task) return task;
      }
      const silent = agents.find((contact) => contact.status !== "fresh");
      if (silent) return this.#lost({ task_id: taskId, agent: null }, silent);
      throw new AgentdError(404, { code: "task_not_found", detail: `no agent has a task ${taskId}` });
    } catch (error) {
      return this.#lost(known ?? { task_id: taskId, agent: agent ?? null }, error);
    }
  }

  /** Tasks, newest first, those of `job_type` (kind) and `status` (state; one or more) if given. */
  async getJobHistory({ limit = 50, offset = 0, job_type, status } = {}) {
    if (!(Number.isInteger(limit) && Number.isInteger(offset) && limit > 0 && offset >= 0))
      throw new RangeError("limit and offset: must be whole numbers, limit 1 or more");
    if (limit + offset > MAX_ROWS) throw new RangeError(`limit + offset: at most ${MAX_ROWS}`);
    const query = [["kind", job_type], ...[status].flat().map((each) => ["state", each])];
    const { rows, more, agents } = await this.#list(query, offset + limit);
    return { data: rows.slice(offset), more, agents, partial: agents.some((each) => each.status !== "fresh") };
  }

  /** Emergency: end all that is live at the agent and replace its workers. Gives the agent's report. */
  async resetAgentState({ agent } = {}) {
    const report = await this.#write("POST", `${at(await this.#agentOf(agent))}/admin/reset`, {});
    this.refresh();
    return report;
  }

  /** Call the listener on each event of the type; gives what takes it off again. */
  on(type, listener) {
    if (!this.#listeners.has(type)) this.#listeners.set(type, new Set());
    this.#listeners.get(type).add(listener);
    return () => this.off(type, listener);
  }

  off(type, listener) {
    this.#listeners.get(type)?.delete(listener);
  }

  /** Tell listeners; one that throws does not keep it from others. */
  emit(type, detail) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(detail);
      } catch (error) {
        reportError(error);
      }
    }
  }

  /** Look now; done when what was true after the call is told. */
  refresh() {
    this.#wanted = true;
    return (this.#looking ??= this.#run());
  }

  /** Follow nothing any more. */
  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#onSeen);
    for (const type of FEED) this.#feed?.removeEventListener(type, this.#onTick);
    if (this.#own) this.#feed?.close();
  }

  #onTick = () => this.refresh();
  #onSeen = () => document.visibilityState === "visible" && this.refresh();

  #follow() {
    if (this.#following || this.#closed) return;
    this.#following = true;
    if (!this.#feed) {
      const query = params([["agent", this.agent], ["session", this.agent && this.session]]);
      this.#feed = new Connection(`${this.prefix}/live${query && `?${query}`}`);
      this.#own = true;
    }
    for (const type of FEED) this.#feed.addEventListener(type, this.#onTick);
    document.addEventListener("visibilitychange", this.#onSeen);
  }

  async #run() {
    try {
      while (this.#wanted && !this.#closed) {
        this.#wanted = false;
        clearTimeout(this.#timer);
        const began = performance.now();
        await this.#look();
        if (this.#wanted) await pause(Math.max(SETTLE_MS, 4 * (performance.now() - began)), this.pollingFrequency);
      }
    } finally {
      this.#looking = null;
      this.#plan();
    }
  }

  /** The clock looks only where no stream says when, or where an agent is unknown; and never while nobody does. */
  #plan() {
    clearTimeout(this.#timer);
    if (!this.#following || this.#closed || document.visibilityState === "hidden") return;
    if (!this.#feed.connected || this.#unknown.size) {
      this.#timer = setTimeout(this.#onTick, this.pollingFrequency);
    }
  }

  async #look() {
    let found;
    try {
      found = await this.#list(ACTIVE.map((state) => ["state", state]), MAX_ROWS);
    } catch (error) {
      return this.#lose("", error);
    }
    if (this.#closed) return;
    this.#restore("");
    const status = new Map(found.agents.map((contact) => [contact.agent, contact]));
    for (const contact of found.agents) {
      if (contact.status === "fresh") this.#restore(contact.agent);
      else this.#lose(contact.agent, contact);
    }
    const active = new Set();
    const doubted = this.#doubted;
    this.#doubted = new Set();
    for (const task of found.rows) {
      active.add(id(task));
      const before = this.#tasks.get(id(task));
      if (before) this.#update(before, task, doubted);
      else {
        this.#tasks.set(id(task), task);
        this.emit(this.#greeted.has(task.agent) ? "taskStarted" : "taskRestored", task);
      }
    }
    for (const [key, task] of [...this.#tasks]) {
      if (active.has(key)) continue;
      if (!status.has(task.agent)) this.#lose(task.agent, GONE);
      else if (status.get(task.agent).status === "fresh") await this.#settle(key, task, doubted);
    }
    for (const [agent, contact] of status) if (contact.status === "fresh") this.#greeted.add(agent);
    if (!this.#told && !this.#unknown.size) {
      this.#told = true;
      if (!found.rows.length && !this.#tasks.size) this.emit("noActiveTask", {});
    }
  }

  /** A task that is no longer listed as active: it has ended, is gone, or came between two answers. */
  async #settle(key, task, doubted) {
    let now;
    try {
      now = await this.#one(task.agent, task.task_id, task.session_id);
    } catch (error) {
      if (error.status !== 404) return this.#lose(task.agent, error);
      now = this.#lost(task, error);
    }
    if (TERMINAL.includes(now.state) || now.state === "unknown") {
      if (this.#tasks.delete(key)) this.emit(ending(now), now);
    } else this.#update(task, now, doubted);
  }

  #update(before, task, doubted) {
    this.#tasks.set(id(task), task);
    const same = before.seq === task.seq && before.state === task.state && !doubted.has(id(task));
    if (!same) this.emit("taskProgress", task);
  }

  #lose(agent, why) {
    if (this.#unknown.has(agent)) return;
    const { reason_code, reason } = told(why);
    const hit = [...this.#tasks.values()].filter((task) => !agent || task.agent === agent);
    const loss = { agent: agent || null, reason_code, reason, since: new Date() };
    this.#unknown.set(agent, loss);
    this.emit("connectionLost", { ...loss, tasks: hit.map((task) => task.task_id) });
    for (const task of hit) {
      this.#doubted.add(id(task));
      this.emit("taskProgress", this.#seen(task));
    }
  }

  #restore(agent) {
    const loss = this.#unknown.get(agent);
    if (!loss) return;
    this.#unknown.delete(agent);
    for (const task of this.#tasks.values()) if (!agent || task.agent === agent) this.#doubted.add(id(task));
    this.emit("connectionRestored", { agent: agent || null, since: loss.since });
  }

  /** The task, unless nobody vouches for it. */
  #seen(task) {
    const loss = this.#unknown.get("") ?? this.#unknown.get(task.agent);
    return loss ? this.#lost(task, loss) : task;
  }

  #lost(task, why) {
    const since = (this.#unknown.get(task.agent) ?? this.#unknown.get(""))?.since ?? new Date();
    const { task_id, agent, session_id = null } = task;
    return { task_id, agent, session_id, state: "unknown", ...told(why), since, last: task.state ? task : null };
  }

  #known(taskId) {
    return [...this.#tasks.values()].find((task) => task.task_id === taskId);
  }

  #keep(task) {
    if (this.#covers(task)) this.#tasks.set(id(task), task);
  }

  #covers(task) {
    return (!this.agent || task.agent === this.agent) && (!this.session || task.session_id === this.session);
  }

  async #agentOf(agent) {
    agent ??= this.agent;
    if (agent) return agent;
    const { agents } = await this.#read("/agents");
    if (agents.length === 1) return agents[0].agent;
    const names = agents.map((each) => each.agent).join(", ");
    throw new AgentdError(0, { code: "agent_required", detail: `agent: name one of ${names}` });
  }

  async #one(agent, taskId, session) {
    const name = encodeURIComponent(taskId);
    try {
      return { ...(await this.#read(`${at(agent)}/tasks/${name}`)), agent };
    } catch (error) {
      if (error.code !== "task_not_found" || !session) throw error;
      const path = `${at(agent)}/sessions/${encodeURIComponent(session)}/history?prefix=${name}`;
      const found = await this.#read(path).catch(() => ({ data: [] }));
      const task = found.data.find((each) => each.task_id === taskId);
      if (!task) throw error;
      return { ...task, agent };
    }
  }

  /** Up to so many tasks of all that this manager covers, and how each agent did. */
  async #list(query, most) {
    const rows = [];
    const agents = new Map();
    let cursor = null;
    let pages = 0;
    do {
      const limit = this.session ? PAGE : Math.min(PAGE, most - rows.length);
      const window = [["agent", this.agent], ["limit", limit], ["cursor", cursor]];
      const page = await this.#read(`/tasks?${params([...query, ...window])}`);
      if (!Array.isArray(page?.data) || !Array.isArray(page.agents)) throw new AgentdError(200, SHAPELESS);
      rows.push(...page.data.filter((task) => this.#covers(task)));
      for (const each of page.agents) {
        if ((agents.get(each.agent)?.status ?? "fresh") === "fresh") agents.set(each.agent, each);
      }
      cursor = page.next;
    } while (cursor && rows.length < most && ++pages < MAX_ROWS / PAGE);
    return { rows: rows.slice(0, most), more: Boolean(cursor) || rows.length > most, agents: [...agents.values()] };
  }

  #read(path) {
    return this.#ask("GET", path);
  }

  async #write(method, path, body, key) {
    for (let tries = 0; ; tries++) {
      try {
        return await this.#ask(method, path, body, key);
      } catch (error) {
        const safe = key || method === "DELETE";
        if (!safe || !UNSURE.includes(error.status) || tries >= PAUSES_MS.length) throw error;
        await pause(PAUSES_MS[tries]);
      }
    }
  }

  async #ask(method, path, body, key) {
    const headers = { Accept: "application/json" };
    if (method !== "GET") headers["X-CSRF-Token"] = this.csrfToken ?? meta("csrf-token") ?? "";
    if (body) headers["Content-Type"] = "application/json";
    if (key) headers["Idempotency-Key"] = key;
    let answer, text;
    try {
      const signal = AbortSignal.timeout(ANSWER_MS);
      const sent = { method, headers, body: body && JSON.stringify(body), cache: "no-store", signal };
      answer = await this.fetch(`${this.prefix}/api${path}`, sent);
      text = await answer.text();
    } catch {
      throw new AgentdError(0, { code: "viewer_unreachable", detail: "the viewer does not answer" });
    }
    let value = null;
    try {
      value = text ? JSON.parse(text) : null;
    } catch {
      if (answer.ok) throw new AgentdError(answer.status, { code: "bad_body", detail: "the answer is not JSON" });
    }
    if (!answer.ok) throw new AgentdError(answer.status, value);
    return value;
  }
}

const SHAPELESS = { code: "bad_shape", detail: "the answer has another shape than the viewer's" };
const FEED = ["hello", "changed", "agent", "lost"];
const GONE = { reason_code: "agent_not_found", reason: "the viewer has no agent of this name any more" };

const pause = (ms, most = ms) => new Promise((resolve) => setTimeout(resolve, Math.min(ms, most)));
const id = (task) => `${task.agent}/${task.task_id}`;
const at = (agent) => `/agents/${encodeURIComponent(agent)}`;
const ending = (task) => (task.state === "completed" ? "taskCompleted" : "taskError");
const told = (why) => ({ reason_code: why.reason_code ?? why.code, reason: why.reason ?? why.message });
const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content;
const params = (pairs) => new URLSearchParams(pairs.filter(([, value]) => value ?? false)).toString();
const newKey = () => [...crypto.getRandomValues(new Uint32Array(4))].map((each) => each.toString(36)).join("-");
