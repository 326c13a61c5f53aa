// INTERACT: mouse, keys, buttons and the address's `#t=FROM-TO` (in milliseconds), `theme=dark`.

function zoom(scene, factor, around) {
  const { view, data } = scene;
  const fixed = around ?? view.cursor ?? (view.from + view.to) / 2;
  setWindow(data, view, fixed - (fixed - view.from) * factor, fixed + (view.to - fixed) * factor);
  scene.redraw();
}

function pan(scene, by) {
  setWindow(scene.data, scene.view, scene.view.from + by, scene.view.to + by);
  scene.redraw();
}

function showAll(scene) {
  Object.assign(scene.view, { from: -scene.data.end * 0.01, to: scene.data.end * 1.01 });
  scene.redraw();
}

function select(scene, item) {
  scene.selected = item;
  showDetails(scene);
  scene.redraw();
  if (item?.type === "event") {
    syncList(scene);
    scrollToEvent(scene, item);
  }
}

function showViolation(scene) {
  const { violation, end } = scene.data;
  if (!violation) return;
  const half = Math.max(end * 0.03, 50_000);
  setWindow(scene.data, scene.view, violation.at_us - half, violation.at_us + half);
  select(scene, violation);
}

// The item drawn last at a point, so the one in front.
function itemAt(scene, x, y) {
  for (let i = scene.hits.length - 1; i >= 0; i--) {
    const box = scene.hits[i];
    if (x >= box.x && x < box.x + box.w && y >= box.y && y < box.y + box.h) return trafficAt(box.item, x);
  }
  return null;
}

function trafficAt(item, x) {
  if (item.type !== "traffic") return item;
  const column = Math.floor((x - GUTTER) / item.step);
  return { ...item, count: item.counts[column], refusedHere: item.refused[column] };
}

function onMove(scene, move) {
  const { view } = scene;
  const x = move.offsetX, y = move.offsetY + view.scroll;
  if (scene.drag) return dragTo(scene, move);
  view.cursor = x > GUTTER ? timeOf(view, x) : null;
  scene.hovered = x > GUTTER ? itemAt(scene, x, move.offsetY < AXIS ? move.offsetY + view.scroll : y) : null;
  scene.plot.style.cursor = scene.hovered ? "pointer" : "crosshair";
  const box = scene.tip.parentElement.getBoundingClientRect();
  showTip(scene, move.clientX - box.left, move.clientY - box.top);
  scene.redraw("plot");
}

function dragTo(scene, move) {
  const { drag, view } = scene;
  const perPixel = (view.to - view.from) / (view.width - GUTTER);
  drag.moved ||= Math.abs(move.clientX - drag.x) + Math.abs(move.clientY - drag.y) > 4;
  if (!drag.moved) return;
  scene.tip.hidden = true;
  scene.plot.classList.add("grabbing");
  setWindow(scene.data, view, drag.from - (move.clientX - drag.x) * perPixel, drag.to - (move.clientX - drag.x) * perPixel);
  scene.scroller.scrollTop = drag.scroll - (move.clientY - drag.y);
  scene.redraw();
}

function bindPlot(scene) {
  const { plot, view, scroller } = scene;
  plot.addEventListener("pointermove", (move) => onMove(scene, move));
  plot.addEventListener("pointerleave", () => {
    Object.assign(scene, { hovered: null });
    view.cursor = null;
    scene.tip.hidden = true;
    scene.redraw("plot");
  });
  plot.addEventListener("pointerdown", (down) => {
    scene.drag = { x: down.clientX, y: down.clientY, from: view.from, to: view.to, scroll: scroller.scrollTop, moved: false };
    plot.setPointerCapture(down.pointerId);
  });
  plot.addEventListener("pointerup", (up) => {
    const moved = scene.drag?.moved;
    scene.drag = null;
    plot.classList.remove("grabbing");
    if (!moved) select(scene, itemAt(scene, up.offsetX, up.offsetY + view.scroll));
  });
  plot.addEventListener("pointercancel", () => { scene.drag = null; });
  plot.addEventListener("wheel", (wheel) => onWheel(scene, wheel), { passive: false });
  scroller.addEventListener("scroll", () => {
    view.scroll = scroller.scrollTop;
    scene.redraw("plot");
  });
}

