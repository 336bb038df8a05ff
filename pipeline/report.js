// The page: summary, entity picker, incident list, one entity's series, one incident's evidence.

const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const truthText = (kind) => (kind === "documented" ? "documented event" : words(kind));
const tiers = { 1: "watch", 2: "alert" };
const state = { stream: null, entity: null, incident: null, all: false, tier: 0 };
const redraws = new Map();

function tone(incident) {
  if (incident.kind !== "anomaly") return incident.tier >= 2 && incident.severity === "critical" ? "alert" : "other";
  return incident.tier >= 2 ? "alert" : "watch";
}

const streamOf = (name) => DATA.streams.find((s) => s.name === name);
const entityOf = (stream, name) => stream && stream.entities.find((e) => e.name === name);
const count = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;

function incidentsOf(stream, entity) {
  return DATA.incidents.filter((i) => i.stream === stream && (i.entity === entity || !entityOf(streamOf(stream), i.entity)));
}

function listed() {
  const some = state.all ? DATA.incidents : incidentsOf(state.stream, state.entity);
  return some.filter((i) => state.tier === 0 || i.tier === state.tier);
}

function showSummary() {
  byId("title").textContent = DATA.title;
  byId("subtitle").textContent = DATA.subtitle;
  byId("subtitle").hidden = !DATA.subtitle;
  if (!DATA.summary.length) return;
  const head = [["Stream"], ["Incidents", 1], ["Found of known", 1], ["False alerts", 1], ["Model"], ["Readings/s", 1]];
  const body = DATA.summary.map((row) => node("tr", {},
    node("td", { class: "strong" }, row.stream, " ", row.simulated ? node("span", { class: "tag" }, "simulated") : null),
    node("td", { class: "num" }, String(row.incidents)),
    node("td", { class: "num" }, row.known === null ? "–" : `${row.found} of ${row.known}`),
    node("td", { class: "num" }, row.false_alerts === null ? "–" : String(row.false_alerts), row.promised === null ? "" : node("span", { class: "faint" }, ` / ${number(row.promised)} allowed`)),
    node("td", { class: "muted" }, row.model || "–"),
    node("td", { class: "num" }, row.readings_per_s === null ? "–" : Math.round(row.readings_per_s).toLocaleString("en"))));
  const header = node("tr", {}, ...head.map(([text, right]) => node("th", { scope: "col", class: right ? "num" : null }, text)));
  byId("summary").append(node("table", {}, node("thead", {}, header), node("tbody", {}, ...body)));
  byId("summary").hidden = false;
}

function fillPicker() {
  const picker = byId("entity");
  for (const stream of DATA.streams) {
    const group = node("optgroup", { label: stream.name + (stream.simulated ? " (simulated)" : "") });
    for (const entity of stream.entities) {
      const n = incidentsOf(stream.name, entity.name).length;
      group.append(node("option", { value: JSON.stringify([stream.name, entity.name]) }, n ? `${entity.name} · ${count(n, "incident")}` : entity.name));
    }
    picker.append(group);
  }
  picker.addEventListener("change", () => go({ place: JSON.parse(picker.value) }));
  byId("all").addEventListener("change", (event) => { state.all = event.target.checked; showList(); });
  for (const [tier, text] of [[0, "All"], [2, "Alerts"], [1, "Watches"]]) {
    byId("kinds").append(node("button", { class: "chip", type: "button", "data-tier": tier, onclick: () => { state.tier = tier; showList(); } }, text));
  }
}

function showList() {
  for (const chip of byId("kinds").children) chip.setAttribute("aria-pressed", String(Number(chip.dataset.tier) === state.tier));
  const items = listed().map((i) => node("li", {},
    node("button", { class: `item ${tone(i)}`, type: "button", "data-id": i.id, "aria-current": String(i.id === state.incident), onclick: () => go({ incident: i.id }) },
      node("span", { class: i.tier >= 2 ? "dot" : "dot hollow", "aria-hidden": "true" }),
      node("b", {}, words(i.kind), i.name ? ` · ${i.name}` : ""),
      node("span", { class: "when" }, moment(i.opened)),
      node("span", { class: "sub" }, [tiers[i.tier] || "", state.all ? i.entity : "", i.finds ? `found: ${truthText(i.finds.kind)}` : i.reason].filter(Boolean).join(" · ")))));
  const nothing = state.all ? "Nothing was raised." : "Nothing was raised for this entity.";
  byId("incidents").replaceChildren(...(items.length ? items : [node("li", { class: "empty" }, state.tier ? "None of this tier." : nothing)]));
  if (DATA.hidden) byId("incidents").append(node("li", { class: "empty" }, `${count(DATA.hidden, "lesser incident")} left out of this page.`));
}

