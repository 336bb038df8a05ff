"use strict";
// Drawing: scales, the stacked charts of an entity or an incident, and the heat map. All text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function node(tag, attributes, ...children) {
  const element = document.createElement(tag);
  return fill(element, attributes, children);
}

function shape(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const pad = (n) => String(n).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

function day(t) {
  const d = new Date(t * 1000);
  return `${d.getUTCDate()} ${MONTHS[d.getUTCMonth()]}`;
}

function clock(t, fine) {
  const d = new Date(t * 1000);
  const seconds = fine ? `:${pad(d.getUTCSeconds())}` : "";
  return `${pad(d.getUTCHours())}:${pad(d.getUTCMinutes())}${seconds}`;
}

function moment(t, fine) {
  return `${day(t)} ${clock(t, fine)}`;
}

function duration(s) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (s >= size * (unit === "d" ? 2 : 1)) return `${Math.round((s / size) * 10) / 10} ${unit}`;
  }
  return `${Math.round(s * 10) / 10} s`;
}

function number(x) {
  if (x === null || x === undefined) return "–";
  const size = Math.abs(x);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return x.toExponential(1);
  return String(Number(x.toPrecision(size >= 1000 ? 5 : 4)));
}

const brief = (x) => (x === null ? "–" : number(Number(x.toPrecision(3))));

function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const power = Math.pow(10, Math.floor(Math.log10(rough)));
  const step = power * [1, 2, 2.5, 5, 10].find((m) => m * power >= rough);
  const out = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-6; v += step) out.push(Number(v.toPrecision(10)));
  return out.length > 1 || count > 6 ? out : ticks(low, high, count + 1);
}

function timeTicks(from, to, count) {
  const sizes = [1, 5, 15, 60, 300, 900, 3600, 10800, 21600, 43200, 86400, 172800, 345600, 604800, 1209600, 2592000, 7776000, 31536000];
  const step = sizes.find((s) => (to - from) / s <= count) || 31536000 * Math.ceil((to - from) / count / 31536000);
  const out = [];
  for (let t = Math.ceil(from / step) * step; t <= to; t += step) out.push([t, step >= 86400 ? day(t) : t % 86400 === 0 ? day(t) : clock(t, step < 60)]);
  return out;
}

// The range that a chart shows: everything observed, and the band as far as it does not dwarf what was observed.
function extent(channel) {
  let low = Infinity, high = -Infinity;
  for (const list of [channel.lo, channel.hi || []]) {
    for (const v of list) if (v !== null) { low = Math.min(low, v); high = Math.max(high, v); }
  }
  if (low > high) return [0, 1];
  const inside = (high - low) || Math.abs(high) * 0.1 || 1;
  for (const [list, sign] of [[channel.l, -1], [channel.u, 1]]) {
    const sorted = list.filter((v) => v !== null).sort((a, b) => a - b);
    if (!sorted.length) continue;
    const v = sorted[Math.floor((sorted.length - 1) * (sign > 0 ? 0.995 : 0.005))];
    if (sign > 0) high = Math.max(high, Math.min(v, high + inside * 0.35));
    else low = Math.min(low, Math.max(v, low - inside * 0.35));
  }
  const room = (high - low) * 0.06 || 1;
  return [low - room, high + room];
}

function runs(list) {
  const out = [];
  let from = -1;
  for (let i = 0; i <= list.length; i++) {
    const there = i < list.length && list[i] !== null;
    if (there && from < 0) from = i;
    if (!there && from >= 0) { out.push([from, i]); from = -1; }
  }
  return out;
}

function linePath(values, x, y, t) {
  let d = "";
  for (const [a, b] of runs(values)) {
    for (let i = a; i < b; i++) d += `${i === a ? "M" : "L"}${x(t[i]).toFixed(1)} ${y(values[i]).toFixed(1)}`;
    if (b - a === 1) d += "h.01";
  }
  return d;
}

