// Times go on while one looks. `<time data-elapsed="12.5">` counts up from what the server said, unless nobody vouches
// for it; `<time data-ago="90">`, negative for what is to come, grows old on every page, whatever happens.
const told = new WeakMap(); // element -> what the server said, and when zero was

function elapsed(seconds) {
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  const [minutes, rest] = [Math.floor(seconds / 60), Math.floor(seconds % 60)];
  if (minutes < 60) return `${minutes} min ${rest} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function ago(seconds) {
  const span = Math.abs(seconds);
  if (span < 1) return "now";
  const [unit, each] = span < 60 ? ["s", 1] : span < 3600 ? ["min", 60] : span < 172_800 ? ["h", 3600] : ["d", 86_400];
  const text = `${Math.floor(span / each)} ${unit}`;
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

function since(element, said) {
  if (told.get(element)?.said !== said) told.set(element, { said, zero: performance.now() - said * 1000 });
  return (performance.now() - told.get(element).zero) / 1000;
}

function show(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function tick() {
  for (const each of document.querySelectorAll("time[data-ago]")) show(each, ago(since(each, each.dataset.ago)));
  for (const each of document.querySelectorAll("time[data-elapsed]")) {
    const seconds = since(each, each.dataset.elapsed);
    if (!each.closest(".stale")) show(each, elapsed(seconds));
  }
}

setInterval(tick, 1000);
document.addEventListener("agentd:shown", tick);
tick();
