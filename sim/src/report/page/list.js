// INTERACT, list: the events of the visible window that match the filter. Only the rows in sight exist.

const ROW_HEIGHT = 19, OVERSCAN = 8;

function makeList(scene) {
  const list = { box: document.getElementById("list"), rows: document.getElementById("rows"), events: scene.data.events, from: 0, to: 0 };
  scene.list = list;
  scene.needle = [];
  scene.grave = false;
  scene.matches = (event) => matches(scene, event);
  list.box.addEventListener("scroll", () => drawRows(scene));
  list.box.addEventListener("keydown", (key) => moveInList(scene, key));
  const filter = document.getElementById("filter");
  filter.addEventListener("input", () => setFilter(scene, filter.value, scene.grave));
  document.getElementById("grave").addEventListener("change", (change) => setFilter(scene, filter.value, change.target.checked));
}

function setFilter(scene, text, grave) {
  scene.needle = text.toLowerCase().split(/\s+/).filter(Boolean);
  scene.grave = grave;
  scene.list.events = scene.data.events.filter(scene.matches);
  scene.redraw();
}

// Every word of the filter is in the text, the host or the kind; a word after a minus is not.
function matches(scene, event) {
  if (scene.grave && event.grade < 3) return false;
  if (!scene.needle.length) return true;
  const host = scene.data.hosts[event.host]?.name ?? "world";
  event.hay ??= `${event.kind} ${host} ${event.text}`.toLowerCase();
  return scene.needle.every((word) => (word.length > 1 && word[0] === "-" ? !event.hay.includes(word.slice(1)) : event.hay.includes(word)));
}

// Follows the window of the plot.
function syncList(scene) {
  const { list, view } = scene;
  const time = (i) => list.events[i].at;
  list.from = lowerBound(list.events.length, time, view.from);
  list.to = lowerBound(list.events.length, time, view.to);
  const count = list.to - list.from;
  list.rows.style.height = `${count * ROW_HEIGHT}px`;
  document.getElementById("count").textContent = `${count.toLocaleString("en")} of ${scene.data.events.length.toLocaleString("en")} events in view`;
  drawRows(scene);
}

function drawRows(scene) {
  const { list } = scene;
  const first = Math.max(0, Math.floor(list.box.scrollTop / ROW_HEIGHT) - OVERSCAN);
  const last = Math.min(list.to - list.from, first + Math.ceil(list.box.clientHeight / ROW_HEIGHT) + 2 * OVERSCAN);
  const rows = [];
  for (let i = first; i < last; i++) rows.push(rowOf(scene, list.events[list.from + i], i));
  list.rows.replaceChildren(...rows);
}

function rowOf(scene, event, place) {
  const row = element("div", { className: `row g${event.grade}`, title: event.text }, element("time", {}, formatTime(event.at).slice(0, -2)),
    element("span", { className: "who" }, event.who), element("span", { className: "what" }, event.text.slice(0, 300)));
  row.style.top = `${place * ROW_HEIGHT}px`;
  row.setAttribute("role", "option");
  row.setAttribute("aria-selected", String(scene.selected === event));
  row.classList.toggle("selected", scene.selected === event);
  row.classList.toggle("faint", event.grade < 2);
  row.addEventListener("click", () => select(scene, event));
  row.addEventListener("mouseenter", () => {
    scene.view.cursor = event.at;
    scene.redraw("plot");
  });
  return row;
}

function scrollToEvent(scene, event) {
  const { list } = scene;
  const place = lowerBound(list.events.length, (i) => list.events[i].index, event.index) - list.from;
  const top = place * ROW_HEIGHT;
  if (top < list.box.scrollTop || top > list.box.scrollTop + list.box.clientHeight - ROW_HEIGHT) {
    list.box.scrollTop = top - list.box.clientHeight / 2;
  }
}

// The event before or after the pinned one; without one, the first in the window.
function stepEvent(scene, by) {
  const { list, selected } = scene;
  if (!list.events.length) return;
  const known = selected?.type === "event" ? lowerBound(list.events.length, (i) => list.events[i].index, selected.index) + by : list.from;
  const event = list.events[Math.min(Math.max(known, 0), list.events.length - 1)];
  if (event.at < scene.view.from || event.at > scene.view.to) pan(scene, event.at - (scene.view.from + scene.view.to) / 2);
  select(scene, event);
}

function moveInList(scene, key) {
  const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[key.key];
  if (!by) return;
  key.preventDefault();
  key.stopPropagation();
  stepEvent(scene, by);
}