function legend(hasKnown) {
  const key = (style, text) => node("span", {}, node("i", { style }), text);
  return node("div", { class: "legend" },
    key("background:var(--series);height:3px", "observed"), key("background:var(--band)", DATA.coverage ? `expected (${Math.round(DATA.coverage * 100)} %)` : `expected, ± ${number(DATA.band)} spreads`),
    key("background:var(--watch-fill);box-shadow:inset 0 2px var(--watch)", "watch"), key("background:var(--alert-fill);box-shadow:inset 0 2px var(--alert)", "alert"),
    key("background:var(--other-fill);box-shadow:inset 0 2px var(--other)", "limit, silence, stuck"),
    hasKnown ? key("background:var(--good)", "planted or documented, found") : null, hasKnown ? key("box-shadow:inset 0 0 0 1.5px var(--alert)", "missed") : null);
}

function readLine(host, stream, part, i, thinned) {
  if (i < 0) return host.replaceChildren(thinned ? `Each pixel shows the least and greatest of ${count(part.width, "step")}.` : "Point at the chart to read values.");
  const values = stream.channels.flatMap((channel, c) => {
    const p = part.channels[c], low = p.lo[i], high = p.hi ? p.hi[i] : null;
    const text = high !== null && high !== low ? `${number(low)}…${number(high)}` : number(low);
    return [`  ·  ${channel.name} `, node("b", {}, text)];
  });
  host.replaceChildren(node("b", {}, moment(part.t[i])), "  ·  score ", node("b", {}, number(part.score[i])), ...values);
}

function spans(stream, some, end) {
  return some.map((i) => ({ id: i.id, from: i.opened - stream.step, to: i.resolved === null ? end : i.resolved, tone: tone(i), title: `${words(i.kind)} · ${moment(i.opened)}\n${i.reason}` }));
}

function showSeries() {
  const stream = streamOf(state.stream), entity = entityOf(stream, state.entity), host = byId("series");
  if (!entity) return host.replaceChildren(node("p", { class: "empty" }, "Nothing was recorded."));
  const chart = node("div", { class: "chart" }), readout = node("div", { class: "readout" });
  host.replaceChildren(
    node("div", { class: "series-head" }, node("h2", { id: "series-title" }, entity.name), node("span", { class: "faint" }, `${stream.name} · ${count(entity.steps, "step")} of ${duration(stream.step)}${stream.simulated ? " · simulated" : ""}`)),
    legend(entity.known.length > 0), readout, chart);
  const thinned = entity.width > 1;
  readLine(readout, stream, entity, -1, thinned);
  redraws.set("series", () => stackedChart(chart, chart.clientWidth, {
    t: entity.t, until: entity.until, step: stream.step, channels: entity.channels, names: stream.channels, score: entity.score, known: entity.known,
    tall: entity.channels.length < 3 ? 150 : 92,
    marks: spans(stream, incidentsOf(stream.name, entity.name), entity.until), onPick: (id) => go({ incident: id, reveal: true }),
    onRead: (i) => readLine(readout, stream, entity, i, thinned), label: `Series of ${entity.name}, expected band, incidents and score`,
  }));
  redraws.get("series")();
}

function bars(rows) {
  return node("div", { class: "bars" }, ...rows.flatMap((row) => [
    node("span", { class: "who" }, row.name),
    node("span", { class: "track", role: "img", "aria-label": `${row.name}: ${row.text}` }, node("span", { class: "fill", style: `width:${Math.min(100, row.size * 100)}%` }), row.mark ? node("span", { class: "mark", style: `left:${row.mark * 100}%` }) : null),
    node("span", { class: "value" }, row.text)]));
}

