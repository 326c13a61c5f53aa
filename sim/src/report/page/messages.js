// DRAW, messages: arrows between lanes when few are in sight, else how many a host sends at a time.

const MAX_ARROWS = 900;

function netColour(data, from, to) {
  const roles = [data.hosts[from]?.role, data.hosts[to]?.role];
  if (roles.includes("client")) return colours["net-client"];
  if (roles[0] === "scheduler" && roles[1] === "scheduler") return colours["net-raft"];
  return roles.includes("scheduler") ? colours["net-control"] : colours["net-shuffle"];
}

function visibleNet(scene) {
  const { data: { net }, view } = scene;
  const time = (i) => net.at[i];
  const xs = { from: lowerBound(net.at.length, time, view.from), to: lowerBound(net.at.length, time, view.to) };
  return xs;
}

function drawMessages(scene) {
  const range = visibleNet(scene);
  scene.arrows = range.to - range.from <= MAX_ARROWS;
  if (scene.arrows) drawArrows(scene, range); else drawTraffic(scene, range);
}

function netRowTop(scene, host) {
  return scene.layout.lanes[host]?.rows.messages?.top;
}

function drawArrows(scene, range) {
  const { context: c, view, data } = scene;
  for (let i = range.from; i < range.to; i++) {
    const from = data.net.from[i], to = data.net.to[i], kind = data.net.kind[i];
    const start = netRowTop(scene, from), end = netRowTop(scene, to);
    const x = xOf(view, data.net.at[i]);
    if (start === undefined) continue;
    const y = start + 6;
    const item = { type: "net", index: i };
    const chosen = scene.hovered?.type === "net" && scene.hovered.index === i;
    const colour = chosen ? colours.ink : kind === REFUSED ? colours.error : netColour(data, from, to);
    c.globalAlpha = chosen ? 1 : 0.5;
    if (end !== undefined && end !== start && (kind === SENT || chosen)) drawArrow(c, x, y, end + 6, colour);
    c.globalAlpha = 1;
    drawNetDot(c, x, y, kind, colour, data.net.bytes[i]);
    hit(scene, x - 3, start, 6, ROW.net, item);
  }
}

function drawArrow(c, x, y, end, colour) {
  const way = Math.sign(end - y), tip = end - way * 4;
  c.strokeStyle = c.fillStyle = colour;
  c.lineWidth = 1;
  c.beginPath(); c.moveTo(x, y); c.lineTo(x, tip); c.stroke();
  c.beginPath(); c.moveTo(x, end); c.lineTo(x - 3, end - way * 6); c.lineTo(x + 3, end - way * 6); c.closePath(); c.fill();
}

function drawNetDot(c, x, y, kind, colour, bytes) {
  if (kind === REFUSED) return glyph(c, "cross", x, y, 3.4, colours.error);
  c.fillStyle = c.strokeStyle = colour;
  c.lineWidth = 1.2;
  c.beginPath();
  if (kind === SENT) c.arc(x, y, Math.min(1.6 + Math.log10(bytes + 1) * 0.4, 4), 0, 7);
  else c.arc(x, y, 2.6, 0, 7);
  if (kind === SENT) c.fill(); else c.stroke();
}

// Columns of 3 pixels: the taller, the more messages; refused connections in red below.
function drawTraffic(scene, range) {
  const { context: c, view, data } = scene;
  const step = 3, columns = Math.ceil((view.width - GUTTER) / step) + 1;
  const counts = data.hosts.map(() => new Uint32Array(columns));
  const refused = data.hosts.map(() => new Uint32Array(columns));
  const scale = (view.width - GUTTER) / (view.to - view.from) / step;
  for (let i = range.from; i < range.to; i++) {
    const from = data.net.from[i];
    if (from < 0) continue;
    const column = Math.floor((data.net.at[i] - view.from) * scale);
    if (data.net.kind[i] === REFUSED) refused[from][column]++; else counts[from][column]++;
  }
  let most = 1;
  for (const host of counts) for (const count of host) most = Math.max(most, count);
  data.hosts.forEach((host) => {
    const top = netRowTop(scene, host.index);
    if (top === undefined || !isVisible(scene, top, ROW.net)) return;
    drawColumns(c, counts[host.index], refused[host.index], top, step, most, host.role === "scheduler" ? colours["net-raft"] : host.role === "client" ? colours["net-client"] : colours["net-shuffle"]);
    hit(scene, GUTTER, top, view.width - GUTTER, ROW.net, { type: "traffic", host: host.index, counts: counts[host.index], refused: refused[host.index], step });
  });
}

function drawColumns(c, counts, refused, top, step, most, colour) {
  const full = ROW.net - 2;
  c.globalAlpha = 0.75;
  for (let i = 0; i < counts.length; i++) {
    if (counts[i]) {
      const h = Math.max(1, full * Math.sqrt(counts[i] / most));
      c.fillStyle = colour;
      c.fillRect(GUTTER + i * step, top + full - h, step - 0.5, h);
    }
    if (refused[i]) {
      c.fillStyle = colours.error;
      c.fillRect(GUTTER + i * step, top + full - 1, step, 2.5);
    }
  }
  c.globalAlpha = 1;
}
