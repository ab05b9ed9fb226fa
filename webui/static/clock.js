// Durations that go on: `<time data-elapsed="12.5">` counts up from what the server said, unless nobody vouches for it.
const told = new WeakMap(); // element -> what the server said, and when zero was

function words(seconds) {
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  const [minutes, rest] = [Math.floor(seconds / 60), Math.floor(seconds % 60)];
  if (minutes < 60) return `${minutes} min ${rest} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function tick() {
  for (const each of document.querySelectorAll("time[data-elapsed]")) {
    const { elapsed } = each.dataset;
    if (told.get(each)?.elapsed !== elapsed) told.set(each, { elapsed, zero: performance.now() - elapsed * 1000 });
    if (!each.closest(".stale")) each.textContent = words((performance.now() - told.get(each).zero) / 1000);
  }
}

setInterval(tick, 1000);
document.addEventListener("agentd:shown", tick);
tick();
