// DRAW, overview: the whole run in a strip, with the visible window. Drag in it to choose a window.

function drawOverview(scene) {
  const canvas = scene.overview, data = scene.data, view = scene.view;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * scene.ratio;
  canvas.height = height * scene.ratio;
  const c = canvas.getContext("2d");
  c.setTransform(scene.ratio, 0, 0, scene.ratio, 0, 0);
  const x = (time) => GUTTER + ((time + data.end * 0.01) / (data.end * 1.02)) * (width - GUTTER);
  box(c, 0, 0, width, height, colours.panel);
  c.globalAlpha = 0.3;
  for (const fault of data.faults) box(c, x(fault.from), 0, Math.max(1.5, x(fault.to) - x(fault.from)), height, colours.fault);
  c.globalAlpha = 1;
  drawDensity(scene, c, x, width, height);
  for (const reign of data.reigns) box(c, x(reign.from), 1, Math.max(1, x(reign.to) - x(reign.from) - 1), 4, reign.term % 2 ? colours.lead : colours["lead-alt"]);
  if (data.violation) box(c, x(data.violation.at_us) - 1, 0, 2, height, colours.violation);
  const left = x(view.from), right = x(view.to);
  c.globalAlpha = 0.55;
  box(c, GUTTER, 0, Math.max(0, left - GUTTER), height, colours.panel);
  box(c, right, 0, Math.max(0, width - right), height, colours.panel);
  c.globalAlpha = 1;
  c.strokeStyle = colours.accent;
  c.lineWidth = 1.5;
  c.strokeRect(left + 0.75, 0.75, Math.max(right - left - 1.5, 2), height - 1.5);
  box(c, 0, 0, GUTTER, height, colours.panel);
  font(c, 11);
  c.textAlign = "right";
  c.fillStyle = colours.dim;
  c.fillText("whole run: drag to zoom", GUTTER - 7, 21);
  c.textAlign = "left";
}

// How much happened when, warnings in their colour.
function drawDensity(scene, c, x, width, height) {
  const columns = Math.ceil((width - GUTTER) / 3) + 1;
  const all = new Uint32Array(columns), grave = new Uint32Array(columns);
  for (const event of scene.data.events) {
    const column = Math.floor((x(event.at) - GUTTER) / 3);
    if (event.kind === "log" && event.grade >= 3) grave[column]++; else all[column]++;
  }
  const most = Math.max(1, ...all);
  for (let i = 0; i < columns; i++) {
    const h = Math.sqrt(all[i] / most) * (height - 9);
    if (all[i]) box(c, GUTTER + i * 3, height - h, 2.5, h, colours.log);
    if (grave[i]) box(c, GUTTER + i * 3, height - 4, 2.5, 4, colours.warn);
  }
}
