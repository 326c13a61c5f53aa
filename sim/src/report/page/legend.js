// INTERACT, legend: each mark with its meaning, drawn by the same code as the plot.

const LAYERS = [
  ["terms", "Terms", "Who leads in which term, and elections", (c) => { box(c, 0, 3, 16, 8, colours.lead); }],
  ["faults", "Faults", "What goes wrong on purpose", (c) => { c.globalAlpha = 0.5; box(c, 0, 1, 16, 12, colours.fault); }],
  ["tasks", "Tasks", "Attempts of tasks on executors, coloured by job", (c) => { box(c, 0, 2, 16, 10, jobFill(0), jobEdge(0)); }],
  ["messages", "Messages", "What hosts send each other", (c) => { drawArrow(c, 4, 1, 13, colours["net-control"]); drawArrow(c, 11, 13, 1, colours["net-raft"]); }],
  ["marks", "Marks", "Failpoints that acted, and rare states that were reached", (c) => { glyph(c, "failpoint", 5, 7, 4, colours.failpoint); glyph(c, "mark", 13, 7, 4, colours.mark); }],
  ["log", "Log", "Log lines of the real code", (c) => { box(c, 2, 3, 1, 8, colours.log); box(c, 7, 2, 2.5, 11, colours.warn); box(c, 12, 2, 2.5, 11, colours.error); }],
];

function swatch(width, height, paint) {
  const ratio = window.devicePixelRatio || 1;
  const canvas = element("canvas", { width: width * ratio, height: height * ratio });
  canvas.setAttribute("aria-hidden", "true");
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const c = canvas.getContext("2d");
  c.scale(ratio, ratio);
  paint(c);
  return canvas;
}

// A scene just large enough for one bar.
function tinyScene(c) {
  return { context: c, view: { from: 0, to: 1, width: GUTTER + 44, scroll: 0 }, layers: { tasks: true, terms: true }, hits: [], selected: null };
}

function taskSwatch(end) {
  return (c) => drawTaskBar(tinyScene(c), { x: 1, w: 42, left: 1, right: 43 }, 2, { type: "attempt", end, job: 0, stage: 0, partition: 2 });
}

function downSwatch(power) {
  return (c) => {
    box(c, 0, 2, 14, 12, colours.life, colours["life-edge"]);
    box(c, 14, 4, 20, 8, hatch(c, power ? colours.error : colours.dim, power));
    box(c, 34, 2, 12, 12, colours.life, colours["life-edge"]);
    glyph(c, power ? "bolt" : "cross", 18, 8, power ? 6 : 3.6, colours.error);
  };
}

function opSwatch(c) {
  box(c, 18, 2, 26, 12, jobFill(0));
  c.strokeStyle = jobEdge(0);
  c.strokeRect(1.5, 2.5, 42, 11);
  glyph(c, "tick", 37, 8, 3.6, colours.ok);
}

function endsSwatch(c) {
  glyph(c, "cross", 6, 8, 3.6, colours.error);
  font(c, 11, "700");
  glyph(c, "question", 22, 8, 3.6, colours.warn);
  glyph(c, "stop", 38, 8, 3.6, colours.warn);
}

const LEGEND = [
  ["Hosts", [
    [(c) => box(c, 0, 2, 46, 12, colours.life, colours["life-edge"]), "the process runs"],
    [downSwatch(false), "crashed or exited: memory is lost"],
    [downSwatch(true), "no power: unsynced writes lost too"],
    [(c) => { box(c, 0, 2, 46, 12, colours.lead); font(c, 10, "600"); label(c, "term 3", 5, 11, 40, colours["lead-ink"]); }, "this scheduler leads, in term 3"],
    [(c) => { c.globalAlpha = 0.18; box(c, 0, 0, 46, 16, colours.fault); c.globalAlpha = 1; box(c, 0, 0, 2, 16, colours.fault); font(c, 10.5, "600"); label(c, "isolate", 5, 11, 40, colours["fault-ink"]); }, "a fault, over the hosts that it hits"],
  ]],
  ["Tasks (stage/partition), coloured by job", [
    [taskSwatch(1), "completed"], [taskSwatch(2), "failed"], [taskSwatch(3), "stopped: not wanted any more"], [taskSwatch(4), "lost with its host"],
  ]],
  ["Clients and jobs", [
    [opSwatch, "asked · accepted · ✓ answered"], [endsSwatch, "failed · unknown · cancelled"],
  ]],
  ["Moments", [
    [(c) => { glyph(c, "election", 8, 8, 4.2, colours.lead); glyph(c, "failpoint", 24, 8, 4.2, colours.failpoint); glyph(c, "mark", 40, 8, 4.2, colours.mark); }, "elected · failpoint · rare state"],
    [(c) => { box(c, 8, 5, 1, 7, colours.log); box(c, 22, 3, 2.5, 11, colours.warn); box(c, 38, 3, 2.5, 11, colours.error); }, "log line · warning · error"],
    [(c) => { [["net-raft", 6], ["net-control", 17], ["net-shuffle", 28], ["net-client", 39]].forEach(([name, x]) => drawArrow(c, x, 1, 15, colours[name])); }, "messages: raft · tasks · shuffle · client"],
    [(c) => box(c, 22, 0, 2, 16, colours.violation), "a promise is found broken"],
  ]],
];

function legend() {
  const list = element("div", { className: "legend" });
  for (const [title, rows] of LEGEND) {
    list.append(element("h3", {}, title));
    for (const [paint, text] of rows) list.append(swatch(46, 16, paint), element("span", {}, text));
  }
  list.append(element("h3", {}, "Mouse and keys"));
  const keys = element("div", { style: "grid-column: 1 / -1; line-height: 1.7" });
  keys.innerHTML = "Wheel zooms (scrolls over the names), drag moves, click pins. <kbd>+</kbd> <kbd>−</kbd> <kbd>←</kbd> <kbd>→</kbd> <kbd>0</kbd> zoom, move · <kbd>↑</kbd> <kbd>↓</kbd> scroll · <kbd>N</kbd> <kbd>B</kbd> next, last event · <kbd>V</kbd> violation · <kbd>/</kbd> filter · <kbd>T</kbd> theme · <kbd>P</kbd> panel · <kbd>Esc</kbd> unpin";
  list.append(keys);
  return list;
}

function makeLayerButtons(scene) {
  const group = document.getElementById("layers");
  group.replaceChildren(...LAYERS.map(([name, text, title, paint]) => {
    const button = element("button", { className: "layer", title }, swatch(17, 14, paint), text);
    button.setAttribute("aria-pressed", String(scene.layers[name]));
    button.addEventListener("click", () => {
      scene.layers[name] = !scene.layers[name];
      button.setAttribute("aria-pressed", String(scene.layers[name]));
      scene.redraw();
    });
    return button;
  }));
}