function areaPath(low, high, x, y, t) {
  let d = "";
  const both = low.map((v, i) => (v === null || high[i] === null ? null : v));
  for (const [a, b] of runs(both)) {
    for (let i = a; i < b; i++) d += `${i === a ? "M" : "L"}${x(t[i]).toFixed(1)} ${y(high[i]).toFixed(1)}`;
    for (let i = b - 1; i >= a; i--) d += `L${x(t[i]).toFixed(1)} ${y(low[i]).toFixed(1)}`;
    d += "Z";
  }
  return d;
}

// Draw channels, score and what is known, one below the other over one time axis. Returns the svg's owner.
function stackedChart(host, width, view) {
  const { t, until, channels, names, score, marks, known, fired, onPick, step } = view;
  const left = width < 560 ? 38 : 50, right = 8, tall = width < 560 ? 76 : view.tall || 92, gap = 26;
  const from = t[0], to = Math.max(until, from + step);
  const x = (time) => left + ((time - from) / (to - from)) * (width - left - right);
  const scoreTall = 46, knownTall = known && known.length ? 26 : 0;
  const bottom = channels.length * (tall + gap) + scoreTall + gap + knownTall;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${bottom + 24}`, height: bottom + 24, role: "img", "aria-label": view.label });
  const clipId = `clip-${Math.random().toString(36).slice(2)}`;
  svg.append(shape("clipPath", { id: clipId }, shape("rect", { x: left, y: 0, width: width - left - right, height: bottom })));

  for (const [time, text] of timeTicks(from, to, Math.floor((width - left) / 88))) {
    svg.append(shape("line", { class: "grid", x1: x(time), x2: x(time), y1: 20, y2: bottom }));
    svg.append(shape("text", { x: x(time), y: bottom + 16, "text-anchor": x(time) > width - 30 ? "end" : "middle" }, text));
  }
  const shades = shape("g", { "clip-path": `url(#${clipId})` });
  for (const mark of marks) {
    const a = x(mark.from), w = Math.max(3, x(mark.to) - a);
    const group = shape("g", { class: `${mark.tone} hit` }, shape("title", {}, mark.title));
    group.append(shape("rect", { class: "shade", x: a, y: 20, width: w, height: bottom - knownTall - 20 }));
    group.append(shape("rect", { class: "shade-top", x: a, y: 16, width: w, height: 4, rx: 1 }));
    if (onPick) group.addEventListener("click", () => onPick(mark.id));
    shades.append(group);
  }
  svg.append(shades);

  channels.forEach((channel, c) => {
    const top = c * (tall + gap) + 22;
    const [low, high] = extent(channel);
    const y = (v) => top + tall - ((Math.min(Math.max(v, low - (high - low)), high + (high - low)) - low) / (high - low)) * tall;
    const clip = `${clipId}-${c}`;
    svg.append(shape("clipPath", { id: clip }, shape("rect", { x: left, y: top - 1, width: width - left - right, height: tall + 2 })));
    for (const v of ticks(low, high, tall < 80 ? 2 : 3)) {
      svg.append(shape("line", { class: "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }));
      svg.append(shape("text", { x: left - 7, y: y(v) + 4, "text-anchor": "end" }, number(v)));
    }
    const plot = shape("g", { "clip-path": `url(#${clip})`, "pointer-events": "none" });
    plot.append(shape("path", { class: "band", d: areaPath(channel.l, channel.u, x, y, t) }));
    plot.append(shape("path", { class: "mid", d: linePath(channel.e, x, y, t) }));
    if (channel.hi) plot.append(shape("path", { class: "range", d: areaPath(channel.lo, channel.hi, x, y, t) }));
    else plot.append(shape("path", { class: "obs", d: linePath(channel.lo, x, y, t) }));
    svg.append(plot);
    const unit = names[c].unit;
    svg.append(shape("text", { class: "name halo", x: left + 6, y: top - 7 }, names[c].name, unit ? shape("tspan", { style: "font-weight:400;fill:var(--faint)" }, `  ${unit}`) : ""));
  });

  const top = channels.length * (tall + gap) + 22;
  const most = Math.max(1.6, Math.min(4, Math.max(...score.map((s) => s || 0)) * 1.05));
  const y = (v) => top + scoreTall - (Math.min(v, most) / most) * scoreTall;
  svg.append(shape("path", { class: "score", "pointer-events": "none", d: areaPath(score.map(() => 0), score.map((s) => s || 0), x, y, t) }));
  svg.append(shape("line", { class: "bound", x1: left, x2: width - right, y1: y(1), y2: y(1) }));
  svg.append(shape("text", { x: left - 7, y: y(1) + 4, "text-anchor": "end" }, "1"));
  svg.append(shape("text", { class: "name halo", x: left + 6, y: top - 7 }, "score", shape("tspan", { style: "font-weight:400;fill:var(--faint)" }, "  1 = boundary")));
  if (knownTall) {
    svg.append(shape("text", { x: left - 7, y: bottom - 3, "text-anchor": "end" }, "truth"));
    for (const fault of known) {
      const w = Math.max(4, x(fault.end) - x(fault.start));
      svg.append(shape("rect", { class: fault.found ? "known" : "known missed", x: x(fault.start), y: bottom - 12, width: w, height: 9, rx: 2 },
        shape("title", {}, `${truthText(fault.kind)}: ${fault.note}\n${moment(fault.start)} to ${moment(fault.end)} · ${fault.found ? "found" : "missed"}`)));
    }
  }
  if (fired) svg.append(shape("line", { class: `fired ${fired.tone}`, x1: x(fired.t), x2: x(fired.t), y1: 16, y2: bottom }));
  const cursor = shape("line", { class: "cursor", y1: 16, y2: bottom, visibility: "hidden", "pointer-events": "none" });
  svg.append(cursor);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const time = from + ((((event.clientX - box.left) / box.width) * width - left) / (width - left - right)) * (to - from);
    const i = nearest(t, Math.min(Math.max(time, from), to));
    cursor.setAttribute("x1", x(t[i])); cursor.setAttribute("x2", x(t[i])); cursor.setAttribute("visibility", "visible");
    if (view.onRead) view.onRead(i);
  });
  svg.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); if (view.onRead) view.onRead(-1); });
  host.replaceChildren(svg);
}

