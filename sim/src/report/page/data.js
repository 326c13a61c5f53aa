// DATA: the embedded arrays as records, in order of time. Times are simulated microseconds.

const LIFE_END = ["up until the end", "crashed: memory lost, disk kept", "lost power: unsynced writes lost", "its process ended by itself", "refuses to run until somebody acts"];
const ATTEMPT_END = ["still running at the end of the trace", "completed", "failed", "stopped: nobody wanted it any more", "lost with its host"];
const JOB_END = ["not ended in this trace", "succeeded", "failed", "cancelled"];
const OP_END = ["not answered in this trace", "answered", "failed", "unknown: the client can't tell", "cancelled", "abandoned on purpose", "WRONG ANSWER", "lost with its client"];
const NET_KIND = ["connected", "refused", "sent", "closed"];
const SENT = 2, REFUSED = 1;

function decode(raw) {
  const data = { meta: raw.meta, violation: raw.violation, end: Math.max(raw.meta.end_us, 1), texts: raw.texts };
  data.hosts = records(raw.hosts, "host", raw.columns.hosts);
  data.hosts.forEach((host, index) => Object.assign(host, { index, short: shortName(host.name, host.role) }));
  for (const kind of ["lives", "reigns", "faults", "phases", "attempts", "jobs", "stages", "ops"]) {
    data[kind] = records(raw[kind], kind === "lives" ? "life" : kind.slice(0, -1), raw.columns[kind]);
  }
  data.net = decodeNet(raw.net);
  data.events = decodeEvents(raw, data.hosts);
  if (data.violation) data.violation = { type: "violation", ...data.violation };
  return data;
}

function records(rows, type, names) {
  return rows.map((row) => {
    const record = { type };
    names.forEach((name, i) => { record[name] = row[i]; });
    return record;
  });
}

function decodeNet(raw) {
  let at = 0;
  const times = Float64Array.from(raw.at, (delta) => (at += delta));
  return { at: times, from: Int16Array.from(raw.from), to: Int16Array.from(raw.to), kind: Uint8Array.from(raw.kind), bytes: Uint32Array.from(raw.bytes) };
}

function decodeEvents(raw, hosts) {
  let at = 0;
  return records(raw.events, "event", raw.columns.events).map((event, index) => {
    at += event.since;
    const who = event.host < 0 ? "" : hosts[event.host].short;
    return Object.assign(event, { index, at, kind: raw.kinds[event.kind], text: raw.texts[event.text], who });
  });
}

function shortName(name, role) {
  const number = name.slice(name.lastIndexOf("-") + 1);
  return ["scheduler", "executor", "client"].includes(role) ? role[0] + number : name.slice(0, 4);
}

// Index of the first of `items` (by time `at`) that isn't before `time`.
function lowerBound(count, timeOf, time) {
  let low = 0, high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (timeOf(middle) < time) low = middle + 1; else high = middle;
  }
  return low;
}

// `12.345 s`, with as many digits as `step_us` needs.
function formatTime(us, step_us = 1000) {
  const digits = Math.min(6, Math.max(0, Math.ceil(-Math.log10(step_us / 1e6) - 1e-9)));
  return `${(us / 1e6).toFixed(digits)} s`;
}

function formatSpan(us) {
  if (us >= 1e6) return `${(us / 1e6).toFixed(us >= 1e7 ? 1 : 2)} s`;
  return us >= 1e4 ? `${Math.round(us / 1000)} ms` : us >= 1000 ? `${(us / 1000).toFixed(1)} ms` : `${Math.round(us)} µs`;
}

function formatBytes(bytes) {
  return bytes >= 1 << 20 ? `${(bytes / (1 << 20)).toFixed(1)} MiB` : bytes >= 1 << 10 ? `${(bytes / (1 << 10)).toFixed(1)} KiB` : `${bytes} B`;
}
