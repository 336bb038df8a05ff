"use strict";
// Charts by Plotly from data that lies in the page. Colours come from the page's styles, so both schemes look like one house.

// Plotly makes style elements of its own, one of them as soon as it is loaded: with the page's nonce our policy lets them.
const NONCE = document.currentScript.nonce, makeElement = document.createElement.bind(document);
document.createElement = (name, options) => {
  const element = makeElement(name, options);
  if (String(name).toLowerCase() === "style") element.nonce = NONCE;
  return element;
};

const CHANNEL_TALL = 128, SCORE_TALL = 76, GAP = 34, TOP = 26, BELOW = 38;
const style = getComputedStyle(document.documentElement);
const colour = (name) => style.getPropertyValue(`--${name}`).trim();

// Plotly reads its texts as a little markup, and names come from strangers: they are to be read as they are.
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("%{", "%\u200b{").replaceAll("$", "\uff04");

// Plotly shows dates as they are written, so they are written in the viewer's zone.
function local(us) {
  const at = new Date(us / 1000);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60000).toISOString().slice(0, -1);
}

const narrow = () => innerWidth < 700;

function base(height) {
  return {
    height, margin: { l: narrow() ? 42 : 56, r: 12, t: TOP, b: BELOW }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "x unified", dragmode: narrow() ? false : "zoom",
    font: { family: style.getPropertyValue("--sans"), size: 12, color: colour("faint") }, shapes: [], annotations: [],
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink"), size: 12.5 }, namelength: 40 },
  };
}

const axis = (more) => ({ gridcolor: colour("line"), zeroline: false, linecolor: colour("line"), tickcolor: colour("line"), fixedrange: narrow(), ...more });

// The range that a chart shows: all that was observed, and of the band as much as does not dwarf it.
function extent(values, lower, upper, more) {
  const known = [...values, ...more].filter((v) => v !== null);
  if (!known.length) return undefined;
  let low = Math.min(...known), high = Math.max(...known);
  const inside = (high - low) || Math.abs(high) * 0.1 || 1;
  const some = (list, at) => { const sorted = list.filter((v) => v !== null).sort((a, b) => a - b); return sorted.length ? sorted[Math.floor((sorted.length - 1) * at)] : null; };
  const top = some(upper, 0.995), bottom = some(lower, 0.005);
  if (top !== null) high = Math.max(high, Math.min(top, high + inside * 0.35));
  if (bottom !== null) low = Math.min(low, Math.max(bottom, low - inside * 0.35));
  const room = (high - low) * 0.07 || 1;
  return [low - room, high + room];
}

function title(text, y, unit) {
  return { xref: "paper", yref: "paper", x: 0, y, yanchor: "bottom", xanchor: "left", showarrow: false, yshift: 3, text: `<b>${plain(text)}</b>${unit ? `  ${plain(unit)}` : ""}`, font: { size: 13, color: colour("ink") } };
}

// Time goes on between steps that are missing: a line must not.
function gaps(times, step, list) {
  const out = [[], []];
  for (let i = 0; i < times.length; i++) {
    if (i > 0 && times[i] - times[i - 1] > step * 1.5) { out[0].push(local(times[i - 1] + step)); out[1].push(null); }
    out[0].push(local(times[i])); out[1].push(list[i]);
  }
  return out;
}