function shares(incident, stream) {
  const sides = { "1": " above", "-1": " below", "0": "" };
  const order = incident.moment.share.map((s, c) => [s || 0, c]).sort((a, b) => b[0] - a[0]);
  const rows = order.map(([s, c]) => ({ name: stream.channels[c].name, size: s, text: `${Math.round(s * 100)} %${s > 0.005 ? sides[incident.moment.sign[c]] || "" : ""}` }));
  return node("div", {}, node("h3", {}, "Share of each channel"), bars(rows), node("p", { class: "hint" }, "How much of the evidence each channel brought, and on which side of the expectation it lay."));
}

function witnesses(incident, stream) {
  const names = stream.witnesses.length ? stream.witnesses : Object.keys(incident.explanation.witnesses || {});
  const scores = incident.moment.witness.map((w) => w || 0), most = Math.max(1.25, ...scores);
  const rows = scores.map((w, v) => ({ name: words(names[v] || `witness ${v + 1}`), size: w / most, mark: 1 / most, text: w.toFixed(2) }));
  return node("div", {}, node("h3", {}, "Score of each witness"), bars(rows), node("p", { class: "hint" }, "All on one scale; the red mark at 1 is the boundary of the false-alarm budget."));
}

// The channels, those that the incident is about first.
function ranked(incident, stream) {
  const about = (c) => (stream.channels[c].key === (incident.explanation.channel || incident.name) ? 2 : incident.moment ? incident.moment.share[c] || 0 : 0);
  return stream.channels.map((_, c) => c).sort((a, b) => about(b) - about(a));
}

function seen(incident, stream) {
  const zoom = incident.zoom, at = nearest(zoom.t, incident.opened), from = Math.max(0, at - zoom.seen + 1);
  const columns = ranked(incident, stream).slice(0, innerWidth < 1200 ? 3 : 4);
  const cell = (c, i) => {
    const p = zoom.channels[c], v = p.lo[i], out = v !== null && p.l[i] !== null && (v < p.l[i] || v > p.u[i]);
    const band = p.l[i] === null ? "" : node("span", { class: "of" }, ` in ${brief(p.l[i])}…${brief(p.u[i])}`);
    return node("td", { class: "num" }, node("span", { class: out ? "out" : null }, v === null ? "missing" : number(v)), band);
  };
  const rows = [];
  for (let i = from; i <= at; i++) rows.push(node("tr", { class: i === at ? "now" : null }, node("td", {}, moment(zoom.t[i])), ...columns.map((c) => cell(c, i)), node("td", { class: "num" }, (zoom.score[i] || 0).toFixed(2))));
  const head = node("tr", {}, node("th", {}, "Time (UTC)"), ...columns.map((c) => node("th", { class: "num", scope: "col" }, stream.channels[c].name)), node("th", { class: "num", scope: "col" }, "score"));
  return node("div", { class: "block" }, node("h3", {}, "What the model saw when it fired"), node("div", { class: "scroll" }, node("table", { class: "seen" }, node("thead", {}, head), node("tbody", {}, ...rows))),
    node("p", { class: "hint" }, "Observed values and the band forecast for them one step before; red lies outside. The last line is the step at which the incident opened."));
}

