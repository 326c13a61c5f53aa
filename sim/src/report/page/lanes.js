// DRAW, lanes: what one host did, and the jobs.

function drawLane(scene, lane) {
  if (lane.rows.faults && scene.layers.faults) drawFaultRow(scene, lane.faults, lane.rows.faults.top);
  if (lane.rows.life) drawLives(scene, lane);
  if (lane.rows.tasks && scene.layers.tasks) drawOfJobs(scene, lane.attempts, (attempt) => drawAttempt(scene, lane, attempt));
  if (lane.rows.asks) drawOfJobs(scene, lane.ops, (op) => drawOp(scene, lane, op));
  drawGlyphs(scene, lane);
}

// If a job or something of one is pinned, what belongs to others is pale.
function drawOfJobs(scene, items, drawItem) {
  const pinned = scene.selected;
  const job = pinned?.type === "job" ? scene.data.jobs.indexOf(pinned) : (pinned?.job ?? -1);
  for (const item of items) {
    scene.context.globalAlpha = job >= 0 && item.job !== job ? 0.22 : 1;
    drawItem(item);
  }
  scene.context.globalAlpha = 1;
}

function drawLives(scene, lane) {
  const { context: c, view } = scene;
  const top = lane.rows.life.top;
  lane.lives.forEach((life, i) => {
    const span = clip(view, life.from, life.to);
    const next = lane.lives[i + 1];
    const until = next ? next.from : scene.data.end;
    if (span) {
      box(c, span.x, top + 1, span.w, ROW.life - 4, colours.life, isChosen(scene, life) ? colours.ink : colours["life-edge"]);
      font(c, 10.5);
      const text = life.life > 1 ? `life ${life.life}` : "";
      const covered = lane.reigns.some((reign) => reign.from < life.from + (view.to - view.from) / 12 && reign.to > life.from);
      if (!covered) label(c, text, span.x + 5, top + 11.5, span.w - 8, colours.dim);
      hit(scene, span.x, top, span.w, ROW.life, life);
    }
    if (life.end > 0) drawDown(scene, life, until, top);
  });
  for (const reign of lane.reigns) drawReign(scene, reign, top, [`leads, term ${reign.term}`, `term ${reign.term}`, `${reign.term}`]);
}

// The gap while a host is down: striped after a crash, cross-hatched after a power loss.
function drawDown(scene, life, until, top) {
  const { context: c, view } = scene;
  const power = life.end === 2;
  const span = clip(view, life.to, until, 0);
  if (span) {
    box(c, span.x, top + 3, span.w, ROW.life - 8, hatch(c, power ? colours.error : colours.dim, power));
    hit(scene, span.x, top, span.w, ROW.life, { type: "down", host: life.host, from: life.to, to: until, end: life.end });
    const text = ["", "down", "no power", "exited", "refuses to run"][life.end];
    font(c, 10.5, "600");
    const width = textWidth(c, text);
    if (span.w > width + 26) {
      box(c, span.x + 13, top + 1, width + 6, ROW.life - 4, colours.lane);
      label(c, text, span.x + 16, top + 11.5, width + 4, power ? colours.error : colours.dim);
    }
  }
  const x = xOf(view, life.to);
  if (x >= GUTTER - 4 && x < view.width + 4) glyph(c, power ? "bolt" : "cross", x + (power ? 5 : 5), top + 8, power ? 6 : 3.6, colours.error);
}

function drawAttempt(scene, lane, attempt) {
  const span = clip(scene.view, attempt.from, attempt.to);
  if (!span) return;
  const y = lane.rows.tasks.top + attempt.row * ROW.attempt;
  drawTaskBar(scene, span, y, attempt);
  hit(scene, span.x, y, span.w, ROW.attempt - 2, attempt);
}