// Over the names it scrolls as everywhere; over the plot it zooms, and sideways it moves.
function onWheel(scene, wheel) {
  if (wheel.offsetX < GUTTER) return;
  wheel.preventDefault();
  const { view } = scene;
  const sideways = Math.abs(wheel.deltaX) > Math.abs(wheel.deltaY);
  if (sideways) pan(scene, (wheel.deltaX * (view.to - view.from)) / view.width);
  else zoom(scene, 1.0015 ** (wheel.deltaY * (wheel.deltaMode ? 30 : 1)), timeOf(view, wheel.offsetX));
}

function bindOverview(scene) {
  const { overview, data } = scene;
  const time = (event) => ((event.offsetX - GUTTER) / (overview.clientWidth - GUTTER)) * data.end * 1.02 - data.end * 0.01;
  let start = null;
  overview.addEventListener("pointerdown", (down) => {
    start = time(down);
    overview.setPointerCapture(down.pointerId);
  });
  overview.addEventListener("pointermove", (move) => {
    if (start === null) return;
    setWindow(data, scene.view, Math.min(start, time(move)), Math.max(start, time(move)));
    scene.redraw();
  });
  overview.addEventListener("pointerup", (up) => {
    const span = scene.view.to - scene.view.from;
    if (start !== null && Math.abs(time(up) - start) < data.end / 300) setWindow(data, scene.view, start - span / 2, start + span / 2);
    start = null;
    scene.redraw();
  });
}

const ACTIONS = {
  in: (scene) => zoom(scene, 1 / 1.6), out: (scene) => zoom(scene, 1.6),
  left: (scene) => pan(scene, -(scene.view.to - scene.view.from) / 5), right: (scene) => pan(scene, (scene.view.to - scene.view.from) / 5),
  all: showAll, violation: showViolation, theme: toggleTheme, schedule: showSchedule,
  up: (scene) => { scene.scroller.scrollTop -= 60; }, down: (scene) => { scene.scroller.scrollTop += 60; },
  next: (scene) => stepEvent(scene, 1), before: (scene) => stepEvent(scene, -1), unpin: (scene) => select(scene, null),
  filter: () => document.getElementById("filter").focus(),
  side: (scene) => { const side = document.getElementById("side"); side.hidden = !side.hidden; scene.resize(); },
  copy: () => copy(document.getElementById("replay")),
};

const KEYS = {
  "+": "in", "=": "in", "-": "out", "_": "out", ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", 0: "all", Home: "all",
  v: "violation", t: "theme", p: "side", n: "next", b: "before", "/": "filter", Escape: "unpin",
};

function bindKeys(scene) {
  document.addEventListener("keydown", (key) => {
    const isText = key.target.matches?.("input[type=search]");
    if (isText && key.key === "Escape") return key.target.blur();
    const action = KEYS[key.key.length === 1 ? key.key.toLowerCase() : key.key];
    if (!action || isText || key.ctrlKey || key.metaKey || key.altKey) return;
    key.preventDefault();
    ACTIONS[action](scene);
  });
  document.addEventListener("click", (click) => {
    const action = click.target.closest?.("[data-do]")?.dataset.do;
    if (action) ACTIONS[action](scene);
  });
}

function copy(source) {
  const selection = window.getSelection();
  selection.selectAllChildren(source);
  if (navigator.clipboard) navigator.clipboard.writeText(source.textContent).catch(() => document.execCommand("copy"));
  else document.execCommand("copy");
}

function setTheme(scene, theme) {
  document.documentElement.dataset.theme = theme;
  readColours();
  makeLayerButtons(scene);
  showDetails(scene);
  scene.redraw();
}

function toggleTheme(scene) {
  setTheme(scene, document.documentElement.dataset.theme === "dark" ? "light" : "dark");
}

function readHash(scene) {
  const hash = new URLSearchParams(location.hash.slice(1));
  const window = /^(-?[\d.]+)-([\d.]+)$/.exec(hash.get("t") ?? "");
  if (window) setWindow(scene.data, scene.view, Number(window[1]) * 1000, Number(window[2]) * 1000);
  const event = scene.data.events[hash.get("event") ?? -1];
  if (event) select(scene, event);
  scene.scroller.scrollTop = Number(hash.get("y") ?? scene.scroller.scrollTop);
  return hash.get("theme");
}

// The address follows the window, so that it can be passed on.
function writeHash(scene) {
  const { view, selected } = scene;
  const event = selected?.type === "event" ? `&event=${selected.index}` : "";
  try {
    history.replaceState(null, "", `#t=${(view.from / 1000).toFixed(3)}-${(view.to / 1000).toFixed(3)}${event}`);
  } catch {
    // Some browsers forbid it for files; nothing else depends on it.
  }
}
