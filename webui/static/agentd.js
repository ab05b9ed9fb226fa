// agentd in a page: the state of tasks as their agents tell it, never as it was. No dependency.

/** A stream of events that heals by itself: closed while the tab is hidden, reopened when it is seen again. */
export class Connection extends EventTarget {
  #url;
  #source = null;
  #tries = 0;
  #timer = 0;
  #silence = 0;
  #lostAt = null;
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

  close() {
    this.#closed = true;
    document.removeEventListener("visibilitychange", this.#seen);
    removeEventListener("pagehide", this.#stop);
    removeEventListener("pageshow", this.#seen);
    this.#stop();
  }

  #seen = () => {
    if (document.visibilityState === "hidden") this.#stop();
    else if (!this.#source && !this.#timer && !this.#closed) this.#open();
  };

  #stop = () => {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#timer = 0;
    this.#source?.close();
    this.#source = null;
  };

  #open() {
    this.#stop();
    if (document.visibilityState === "hidden") return;
    const source = (this.#source = new EventSource(this.#url));
    const alive = () => {
      clearTimeout(this.#silence);
      this.#silence = setTimeout(() => this.#again("silent"), SILENCE_MS);
    };
    source.addEventListener("hello", (event) => {
      alive();
      this.#tries = 0;
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

/** The server says something at least every 10 s. */
const SILENCE_MS = 25_000;
const PAUSES_MS = [200, 500, 1000, 2000];