function drawTaskBar(scene, span, y, attempt) {
  const c = scene.context, h = ROW.attempt - 2;
  const edge = isChosen(scene, attempt) ? colours.ink : jobEdge(attempt.job);
  const stopped = attempt.end === 3;
  box(c, span.x, y, span.w, h, stopped ? colours.bg : jobFill(attempt.job), edge);
  if (span.w <= 3) box(c, span.x, y, span.w, h, edge);
  if (stopped) box(c, span.x, y, span.w, h, hatch(c, jobEdge(attempt.job)));
  if (attempt.end === 2) box(c, span.x, y, span.w, h, hatch(c, colours.error));
  if (attempt.end === 0 || attempt.end === 4) fadeRight(c, span.x, y, span.w, h, colours.bg);
  const ending = attempt.end === 2 ? "cross" : attempt.end === 4 ? "bolt" : null;
  const taken = ending && span.w > 9 ? 11 : 3;
  font(c, 10);
  const text = `${attempt.stage}/${attempt.partition}`;
  if (!stopped && attempt.end !== 2) label(c, text, span.x + 4, y + 9.5, span.w - 5 - taken, colours.ink);
  if (ending && span.right <= scene.view.width) glyph(c, ending, span.right - 5, y + h / 2, 3.4, colours.error);
}

const OP_GLYPH = [null, "tick", "cross", "question", "stop", "stop", "cross", "bolt"];

// A client's op: pale until it is accepted, then full until it is answered.
function drawOp(scene, lane, op) {
  const { context: c, view } = scene;
  const span = clip(view, op.from, op.to, 3);
  if (!span) return;
  const y = lane.rows.asks.top + op.row * ROW.op, h = ROW.op - 3;
  const bad = op.end === 2 || op.end === 6;
  box(c, span.x, y, span.w, h, colours.bg, null);
  const accepted = op.accepted >= 0 ? clip(view, op.accepted, op.to, 0) : null;
  if (accepted) box(c, accepted.x, y, accepted.w, h, jobFill(op.job));
  if (op.end === 6) box(c, span.x, y, span.w, h, hatch(c, colours.error, true));
  c.strokeStyle = isChosen(scene, op) ? colours.ink : bad ? colours.error : jobEdge(op.job);
  c.strokeRect(span.x + 0.5, y + 0.5, Math.max(span.w - 1, 1), h - 1);
  if (op.end === 0) fadeRight(c, span.x, y, span.w, h, colours.bg);
  const name = OP_GLYPH[op.end];
  const tone = [2, 6, 7].includes(op.end) ? colours.error : op.end === 1 ? colours.ok : colours.warn;
  font(c, 10.5);
  label(c, op.what, span.x + 4, y + 10, span.w - (name ? 18 : 7), colours.ink);
  font(c, 11, "700");
  if (name && span.w > 13 && span.right <= view.width) glyph(c, name, span.right - 7, y + h / 2, 3.6, tone);
  hit(scene, span.x, y, span.w, h, op);
}

// Log lines as ticks, elections, failpoints and marks as glyphs. What the filter doesn't match is left out.
function drawGlyphs(scene, lane) {
  const { context: c, view } = scene;
  const row = lane.rows.log, y = row.top + 6;
  const margin = (view.to - view.from) * 0.01;
  const events = lane.events;
  const lasts = {};
  let last = -9;
  for (let i = lowerBound(events.length, (j) => events[j].at, view.from - margin); i < events.length && events[i].at <= view.to + margin; i++) {
    const event = events[i];
    const x = xOf(view, event.at);
    if (x < GUTTER - 4 || !scene.matches(event)) continue;
    if (event.kind !== "log" || event.grade >= 3) continue;
    if (!scene.layers.log || x - last < 1) continue;
    last = x;
    box(c, x, row.top + 3, 1, 7, isChosen(scene, event) ? colours.ink : colours.log);
    hit(scene, x - 1.5, row.top, 4, ROW.glyph, event);
  }
  for (let i = lowerBound(events.length, (j) => events[j].at, view.from - margin); i < events.length && events[i].at <= view.to + margin; i++) {
    const event = events[i], x = xOf(view, event.at);
    if (x - (lasts[event.kind] ?? -9) < 2 && event.grade < 4) continue;
    if (drawGlyph(scene, event, x, row.top, y)) lasts[event.kind] = x;
  }
}

const EVENT_GLYPH = { election: ["terms", "election", "lead"], failpoint: ["marks", "failpoint", "failpoint"], mark: ["marks", "mark", "mark"] };

