// How many tasks are active here stands in the tab's title; one that ends is announced in the status line.
import { TaskStateManager } from "./agentd.js";

/** For how long an end is announced. */
const NEWS_MS = 10_000;

/** Follow the tasks that a page is about, over its own stream.
 *  @param {import("./agentd.js").Connection} feed
 *  @param {string} url of the stream: its parameters say what the page is about */
export function tally(feed, url) {
  const about = new URL(url, location.href).searchParams;
  const manager = new TaskStateManager({ feed, agent: about.get("agent"), session: about.get("session") });
  let title = document.title;
  let timer = 0;

  const count = () => {
    const active = manager.tasks.filter((task) => task.state !== "unknown").length;
    document.title = active ? `(${active}) ${title}` : title;
  };
  const announce = (task) => {
    count();
    const line = document.getElementById("news");
    if (!line || task.state === "unknown") return;
    line.textContent = ` ${task.name || task.task_id} ${task.state}.`;
    clearTimeout(timer);
    timer = setTimeout(() => {
      const now = document.getElementById("news"); // the line may be another by then
      if (now) now.textContent = "";
    }, NEWS_MS);
  };

  document.addEventListener("agentd:shown", () => {
    title = document.title;
    count();
  });
  for (const type of TaskStateManager.EVENTS) manager.on(type, count);
  for (const type of ["taskCompleted", "taskError"]) manager.on(type, announce);
  manager.initialize();
}