function heat(incident, stream) {
  const title = node("h3", {}, "Attention over past moments"), map = incident.moment && incident.moment.attention;
  if (!map || !map.w.length) return node("div", { class: "block" }, title, node("p", { class: "empty" }, "No attention was recorded for this incident: no trained network was at work yet, or the incident needs none (silence, limits)."));
  const rows = map.rows.length, columns = map.at.length;
  // Order the columns by kind, oldest moment first, so that time runs left to right within each group.
  const rank = { lag: 0, recent: 1, neighbour: 2, example: 3 };
  const order = [...map.at.keys()].sort((a, b) => (rank[map.kinds[a]] ?? 9) - (rank[map.kinds[b]] ?? 9) || (map.kinds[a] === "recent" || map.kinds[a] === "lag" ? map.at[b] - map.at[a] : map.at[a] - map.at[b]));
  const flat = map.w.flat().sort((a, b) => a - b), top = flat[Math.floor((flat.length - 1) * 0.995)] || flat[flat.length - 1] || 1;
  const canvas = node("canvas", { role: "img", "aria-label": `Attention weights, ${rows} steps by ${columns} positions` }), scale = node("canvas", { "aria-hidden": "true" });
  const plot = node("div", { class: "plot" }, canvas), labels = node("div", { class: "rows" }), below = node("div", { class: "cols" });
  const tip = node("div", { class: "readout" }, "Point at the map to read a weight.");
  const narrow = innerWidth < 620;
  // A group of a few columns gets an eighth of the width all the same: seven lags matter as much as fifty moments.
  const kindOf = (c) => map.kinds[order[c]], sizes = {};
  for (const kind of map.kinds) sizes[kind] = (sizes[kind] || 0) + 1;
  const weightOf = (kind) => Math.max(1, columns / (narrow ? 4 : 8) / sizes[kind]);
  const total = map.kinds.reduce((sum, kind) => sum + weightOf(kind), 0), edges = [0];
  for (let c = 0; c < columns; c++) edges.push(edges[c] + weightOf(kindOf(c)) / total);
  const here = (r) => ((r + 0.5) / rows) * 100, fired = nearest(map.rows, incident.opened);
  const every = Math.max(1, Math.ceil(rows / 9));
  for (let r = 0; r < rows; r++) if (r === fired || (r % every === 0 && Math.abs(r - fired) >= Math.ceil(every * 0.7))) labels.append(node("span", { class: r === fired ? "now" : null, style: `top:${here(r)}%` }, r === fired ? `fired ${clock(map.rows[r])}` : clock(map.rows[r])));
  plot.append(node("div", { class: "line", style: `top:${(fired / rows) * 100}%` }), node("div", { class: "line", style: `top:${((fired + 1) / rows) * 100}%` }));
  const names = narrow ? { lag: "lags", recent: "recent", neighbour: "nearby", example: "past" }
    : { lag: "set lags", recent: "recent moments", neighbour: "neighbours", example: "past examples" };
  for (let a = 0; a < columns;) {
    let b = a;
    while (b < columns && map.kinds[order[b]] === map.kinds[order[a]]) b++;
    const kind = map.kinds[order[a]], timed = kind === "recent" || kind === "lag", edge = (k) => (timed ? `−${duration(map.at[order[k]] * stream.step)}` : "");
    if (a > 0) plot.append(node("div", { class: "split", style: `left:${edges[a] * 100}%` }));
    const share = edges[b] - edges[a], at = `left:${edges[a] * 100}%;max-width:${share * 100}%`;
    below.append(node("i", { style: `left:calc(${edges[a] * 100}% + 1px);width:calc(${share * 100}% - 3px)` }));
    below.append(node("span", { class: "group", title: names[kind] || kind, style: at }, names[kind] || words(kind)));
    if (timed) below.append(node("span", { style: at }, edge(a)));
    if (timed && share > 0.28) below.append(node("span", { style: `right:calc(${100 - edges[b] * 100}% + 4px)` }, edge(b - 1)));
    a = b;
  }
  const draw = () => { paint(canvas, edges, rows, (r, c) => map.w[r][order[c]] / top); paint(scale, Array.from({ length: 65 }, (_, c) => c / 64), 1, (_, c) => c / 63); };
  redraws.set("heat", draw);
  draw();
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect(), c = order[Math.min(columns - 1, nearest(edges, (event.clientX - box.left) / box.width))], r = Math.min(rows - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * rows)));
    const what = map.kinds[c] === "recent" || map.kinds[c] === "lag" ? `${duration(map.at[c] * stream.step)} before` : `${map.kinds[c]} ${map.at[c] + 1}`;
    tip.replaceChildren(node("b", {}, moment(map.rows[r])), "  looked at  ", node("b", {}, what), "  with weight ", node("b", {}, number(map.w[r][c])));
  });
  return node("div", { class: "block" }, title, tip, node("div", { class: "heat", style: "margin-top:6px" }, labels, plot, below),
    node("div", { class: "scale" }, "weight 0", scale, `${brief(top)} or more`, node("span", {}, `· uniform would be ${brief(1 / columns)}`)),
    node("p", { class: "hint" }, "Each row is a forecast, from the steps before the incident down to those after it; each column is something the network could look back at."));
}

