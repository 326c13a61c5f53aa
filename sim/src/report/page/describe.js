// INTERACT, words: what is under the mouse, as a title and lines of [name, value].

const DESCRIBE = {
  life: (data, it) => [`${data.hosts[it.host].name}, life ${it.life}`,
    [["started", at(it.from)], ["until", at(it.to)], ["for", formatSpan(it.to - it.from)], ["end", LIFE_END[it.end]], ["reason", it.why]]],
  down: (data, it) => [`${data.hosts[it.host].name} is down`,
    [["since", at(it.from)], ["until", at(it.to)], ["for", formatSpan(it.to - it.from)], ["because", LIFE_END[it.end]]]],
  reign: (data, it) => [`${data.hosts[it.host].name} leads, term ${it.term}`,
    [["elected", at(it.from)], ["until", `${at(it.to)}: ${it.until}`], ["its log", `ends at index ${it.last_index} of term ${it.last_term}`]]],
  fault: (data, it) => [`Fault ${it.id}: ${it.name}`,
    [["hits", it.target || "everybody"], ["hosts", hostNames(data, it.hosts)], ["began", at(it.from)],
      ["ended", it.open ? "not within the trace" : at(it.to)], ["for", formatSpan(it.to - it.from)]]],
  phase: (data, it) => [it.name, [["from", at(it.from)], ["to", at(it.to)], ["for", formatSpan(it.to - it.from)]]],
  attempt: (data, it) => [`Task ${it.stage}/${it.partition}, attempt ${it.attempt}`,
    [["on", data.hosts[it.host].name], ["end", ATTEMPT_END[it.end]], ["job", jobName(data, it.job)], ["stage", it.stage],
      ["partition", it.partition], ["launched", it.launched < 0 ? "" : at(it.launched)], ["started", at(it.from)],
      ["ended", it.end ? at(it.to) : ""], ["ran for", formatSpan(it.to - it.from)]]],
  job: (data, it) => [`Job ${it.id}`,
    [["end", JOB_END[it.end] + (it.why && it.why.length < 30 ? `, ${it.why}` : "")], ["submitted", at(it.from)], ["ended", it.end ? at(it.to) : ""],
      ["took", formatSpan(it.to - it.from)], ["", it.what], ["", it.why.length < 30 ? "" : it.why]]],
  stage: (data, it) => [`Stage ${it.stage} of job ${data.jobs[it.job].id}`,
    [["first launch", at(it.from)], ["last end", at(it.to)], ["took", formatSpan(it.to - it.from)], ["attempts", it.attempts],
      ["completions", it.completed], ["failed", it.failed || ""]]],
  op: (data, it) => [`Op ${it.op} of ${data.hosts[it.host].name}`,
    [["end", OP_END[it.end]], ["invoked", at(it.from)], ["accepted", it.accepted < 0 ? "never" : at(it.accepted)],
      ["ended", it.end ? at(it.to) : ""], ["took", formatSpan(it.to - it.from)], ["job", it.job < 0 ? "" : data.jobs[it.job].id], ["", it.what], ["", it.text]]],
  net: (data, it) => [`Message: ${NET_KIND[data.net.kind[it.index]]}`,
    [["at", at(data.net.at[it.index])], ["from", hostNames(data, [data.net.from[it.index]])], ["to", hostNames(data, [data.net.to[it.index]])],
      ["bytes", data.net.kind[it.index] === SENT ? formatBytes(data.net.bytes[it.index]) : ""]]],
  traffic: (data, it) => [`Messages of ${data.hosts[it.host].name}`,
    [["here", `${it.count ?? 0} sent, connected or closed`], ["refused", it.refusedHere || ""], ["", "Zoom in to see each one as an arrow to its receiver."]]],
  event: (data, it) => [`${it.kind}${it.host < 0 ? "" : ` on ${data.hosts[it.host].name}`}`, [["at", at(it.at)], ["", it.text]]],
  violation: (data, it) => [`Violation: ${it.oracle}`, [["found", at(it.at_us)], ["", it.what]]],
};

function at(us) {
  return formatTime(us, 1);
}

function hostNames(data, indices) {
  return indices.map((index) => data.hosts[index]?.name ?? "somebody else").join(", ");
}

function jobName(data, index) {
  return index < 0 ? "" : data.jobs[index].id;
}

function describe(scene, item) {
  const [title, lines] = DESCRIBE[item.type](scene.data, item);
  return { title, lines: lines.filter(([, value]) => value !== "" && value !== undefined) };
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function definitionList(lines) {
  const list = element("dl", {});
  for (const [name, value] of lines) {
    if (name) list.append(element("dt", {}, name), element("dd", {}, String(value)));
    else list.append(element("dd", { className: "text mono" }, String(value)));
  }
  return list;
}

function showDetails(scene) {
  const panel = document.getElementById("details");
  if (!scene.selected) return panel.replaceChildren(legend());
  const { title, lines } = describe(scene, scene.selected);
  const close = element("button", { title: "Back to the legend (Esc)" }, "×");
  close.addEventListener("click", () => select(scene, null));
  panel.replaceChildren(element("h2", {}, title, close), definitionList(lines));
}

function showSchedule(scene) {
  const panel = document.getElementById("details");
  const blob = new Blob([scene.data.meta.schedule], { type: "text/plain" });
  const save = element("a", { href: URL.createObjectURL(blob), download: `seed-${scene.data.meta.seed}.toml` }, "Save it as a file");
  const close = element("button", { title: "Back (Esc)" }, "×");
  close.addEventListener("click", () => showDetails(scene));
  const how = element("p", { style: "margin:0 0 4px" }, save, ", then replay it with ", element("code", {}, "polybolos-sim replay FILE"), ".");
  panel.replaceChildren(element("h2", {}, "The schedule of this run", close), how, definitionList([["", scene.data.meta.schedule]]));
}

function showTip(scene, x, y) {
  const tip = scene.tip;
  if (!scene.hovered) return (tip.hidden = true);
  const { title, lines } = describe(scene, scene.hovered);
  const short = lines.map(([name, value]) => [name, String(value).length > 300 ? `${String(value).slice(0, 300)}…` : value]);
  tip.replaceChildren(element("b", {}, title), definitionList(short), element("div", { className: "more" }, "click to pin"));
  tip.hidden = false;
  const box = tip.parentElement.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, box.width - tip.offsetWidth - 8))}px`;
  tip.style.top = `${y + tip.offsetHeight + 24 > box.height ? Math.max(4, y - tip.offsetHeight - 12) : y + 16}px`;
}
