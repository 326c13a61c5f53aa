// DRAW: the whole plot, from back to front. Everything drawn leaves its box in `scene.hits`, for the mouse.

function draw(scene) {
  const { context: c, view } = scene;
  scene.hits = [];
  c.setTransform(scene.ratio, 0, 0, scene.ratio, 0, 0);
  c.fillStyle = colours.bg;
  c.fillRect(0, 0, view.width, view.height);
  c.textBaseline = "alphabetic";
  const step = niceStep(view);
  c.save();
  c.translate(0, -view.scroll);
  drawLaneGrounds(scene);
  drawGrid(scene, step);
  drawPlot(scene);
  drawGutter(scene);
  c.restore();
  drawAxis(scene, step);
  drawCursor(scene, step);
}

function drawPlot(scene) {
  const { context: c, view, layout } = scene;
  c.save();
  c.beginPath();
  c.rect(GUTTER, view.scroll + AXIS, view.width - GUTTER, view.height);
  c.clip();
  if (scene.layers.faults) drawFaultBands(scene);
  if (scene.layers.messages) drawMessages(scene);
  drawTop(scene);
  for (const lane of layout.lanes) if (isVisible(scene, lane.top, lane.height)) drawLane(scene, lane);
  drawJobs(scene);
  drawLines(scene);
  c.restore();
}

function isVisible(scene, top, height) {
  return top + height > scene.view.scroll && top < scene.view.scroll + scene.view.height;
}

function hit(scene, x, y, w, h, item) {
  scene.hits.push({ x: Math.max(x, GUTTER), y, w: x < GUTTER ? w - (GUTTER - x) : w, h, item });
}

function isChosen(scene, item) {
  return scene.selected === item || scene.hovered === item;
}

function drawLaneGrounds(scene) {
  const { context: c, view, layout } = scene;
  layout.lanes.forEach((lane, i) => {
    c.fillStyle = i % 2 ? colours["lane-alt"] : colours.lane;
    c.fillRect(0, lane.top, view.width, lane.height);
    c.fillStyle = colours.line;
    c.fillRect(0, lane.top, view.width, 1);
  });
  c.fillStyle = colours.line;
  c.fillRect(0, layout.jobsTop, view.width, 1);
}

function drawGrid(scene, step) {
  const { context: c, view, layout } = scene;
  c.fillStyle = colours.grid;
  for (let t = Math.ceil(view.from / step) * step; t <= view.to; t += step) {
    const x = xOf(view, t);
    if (x >= GUTTER) c.fillRect(Math.round(x), 0, 1, layout.height + view.height);
  }
}

function drawFaultBands(scene) {
  const { context: c, view, layout } = scene;
  for (const fault of scene.data.faults) {
    const span = clip(view, fault.from, fault.to, 1.5);
    if (!span) continue;
    const everywhere = layout.top.everywhere.includes(fault);
    for (const lane of layout.lanes) {
      if (!everywhere && !fault.hosts.includes(lane.host.index)) continue;
      c.globalAlpha = isChosen(scene, fault) ? 0.3 : everywhere ? 0.07 : 0.13;
      box(c, span.x, lane.top + 1, span.w, lane.height - 1, colours.fault);
      c.globalAlpha = 0.55;
      c.fillRect(span.x, lane.top + 1, 1, lane.height - 1);
      c.globalAlpha = 1;
      hit(scene, span.x, lane.top, span.w, lane.height, fault);
    }
  }
}

// The run's own rows: phases, terms, faults that hit everybody.
function drawTop(scene) {
  const { context: c, view, data, layout } = scene;
  font(c, 11);
  for (const phase of data.phases) {
    const span = clip(view, phase.from, phase.to);
    if (!span) continue;
    c.globalAlpha = 0.14;
    box(c, span.x + 1, layout.top.phases + 1, span.w - 2, ROW.phase - 3, colours.phase);
    c.globalAlpha = 1;
    labelBest(c, [phase.name, phase.name.split(":")[0]], span.x + 5, layout.top.phases + 11, span.w - 8, colours.dim);
    hit(scene, span.x, layout.top.phases, span.w, ROW.phase, phase);
  }
  for (const reign of data.reigns) {
    drawReign(scene, reign, layout.top.terms, [`term ${reign.term}: ${data.hosts[reign.host].name}`, `${reign.term}: ${data.hosts[reign.host].short}`, `${reign.term}`]);
  }
  if (scene.layers.faults) drawFaultRow(scene, layout.top.everywhere.map((fault) => ({ fault, from: fault.from, to: fault.to, row: fault.row })), layout.top.faults);
}

function drawReign(scene, reign, top, texts) {
  const { context: c, view } = scene;
  const span = clip(view, reign.from, reign.to);
  if (!span || !scene.layers.terms) return;
  box(c, span.x, top + 1, span.w, ROW.life - 4, reign.term % 2 ? colours.lead : colours["lead-alt"], isChosen(scene, reign) ? colours.ink : null);
  font(c, 11, "600");
  labelBest(c, texts, span.x + 4, top + 11.5, span.w - 6, colours["lead-ink"]);
  hit(scene, span.x, top, span.w, ROW.life - 2, reign);
}