function drawGlyph(scene, event, x, top, y) {
  const c = scene.context;
  const isGraveLog = event.kind === "log" && event.grade >= 3;
  const known = isGraveLog ? ["log"] : EVENT_GLYPH[event.kind];
  if (!known || !scene.layers[known[0]] || x < GUTTER - 4 || !scene.matches(event)) return false;
  const tone = isGraveLog ? (event.grade === 4 ? "error" : "warn") : known[2];
  const colour = colours[isChosen(scene, event) ? "ink" : tone];
  if (isGraveLog) box(c, x - 1, top + 1, 2.5, 11, colour); else glyph(c, known[1], x, y, 4.2, colour);
  hit(scene, x - 4, top, 8, ROW.glyph, event);
  return true;
}

function drawJobs(scene) {
  const { context: c, layout } = scene;
  if (!layout.blocks.length) {
    font(c, 11);
    label(c, "No job was submitted in this trace.", GUTTER + 8, layout.jobsTop + 15, 400, colours.dim);
  }
  for (const block of layout.blocks) {
    if (!isVisible(scene, block.top, block.height)) continue;
    drawJob(scene, block);
    block.stages.forEach((stage, i) => drawStage(scene, block, stage, block.top + ROW.job + i * ROW.stage));
  }
}

function drawJob(scene, block) {
  const { context: c, view, data } = scene;
  const job = block.job, index = data.jobs.indexOf(job);
  const span = clip(view, job.from, job.to, 3);
  if (!span) return;
  const h = ROW.job - 2;
  box(c, span.x, block.top, span.w, h, jobFill(index), isChosen(scene, job) ? colours.ink : jobEdge(index));
  if (job.end === 2) box(c, span.x, block.top, span.w, h, hatch(c, colours.error));
  if (job.end === 3) box(c, span.x, block.top, span.w, h, hatch(c, colours.dim));
  if (job.end === 0) fadeRight(c, span.x, block.top, span.w, h, colours.bg);
  const name = [null, "tick", "cross", "stop"][job.end];
  const tone = job.end === 1 ? colours.ok : job.end === 2 ? colours.error : colours.warn;
  font(c, 10.5, "600");
  const text = job.end < 2 ? `${shortJob(job)}  ${job.what}` : `${shortJob(job)}  ${JOB_END[job.end]}`;
  if (span.w < 90) labelBeside(c, text, span, block.top + 11, xOf(view, block.next));
  else if (job.end < 2) label(c, text, span.x + 5, block.top + 11, span.w - 20, colours.ink);
  else drawPlate(c, text, span, block.top, h);
  if (name && span.w > 14 && span.right <= view.width) glyph(c, name, span.right - 8, block.top + h / 2, 4, tone);
  hit(scene, span.x, block.top, span.w, h, job);
}

// A label on a plain ground, for hatched bars.
function drawPlate(c, text, span, top, h) {
  const width = textWidth(c, text);
  if (span.w < width + 26) return;
  box(c, span.x + 3, top + 2, width + 5, h - 4, colours.bg);
  label(c, text, span.x + 5, top + 11, width + 2, colours.ink);
}

function shortJob(job) {
  return job.id.length > 8 ? `…${job.id.slice(-5)}` : job.id;
}

function drawStage(scene, block, stage, top) {
  const { context: c, view } = scene;
  const span = clip(view, stage.from, stage.to, 2);
  if (!span) return;
  const chosen = isChosen(scene, stage);
  box(c, span.x, top, span.w, ROW.stage - 2, chosen ? colours.ink : jobEdge(stage.job));
  c.globalAlpha = 0.75;
  box(c, span.x + 1, top + 1, Math.max(span.w - 2, 1), ROW.stage - 4, jobFill(stage.job));
  c.globalAlpha = 1;
  font(c, 9.5);
  const tries = `${stage.attempts} attempt${stage.attempts === 1 ? "" : "s"}${stage.failed ? `, ${stage.failed} failed` : ""}`;
  if (span.w >= 100 && !chosen) label(c, `stage ${stage.stage}: ${tries}`, span.x + 4, top + 8.4, span.w - 6, colours.ink);
  else if (span.w < 100) labelBeside(c, `${stage.stage}: ${tries}`, span, top + 8.4, xOf(view, block.next));
  hit(scene, span.x, top, span.w, ROW.stage, stage);
}