function nearest(t, time) {
  let a = 0, b = t.length - 1;
  while (a < b) { const m = (a + b + 1) >> 1; if (t[m] <= time) a = m; else b = m - 1; }
  return a;
}

const words = (name) => name.replaceAll("_", " ");

// Colours from the page's own surface towards one strong tone, so that zero is quiet in both schemes.
function ramp(v) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const stops = dark
    ? [[30, 37, 49], [38, 66, 110], [56, 120, 190], [120, 196, 214], [246, 240, 190]]
    : [[240, 243, 248], [190, 214, 240], [104, 160, 216], [40, 92, 168], [18, 32, 84]];
  const p = Math.min(Math.max(v, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(p), stops.length - 2);
  return stops[i].map((s, k) => s + (stops[i + 1][k] - s) * (p - i));
}

// Paint a map whose columns end at ``edges`` (0 to 1, ascending); the canvas is scaled to its place by the page.
function paint(canvas, edges, rows, value) {
  const wide = 1600, tall = rows === 1 ? 1 : rows * 8;
  canvas.width = wide; canvas.height = tall;
  const context = canvas.getContext("2d");
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c + 1 < edges.length; c++) {
      context.fillStyle = `rgb(${ramp(value(r, c)).map(Math.round).join(" ")})`;
      const from = Math.round(edges[c] * wide);
      context.fillRect(from, (r * tall) / rows, Math.round(edges[c + 1] * wide) - from, tall / rows);
    }
  }
}
