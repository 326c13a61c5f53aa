// LAYOUT: which row everything is in, and how time becomes x. Rows depend on the data only, never on the zoom.

const GUTTER = 164, AXIS = 26;
const ROW = { fault: 13, life: 17, attempt: 14, op: 16, glyph: 13, net: 13, job: 17, stage: 13, phase: 15 };
const PAD = 5;

// Gives each item the first row in which nothing overlaps it (with `gap_us` between), and returns the number of rows.
function pack(items, gap_us, limit = Infinity) {
  const ends = [];
  for (const item of items) {
    let row = ends.findIndex((end) => end + gap_us <= item.from);
    if (row < 0) row = ends.length < limit ? ends.length : item.from % limit | 0;
    ends[row] = Math.max(ends[row] ?? 0, item.to);
    item.row = row;
  }
  return ends.length;
}

function layOut(data) {
  const layout = { lanes: [], blocks: [], top: {}, height: 0 };
  let y = AXIS + 2;
  layout.top.phases = y;
  y += data.phases.length ? ROW.phase : 0;
  layout.top.terms = y;
  y += data.reigns.length ? ROW.life : 0;
  const everywhere = data.faults.filter((fault) => fault.hosts.length === data.hosts.length || !fault.hosts.length);
  layout.top.faults = y;
  layout.top.everywhere = everywhere;
  layout.top.faultRows = pack(everywhere, data.end / 60, 6);
  y += layout.top.faultRows * ROW.fault + PAD;
  layout.top.end = y;
  for (const host of data.hosts) {
    const lane = layLane(data, host, y, everywhere);
    layout.lanes.push(lane);
    y += lane.height;
  }
  layout.jobsTop = y;
  y = layJobs(data, layout, y + 20);
  layout.height = y + 12;
  return layout;
}

function layLane(data, host, top, everywhere) {
  const mine = (record) => record.host === host.index;
  const faults = data.faults.filter((fault) => fault.hosts.includes(host.index) && !everywhere.includes(fault));
  const copies = faults.map((fault) => ({ fault, from: fault.from, to: fault.to }));
  const lane = { host, top, faults: copies, lives: data.lives.filter(mine), reigns: data.reigns.filter(mine), rows: {} };
  lane.attempts = data.attempts.filter(mine);
  lane.ops = data.ops.filter(mine);
  lane.events = data.events.filter(mine);
  let y = top + PAD;
  const add = (name, size, count) => {
    if (count) lane.rows[name] = { top: y, size, count };
    y += size * count;
  };
  add("faults", ROW.fault, pack(copies, data.end / 40, 4));
  add("life", ROW.life, lane.lives.length || host.role !== "client" ? 1 : 0);
  add("tasks", ROW.attempt, pack(lane.attempts, 0, 32));
  add("asks", ROW.op, pack(lane.ops, 0, 16));
  add("log", ROW.glyph, 1);
  if (data.net.at.length) add("messages", ROW.net, 1);
  lane.height = y + PAD - top;
  return lane;
}

// Jobs with their stages as blocks, which share rows where they don't overlap.
function layJobs(data, layout, top) {
  const blocks = data.jobs.map((job, index) => {
    const stages = data.stages.filter((stage) => stage.job === index);
    const to = Math.max(job.to, ...stages.map((stage) => stage.to));
    return { job, stages, from: job.from, to, height: ROW.job + stages.length * ROW.stage + 4 };
  });
  blocks.sort((a, b) => a.from - b.from);
  const count = pack(blocks, data.end / 8);
  const heights = new Array(count).fill(0);
  for (const block of blocks) heights[block.row] = Math.max(heights[block.row], block.height);
  const tops = [];
  let y = top;
  for (const height of heights) {
    tops.push(y);
    y += height;
  }
  // Where the next block of the same row begins, for labels beside short bars.
  const next = [];
  for (const block of [...blocks].reverse()) {
    block.top = tops[block.row];
    block.next = next[block.row] ?? Infinity;
    next[block.row] = block.from;
  }
  layout.blocks = blocks;
  return y;
}

// The visible window.
function makeView(data) {
  const margin = data.end * 0.01;
  return { from: -margin, to: data.end + margin, width: 0, height: 0, scroll: 0, cursor: null };
}

function xOf(view, time) {
  return GUTTER + ((time - view.from) / (view.to - view.from)) * (view.width - GUTTER);
}

function timeOf(view, x) {
  return view.from + ((x - GUTTER) / (view.width - GUTTER)) * (view.to - view.from);
}

function setWindow(data, view, from, to) {
  const margin = data.end * 0.01;
  const span = Math.min(Math.max(to - from, 50), data.end + 2 * margin);
  const middle = (from + to) / 2;
  view.from = Math.min(Math.max(middle - span / 2, -margin), data.end + margin - span);
  view.to = view.from + span;
}

// The step of the time axis: 1, 2 or 5 times a power of ten, with room for a label.
function niceStep(view) {
  const rough = ((view.to - view.from) / (view.width - GUTTER)) * 95;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((times) => times * power).find((step) => step >= rough);
}