// Labelled bars of faults. A label may stand to the right of a short bar, as far as the next one.
function drawFaultRow(scene, bars, top) {
  const { context: c, view } = scene;
  font(c, 10.5, "600");
  bars.forEach((bar, i) => {
    const span = clip(view, bar.from, bar.to, 3);
    const y = top + bar.row * ROW.fault;
    const next = bars.slice(i + 1).find((other) => other.row === bar.row);
    const limit = next ? xOf(view, next.from) : view.width;
    if (xOf(view, bar.from) > view.width || limit < GUTTER || !span) return;
    c.globalAlpha = isChosen(scene, bar.fault) ? 0.75 : 0.38;
    box(c, span.x, y + 1, span.w, ROW.fault - 2, colours.fault);
    c.globalAlpha = 1;
    c.fillStyle = colours.fault;
    c.fillRect(span.x, y + 1, 2, ROW.fault - 2);
    const room = Math.max(limit - span.x - 8, span.w - 6);
    const wide = label(c, bar.fault.name, span.x + 5, y + 10, room, colours["fault-ink"]);
    hit(scene, span.x, y, Math.max(span.w, wide + 6), ROW.fault, bar.fault);
  });
}

function drawGutter(scene) {
  const { context: c, view, data, layout } = scene;
  c.fillStyle = colours.panel;
  c.fillRect(0, view.scroll, GUTTER, view.height);
  c.fillStyle = colours.line;
  c.fillRect(GUTTER - 1, view.scroll, 1, view.height);
  if (data.phases.length) caption(c, "phase", layout.top.phases + 11);
  if (data.reigns.length) caption(c, "leader by term", layout.top.terms + 12);
  if (layout.top.faultRows) caption(c, "faults everywhere", layout.top.faults + 10);
  for (const lane of layout.lanes) drawLaneName(scene, lane);
  c.fillStyle = colours.line;
  c.fillRect(0, layout.jobsTop, GUTTER, 1);
  font(c, 13, "650");
  c.fillStyle = colours.ink;
  c.fillText("Jobs", 10, layout.jobsTop + 15);
  if (layout.blocks.length) caption(c, "job, then its stages", layout.jobsTop + 32);
}

function caption(c, text, y) {
  font(c, 10);
  c.fillStyle = colours.dim;
  c.textAlign = "right";
  c.fillText(text, GUTTER - 7, y);
  c.textAlign = "left";
}

const CAPTIONS = { faults: "faults", life: "process", tasks: "tasks", asks: "ops", log: "log, marks", messages: "messages" };

function drawLaneName(scene, lane) {
  const { context: c } = scene;
  c.fillStyle = colours.line;
  c.fillRect(0, lane.top, GUTTER, 1);
  font(c, 13, "650");
  label(c, lane.host.name, 10, lane.top + 17, GUTTER - 72, colours.ink);
  for (const [name, row] of Object.entries(lane.rows)) caption(c, CAPTIONS[name], row.top + 10);
}

// The axis stays at the top of the plot, with the violation's flag.
function drawAxis(scene, step) {
  const { context: c, view, data } = scene;
  c.fillStyle = colours.panel;
  c.fillRect(0, 0, view.width, AXIS);
  c.fillStyle = colours.line;
  c.fillRect(0, AXIS - 1, view.width, 1);
  font(c, 11);
  c.textAlign = "center";
  for (let t = Math.ceil(view.from / step) * step; t <= view.to; t += step) {
    const x = xOf(view, t);
    if (x < GUTTER - 1) continue;
    c.fillStyle = colours.line;
    c.fillRect(Math.round(x), AXIS - 6, 1, 5);
    c.fillStyle = colours.dim;
    if (t > -step / 2 && x > GUTTER + 14 && x < view.width - 20) c.fillText(formatTime(Math.abs(t), step), x, 14);
  }
  c.textAlign = "left";
  c.fillStyle = colours.panel;
  c.fillRect(0, 0, GUTTER, AXIS - 1);
  caption(c, "simulated time", 16);
  if (data.violation) drawFlag(scene);
}

function drawFlag(scene) {
  const { context: c, view, data } = scene;
  const x = xOf(view, data.violation.at_us);
  if (x < GUTTER || x > view.width) return;
  font(c, 11, "650");
  const text = `✕ ${data.violation.oracle}`;
  const width = textWidth(c, text) + 12;
  const left = x + width > view.width ? x - width : x;
  box(c, left, 2, width, AXIS - 6, colours.violation);
  label(c, text, left + 6, 16, width, colours.bg);
  hit(scene, left, view.scroll + 2, width, AXIS - 6, data.violation);
}

function drawLines(scene) {
  const { context: c, view, data, layout } = scene;
  for (const phase of data.phases.slice(1)) {
    const x = Math.round(xOf(view, phase.from));
    c.fillStyle = colours.phase;
    for (let y = AXIS; y < layout.height; y += 7) c.fillRect(x, y, 1, 3);
  }
  if (data.violation) {
    const x = Math.round(xOf(view, data.violation.at_us));
    c.fillStyle = colours.violation;
    c.fillRect(x - 1, 0, 2, Math.max(layout.height, view.scroll + view.height));
    hit(scene, x - 3, 0, 6, layout.height, data.violation);
  }
}

function drawCursor(scene, step) {
  const { context: c, view, selected } = scene;
  const line = (time, colour, dashed) => {
    const x = Math.round(xOf(view, time)) + 0.5;
    if (x < GUTTER || x > view.width) return;
    c.strokeStyle = colour;
    c.lineWidth = 1;
    c.setLineDash(dashed ? [3, 3] : []);
    c.beginPath(); c.moveTo(x, AXIS - 6); c.lineTo(x, view.height); c.stroke();
    c.setLineDash([]);
  };
  if (selected && selected.type !== "violation") line(selected.at ?? selected.from, colours.accent, true);
  if (view.cursor === null) return;
  line(view.cursor, colours.ink, false);
  font(c, 11, "600");
  const text = formatTime(Math.max(view.cursor, 0), Math.min(step / 50, 1000));
  const width = textWidth(c, text) + 10;
  const x = Math.min(Math.max(xOf(view, view.cursor) - width / 2, GUTTER), view.width - width);
  box(c, x, 2, width, AXIS - 7, colours.ink);
  label(c, text, x + 5, 15, width, colours.bg);
}