function seriesChart(data) {
  const C = data.channels.length, tall = C > 4 ? 104 : CHANNEL_TALL, plot = C * (tall + GAP) + SCORE_TALL;
  const layout = base(plot + TOP + BELOW), traces = [], step = data.thinned ? Infinity : data.step_us;
  const place = (top, size) => [Math.max(0, 1 - (top + size) / plot), 1 - top / plot];
  const forecast = data.forecast;
  data.channels.forEach((channel, c) => {
    const yaxis = c ? `y${c + 1}` : "y", top = c * (tall + GAP), limits = data.limits.filter((limit) => limit.channel === channel.key).map((limit) => limit.value);
    const ahead = forecast ? [forecast.values, ...forecast.bands.flat()].flatMap((lines) => lines[c]) : [];
    const range = extent(data.values[c], data.lower[c], data.upper[c], ahead);
    layout[`yaxis${c ? c + 1 : ""}`] = axis({ domain: place(top, tall), range, nticks: 4 });
    layout.annotations.push(title(channel.name, place(top, tall)[1], channel.unit));
    const [t, upper] = gaps(data.times_us, step, data.upper[c]), lower = gaps(data.times_us, step, data.lower[c])[1];
    const quiet = { x: t, yaxis, type: "scatter", mode: "lines", hoverinfo: "skip", connectgaps: false };
    traces.push({ ...quiet, y: upper, line: { width: 0 } }, { ...quiet, y: lower, line: { width: 0 }, fill: "tonexty", fillcolor: colour("band") });
    traces.push({ ...quiet, y: gaps(data.times_us, step, data.expected[c])[1], name: "expected", hoverinfo: undefined, hovertemplate: "%{y:.4~g}", line: { width: 1, color: colour("mid") } });
    traces.push({ x: t, y: gaps(data.times_us, step, data.values[c])[1], yaxis, type: "scatter", mode: "lines", connectgaps: false, name: plain(channel.name), hovertemplate: "%{y:.4~g}", line: { width: 1.6, color: colour("series") } });
    if (forecast) {
      const x = forecast.times_us.map(local), of = { x, yaxis, type: "scatter", mode: "lines" };
      for (const [low, high] of forecast.bands) traces.push({ ...of, y: high[c], line: { width: 0 }, hoverinfo: "skip" }, { ...of, y: low[c], line: { width: 0 }, fill: "tonexty", fillcolor: colour("ahead"), hoverinfo: "skip" });
      traces.push({ ...of, y: forecast.values[c], name: "forecast", mode: "lines+markers", marker: { size: 5 }, line: { width: 2, color: colour("mid"), dash: "dot" }, hovertemplate: "%{y:.4~g}" });
    }
    for (const value of limits) if (!range || (value >= range[0] - (range[1] - range[0]) && value <= range[1] + (range[1] - range[0]))) {
      if (range) layout[`yaxis${c ? c + 1 : ""}`].range = [Math.min(range[0], value - (range[1] - range[0]) * 0.05), Math.max(range[1], value + (range[1] - range[0]) * 0.05)];
      layout.shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, yref: yaxis, y0: value, y1: value, line: { color: colour("other"), width: 1.5, dash: "dash" } });
    }
  });
  const at = place(C * (tall + GAP), SCORE_TALL), yaxis = C ? `y${C + 1}` : "y";
  layout[`yaxis${C ? C + 1 : ""}`] = axis({ domain: at, range: [0, Math.max(1.5, Math.min(4, 1.08 * Math.max(0, ...data.score.filter((s) => s !== null))))], nticks: 3 });
  layout.annotations.push(title("score", at[1]));
  const [t, score] = gaps(data.times_us, step, data.score);
  traces.push({ x: t, y: score, yaxis, type: "scatter", mode: "lines", fill: "tozeroy", line: { width: 1, color: colour("mid") }, fillcolor: colour("band"), name: "score", hovertemplate: "%{y:.3~g}" });
  layout.shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, yref: yaxis, y0: 1, y1: 1, line: { color: colour("alert"), width: 1.5, dash: "dash" } });
  const ends = [...data.times_us, ...(forecast ? forecast.times_us : [])];
  layout.xaxis = axis({ type: "date", anchor: C ? yaxis : "y", nticks: narrow() ? 4 : 9, spikecolor: colour("edge"), spikethickness: 1, spikedash: "dot", range: [local(ends[0]), local(ends[ends.length - 1])] });
  for (const mark of data.marks) {
    // Two fills upon each other make a third colour, which would mean nothing.
    const covered = mark.tone === "other" && data.marks.some((m) => m.tone !== "other" && m.from_us < mark.to_us && m.to_us > mark.from_us);
    if (!covered) layout.shapes.push({ type: "rect", layer: "below", xref: "x", yref: "paper", x0: local(mark.from_us), x1: local(mark.to_us), y0: 0, y1: 1, line: { width: 0 }, fillcolor: colour(`${mark.tone}-fill`) });
    layout.shapes.push({ type: "line", xref: "x", yref: "paper", x0: local(mark.from_us), x1: local(mark.to_us), y0: covered ? 0.992 : 1, y1: covered ? 0.992 : 1, line: { width: 3, color: colour(mark.tone) } });
  }
  if (data.opened_us) layout.shapes.push({ type: "line", xref: "x", yref: "paper", x0: local(data.opened_us), x1: local(data.opened_us), y0: 0, y1: 1, line: { width: 1.5, color: colour(data.tone) } });
  return [traces, layout];
}

