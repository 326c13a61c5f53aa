// Puts it together: data, layout, then draw whenever something changed.

function start() {
  const data = decode(JSON.parse(document.getElementById("chart").textContent));
  const plot = document.getElementById("plot");
  const scene = {
    data, plot, layout: layOut(data), view: makeView(data), hits: [], selected: null, hovered: null, drag: null, frame: null,
    ratio: window.devicePixelRatio || 1, context: plot.getContext("2d"), overview: document.getElementById("overview"),
    scroller: document.getElementById("scroller"), tip: document.getElementById("tip"),
    layers: { terms: true, faults: true, tasks: true, messages: true, marks: true, log: true },
  };
  scene.redraw = (what = "all") => redraw(scene, what);
  scene.resize = () => resize(scene);
  makeList(scene);
  document.getElementById("to-violation").hidden = !data.violation;
  const wished = readHash(scene);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  setTheme(scene, wished ?? (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", () => setTheme(scene, dark.matches ? "dark" : "light"));
  bindPlot(scene);
  bindOverview(scene);
  bindKeys(scene);
  window.addEventListener("hashchange", () => { readHash(scene); scene.redraw(); });
  new ResizeObserver(scene.resize).observe(scene.scroller);
  resize(scene);
  readHash(scene);
}

// Draws at once: a canvas loses its picture with its size.
function resize(scene) {
  const { view, plot, scroller, layout } = scene;
  const width = Math.max(scroller.clientWidth, GUTTER + 100), height = scroller.clientHeight;
  const ratio = window.devicePixelRatio || 1;
  if (width === view.width && height === view.height && ratio === scene.ratio) return;
  Object.assign(view, { width, height });
  scene.ratio = ratio;
  plot.width = width * ratio;
  plot.height = height * ratio;
  plot.style.width = `${width}px`;
  plot.style.height = `${height}px`;
  document.getElementById("spacer").style.height = `${Math.max(0, layout.height - height)}px`;
  scene.windowChanged = true;
  paint(scene);
}

// At most once a frame. `what` is "plot" if the window hasn't changed.
function redraw(scene, what) {
  if (what === "all") scene.windowChanged = true;
  scene.frame ??= requestAnimationFrame(() => {
    scene.frame = null;
    paint(scene);
  });
}

function paint(scene) {
  if (!scene.view.width || !scene.view.height) return;
  const began = performance.now();
  draw(scene);
  if (scene.windowChanged) windowChanged(scene);
  scene.windowChanged = false;
  document.documentElement.dataset.drawMs = (performance.now() - began).toFixed(1);
}

function windowChanged(scene) {
  const { view } = scene;
  drawOverview(scene);
  syncList(scene);
  const step = niceStep(view);
  const span = `${formatTime(Math.max(view.from, 0), step / 10)} to ${formatTime(view.to, step / 10)}, ${formatSpan(view.to - view.from)}`;
  document.getElementById("window").textContent = span;
  clearTimeout(scene.hashTimer);
  scene.hashTimer = setTimeout(() => writeHash(scene), 300);
}

start();