function explained(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return number(value);
  if (Array.isArray(value)) return value.map(explained).join(" · ");
  if (typeof value === "object") return Object.entries(value).map(([k, v]) => `${words(k)} ${explained(v)}`).join("; ");
  return String(value);
}

// What the alert message says of memory: the nearest example in words, the strongest attention by name.
function memory(incident, stream) {
  const near = incident.explanation.nearest, strongest = Array.isArray(incident.explanation.attention) ? incident.explanation.attention : [];
  const parts = [];
  if (near && near.time) {
    const channel = stream && stream.channels.find((c) => c.key === near.channel), name = channel ? channel.name : near.channel;
    parts.push(node("div", {}, node("h3", {}, "Nearest example"), node("p", {}, "The remembered moment most like this one is ", node("b", {}, `${moment(Date.parse(near.time) / 1000)} UTC`), `, at distance ${number(near.distance)}`, name ? `. It differs most in ${name}.` : "."),
      node("p", { class: "hint" }, "The larger the distance, the less this moment is like anything on record.")));
  }
  if (strongest.length) {
    const most = Math.max(...strongest.map((m) => m.weight || 0), 1e-9);
    parts.push(node("div", {}, node("h3", {}, "What it looked at most"), bars(strongest.slice(0, 6).map((m) => ({ name: m.text, size: (m.weight || 0) / most, text: `${((m.weight || 0) * 100).toFixed(1)} %` })))));
  }
  return parts.length ? node("div", { class: "two" }, ...parts) : null;
}

function numbers(incident) {
  const entries = Object.entries(incident.explanation);
  if (!entries.length) return null;
  return node("details", { class: "block" }, node("summary", {}, "All numbers of the alert message"), node("dl", { class: "words" }, ...entries.flatMap(([k, v]) => [node("dt", {}, words(k)), node("dd", {}, explained(v))])));
}

function facts(incident) {
  const ended = incident.resolved === null ? "still open at the end" : `${moment(incident.resolved)} (after ${duration(Math.max(0, incident.resolved - incident.opened))})`;
  const rows = [["Opened", `${moment(incident.opened)} UTC`], ["Ended", ended + (incident.note ? `, ${incident.note}` : "")]];
  if (incident.alerted !== null && incident.alerted > incident.opened) rows.push(["Became an alert", moment(incident.alerted)]);
  if (incident.score !== null) rows.push(["Highest score", number(incident.score)]);
  if (incident.alpha !== null && incident.alpha !== undefined) rows.push(["Chance per step at 1.0", number(incident.alpha)]);
  rows.push(["Model", incident.model || "–"], ["Incident", incident.id.slice(0, 12)]);
  if (incident.finds) rows.push(["Truth", `${truthText(incident.finds.kind)}: ${incident.finds.note}`]);
  return node("dl", { class: "facts" }, ...rows.map(([k, v]) => node("div", { class: k === "Truth" ? "wide" : null }, node("dt", {}, k), node("dd", {}, v))));
}

function showIncident() {
  const host = byId("incident"), incident = DATA.incidents.find((i) => i.id === state.incident);
  redraws.delete("zoom"); redraws.delete("heat");
  if (!incident) return host.replaceChildren(node("p", { class: "empty" }, DATA.incidents.length ? "Choose an incident to see its evidence." : "No incident was raised; there is no evidence to show."));
  const stream = streamOf(incident.stream), t = tone(incident);
  const chart = node("div", { class: "chart" }), readout = node("div", { class: "readout" });
  const step = (by, label, text) => node("button", { type: "button", "aria-label": label, title: label, onclick: () => neighbour(by) }, text);
  const parts = [
    node("div", { class: `incident-head ${t}` }, node("span", { class: "pill" }, tiers[incident.tier] || "told"), node("h2", {}, words(incident.kind), incident.name ? ` · ${incident.name}` : "", node("span", { class: "faint", style: "font-weight:400" }, `  ${incident.entity}`)),
      node("span", { class: "step-nav" }, step(-1, "Previous incident", "←"), step(1, "Next incident", "→"))),
    node("p", { class: "reason" }, incident.reason || "No reason was given."), facts(incident)];
  if (incident.zoom && stream) parts.push(node("h3", {}, "Around the moment"), readout, chart);
  if (incident.moment && stream && incident.kind === "anomaly") parts.push(node("div", { class: `two ${t}` }, shares(incident, stream), witnesses(incident, stream)));
  if (incident.zoom && stream) parts.push(seen(incident, stream));
  if (stream) { const block = heat(incident, stream); block.classList.add(t); parts.push(block); }
  host.replaceChildren(...[...parts, memory(incident, stream), numbers(incident)].filter(Boolean));
  if (!incident.zoom || !stream) return;
  const zoom = { ...incident.zoom, width: 1 }, last = zoom.t[zoom.t.length - 1];
  const columns = ranked(incident, stream).slice(0, 3);
  readLine(readout, stream, zoom, -1, false);
  redraws.set("zoom", () => stackedChart(chart, chart.clientWidth, {
    t: zoom.t, until: last, step: stream.step, channels: columns.map((c) => zoom.channels[c]), names: columns.map((c) => stream.channels[c]), score: zoom.score, tall: 104,
    marks: spans(stream, [incident], last), known: [], fired: { t: incident.opened, tone: t }, onRead: (i) => readLine(readout, stream, zoom, i, false), label: "Close-up of the incident",
  }));
  redraws.get("zoom")();
}