function scoresChart(data) {
  const layout = base(220), most = Math.max(1.25, ...data.score.map((s) => s || 0));
  const tones = data.times_us.map((t) => (t >= data.opened_us ? colour("alert") : t >= data.started_us ? colour("watch") : colour("band-edge")));
  layout.hovermode = "closest"; layout.bargap = 0.25; layout.margin.t = 12;
  layout.xaxis = axis({ type: "date", nticks: narrow() ? 4 : 8, showgrid: false }); layout.yaxis = axis({ range: [0, Math.min(most, 4) * 1.06], nticks: 4 });
  layout.shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: 1, y1: 1, line: { color: colour("alert"), width: 1.5, dash: "dash" } });
  layout.annotations.push({ xref: "paper", x: 0, y: 1, xanchor: "left", yanchor: "bottom", showarrow: false, text: "boundary", font: { color: colour("alert"), size: 12 } });
  return [[{ x: data.times_us.map(local), y: data.score, type: "bar", marker: { color: tones }, hovertemplate: "%{x|%H:%M}: %{y:.3~g}<extra></extra>" }], layout];
}

function curvesChart(data) {
  const layout = base(250), tones = ["mid", "watch", "good", "other", "alert"], traces = [];
  layout.margin.t = 34; layout.showlegend = true; layout.legend = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { color: colour("soft") } };
  layout.xaxis = axis({ title: { text: "epoch", standoff: 6 }, dtick: data.longest > 12 ? undefined : 1, showgrid: false }); layout.yaxis = axis({ nticks: 5 });
  data.lines.forEach((line, i) => {
    const of = { x: line.validation.map((_, e) => e + 1), type: "scatter", mode: "lines+markers", marker: { size: 5, color: colour(tones[i % tones.length]) }, hovertemplate: "%{y:.4~g}" };
    const dotted = { dash: "dot", width: 1.5, color: colour(tones[i % tones.length]) };
    traces.push({ ...of, y: line.validation, name: plain(line.name), line: { width: 2, color: colour(tones[i % tones.length]) } });
    if (line.train.length) traces.push({ ...of, x: line.train.map((_, e) => e + 1), y: line.train, mode: "lines", name: "training", showlegend: false, line: dotted });
  });
  return [traces, layout];
}

const CHARTS = { series: seriesChart, scores: scoresChart, curves: curvesChart };

async function draw(host) {
  const source = byId(host.dataset.source), make = CHARTS[host.dataset.chart];
  if (!source || !make) return;
  if (host.dataset.state !== "drawn") host.dataset.state = "waiting";
  try {
    const [traces, layout] = make(JSON.parse(source.textContent));
    // A zoom outlives new data.
    await Plotly.react(host, traces, { ...layout, uirevision: "same" }, { displayModeBar: false, responsive: true, doubleClick: "reset" });
    host.dataset.state = "drawn";
  } catch (error) {
    host.dataset.state = "failed";
    host.textContent = `This chart could not be drawn: ${error.message}`;
  }
}

function drawAll() {
  for (const host of document.querySelectorAll("[data-chart]")) draw(host);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
addEventListener("DOMContentLoaded", drawAll);
