// DRAW, tools: colours by theme, bars, labels, hatches and glyphs on a canvas.

const HUES = [212, 150, 275, 35, 185, 320, 95, 245];
let colours = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  colours = { hatches: new Map() };
  for (const name of ["bg", "panel", "ink", "dim", "line", "grid", "lane", "lane-alt", "life", "life-edge", "down", "lead", "lead-alt",
    "lead-ink", "fault", "fault-ink", "violation", "error", "warn", "ok", "accent", "failpoint", "mark", "log", "phase",
    "net-raft", "net-control", "net-shuffle", "net-client", "bar-s", "bar-l", "edge-s", "edge-l"]) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
  colours.font = getComputedStyle(document.body).fontFamily;
}

function jobFill(job) {
  return job < 0 ? colours.life : `hsl(${HUES[job % HUES.length]} ${colours["bar-s"]} ${colours["bar-l"]})`;
}

function jobEdge(job) {
  return job < 0 ? colours["life-edge"] : `hsl(${HUES[job % HUES.length]} ${colours["edge-s"]} ${colours["edge-l"]})`;
}

function font(context, size, weight = "") {
  context.font = `${weight} ${size}px ${colours.font}`;
}

// Diagonal stripes (`slash`), or crossed ones.
function hatch(context, colour, crossed = false) {
  const key = colour + crossed;
  if (!colours.hatches.has(key)) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 6;
    const c = tile.getContext("2d");
    c.strokeStyle = colour;
    c.lineWidth = 1.1;
    c.beginPath();
    for (const shift of [-6, 0, 6]) {
      c.moveTo(shift, 6); c.lineTo(shift + 6, 0);
      if (crossed) { c.moveTo(shift, 0); c.lineTo(shift + 6, 6); }
    }
    c.stroke();
    colours.hatches.set(key, context.createPattern(tile, "repeat"));
  }
  return colours.hatches.get(key);
}

const widths = new Map();

function textWidth(context, text) {
  const key = context.font + text;
  if (!widths.has(key)) {
    if (widths.size > 20000) widths.clear();
    widths.set(key, context.measureText(text).width);
  }
  return widths.get(key);
}

// Writes as much of `text` as fits into `room`; returns the width that it took.
function label(context, text, x, y, room, colour) {
  if (room < 9) return 0;
  let shown = text.length > 200 ? text.slice(0, 200) : text;
  let width = textWidth(context, shown);
  for (let keep = Math.floor((shown.length * room) / width); width > room; keep--) {
    if (keep < 2) return 0;
    shown = `${text.slice(0, keep - 1)}…`;
    width = textWidth(context, shown);
  }
  context.fillStyle = colour;
  context.fillText(shown, x, y);
  return width;
}

// Writes the first of `texts` that fits whole.
function labelBest(context, texts, x, y, room, colour) {
  const fits = texts.find((text) => textWidth(context, text) <= room);
  return fits ? label(context, fits, x, y, room + 1, colour) : 0;
}

// Beside a bar that is too short for its label, as far as `limit`.
function labelBeside(context, text, span, y, limit) {
  return label(context, text, span.x + span.w + 4, y, limit - span.x - span.w - 10, colours.dim);
}

// The part of a bar that is in the window; at least `least` wide, so that nothing short vanishes.
function clip(view, from, to, least = 2) {
  const left = xOf(view, from), right = Math.max(xOf(view, to), left + least);
  if (right < GUTTER || left > view.width) return null;
  const x = Math.max(left, GUTTER - 3);
  return { x, w: Math.min(right, view.width + 3) - x, left, right };
}

function box(context, x, y, w, h, fill, edge) {
  context.fillStyle = fill;
  context.fillRect(x, y, w, h);
  if (edge && w > 3) {
    context.strokeStyle = edge;
    context.lineWidth = 1;
    context.strokeRect(x + 0.5, y + 0.5, w - 1, h - 1);
  }
}

// A line that fades out to the right: it went on, but nobody knows how long.
function fadeRight(context, x, y, w, h, colour) {
  const reach = Math.min(w, 24);
  const gradient = context.createLinearGradient(x + w - reach, 0, x + w, 0);
  gradient.addColorStop(0, "transparent");
  gradient.addColorStop(1, colour);
  context.fillStyle = gradient;
  context.fillRect(x + w - reach, y, reach + 1, h);
}

const GLYPHS = {
  election(c, x, y, r) { c.moveTo(x, y - r); c.lineTo(x + r, y + r); c.lineTo(x - r, y + r); c.closePath(); c.fill(); },
  failpoint(c, x, y, r) { c.moveTo(x, y - r); c.lineTo(x + r, y); c.lineTo(x, y + r); c.lineTo(x - r, y); c.closePath(); c.fill(); },
  mark(c, x, y, r) { c.arc(x, y, r * 0.75, 0, 7); c.fill(); },
  skip(c, x, y, r) { c.arc(x, y, r * 0.8, 0, 7); c.moveTo(x - r * 0.6, y + r * 0.6); c.lineTo(x + r * 0.6, y - r * 0.6); c.stroke(); },
  cross(c, x, y, r) { c.moveTo(x - r, y - r); c.lineTo(x + r, y + r); c.moveTo(x + r, y - r); c.lineTo(x - r, y + r); c.stroke(); },
  tick(c, x, y, r) { c.moveTo(x - r, y); c.lineTo(x - r * 0.2, y + r * 0.8); c.lineTo(x + r, y - r * 0.9); c.stroke(); },
  bolt(c, x, y, r) { c.moveTo(x + r * 0.4, y - r * 1.2); c.lineTo(x - r * 0.7, y + r * 0.2); c.lineTo(x, y + r * 0.2); c.lineTo(x - r * 0.4, y + r * 1.2); c.lineTo(x + r * 0.7, y - r * 0.2); c.lineTo(x, y - r * 0.2); c.closePath(); c.fill(); },
  stop(c, x, y, r) { c.rect(x - r * 0.8, y - r * 0.8, r * 1.6, r * 1.6); c.stroke(); },
  question(c, x, y, r) { c.fillText("?", x - r * 0.7, y + r); },
};

function glyph(context, name, x, y, r, colour) {
  context.fillStyle = context.strokeStyle = colour;
  context.lineWidth = 1.6;
  context.beginPath();
  GLYPHS[name](context, x, y, r);
}