function neighbour(by) {
  const some = listed(), at = some.findIndex((i) => i.id === state.incident);
  const next = some[Math.min(some.length - 1, Math.max(0, at + by))];
  if (next) go({ incident: next.id });
}

// Every view has an address: #incident=ID or #entity=stream/entity.
function go({ place, incident, reveal }) {
  const hash = incident ? `#incident=${encodeURIComponent(incident)}` : `#entity=${place.map(encodeURIComponent).join("/")}`;
  if (location.hash !== hash) history.replaceState(null, "", hash);
  follow(reveal);
}

function follow(reveal) {
  const [key, value] = location.hash.slice(1).split("=");
  const incident = key === "incident" && DATA.incidents.find((i) => i.id === decodeURIComponent(value || ""));
  const wanted = key === "entity" && value ? value.split("/").map(decodeURIComponent) : null;
  let place = wanted && entityOf(streamOf(wanted[0]), wanted[1]) ? wanted : null;
  if (incident && entityOf(streamOf(incident.stream), incident.entity)) place = [incident.stream, incident.entity];
  if (!place && state.stream !== null) place = [state.stream, state.entity];
  if (!place) place = start();
  const moved = place[0] !== state.stream || place[1] !== state.entity;
  [state.stream, state.entity] = place;
  const shows = (i) => (i.moment && i.moment.attention ? 1 : 0);
  const worst = [...incidentsOf(...place)].sort((a, b) => b.tier - a.tier || shows(b) - shows(a) || (b.score || 0) - (a.score || 0))[0];
  state.incident = incident ? incident.id : worst ? worst.id : null;
  byId("entity").value = JSON.stringify(place);
  if (moved) showSeries();
  showList();
  showIncident();
  const current = byId("incidents").querySelector("[aria-current=true]");
  if (current) { const list = byId("incidents"), row = current.parentElement; if (row.offsetTop < list.scrollTop || row.offsetTop > list.scrollTop + list.clientHeight - 40) list.scrollTop = row.offsetTop - list.offsetTop - 60; }
  if (reveal) byId("incident").scrollIntoView({ block: "start" });
}

// The page opens on the entity with the most to tell.
function start() {
  const all = DATA.streams.flatMap((s) => s.entities.map((e) => [s.name, e.name]));
  const weight = (p) => incidentsOf(...p).reduce((sum, i) => sum + (i.moment && i.moment.attention ? 3 : 1) * i.tier, 0);
  return all.sort((a, b) => weight(b) - weight(a))[0] || ["", ""];
}

addEventListener("hashchange", () => follow(true));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraws.forEach((draw) => draw()));
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; requestAnimationFrame(() => redraws.forEach((draw) => draw())); } });
byId("incidents").addEventListener("keydown", (event) => {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  neighbour(by);
  const current = byId("incidents").querySelector("[aria-current=true]");
  if (current) current.focus();
});
showSummary();
fillPicker();
follow(location.hash.length > 1 && location.hash.startsWith("#incident"));
document.documentElement.dataset.ready = "true";
