"use strict";
// What every page does: times in the viewer's zone, live parts by server-sent events, keys, and words when it is cut off.
// Texts only ever go in as text, except parts of our own pages that come from our own server as they came the first time.

const REFRESH_AT_MOST_EVERY_MS = document.querySelector("[data-chart]") ? 5000 : 2000;
const AGES_EVERY_MS = 30000;
const SETTLED_MS = 1500;
const byId = (id) => document.getElementById(id);

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
const forms = {
  full: new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" }),
  short: new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" }),
  clock: new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }),
};
const ages = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });

function age(at) {
  const seconds = (at - Date.now()) / 1000, size = Math.abs(seconds);
  for (const [unit, length, upTo] of [["second", 1, 90], ["minute", 60, 5400], ["hour", 3600, 129600], ["day", 86400, 60 * 86400]]) {
    if (size < upTo) return ages.format(Math.round(seconds / length), unit);
  }
  return forms.full.format(at);
}

function showTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime), form = element.dataset.form;
    if (Number.isNaN(at.getTime())) continue;
    element.textContent = form === "ago" ? age(at) : (forms[form] || forms.full).format(at);
  }
}

// ---- live parts ----

function say(state, words) {
  byId("live").dataset.state = state;
  if (byId("live-words").textContent !== words) byId("live-words").textContent = words;
}

// The live parts as the server wrote them, before times were put into the viewer's zone.
const shown = new Map([...document.querySelectorAll("[data-live][id]")].map((part) => [part.id, part.innerHTML]));

// A part is left alone while somebody types or chooses in it.
const busy = (part) => part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");

function replacePart(part, fresh) {
  if (busy(part) || shown.get(part.id) === fresh.innerHTML) return;
  shown.set(part.id, fresh.innerHTML);
  const known = new Set([...part.querySelectorAll(".item")].map((item) => item.id));
  const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const open = [...part.querySelectorAll("details")].map((details) => details.open);
  part.replaceChildren(...document.importNode(fresh, true).childNodes);
  [...part.querySelectorAll("details")].forEach((details, i) => { details.open = open[i] || false; });
  if (known.size) for (const item of part.querySelectorAll(".item")) item.classList.toggle("fresh", !known.has(item.id));
  if (focused !== null) { const again = part.querySelector(`[href="${CSS.escape(focused)}"]`); if (again) again.focus(); }
  showTimes(part);
}

let refreshing = false, again = false, lastRefresh = 0;
async function refresh() {
  if (refreshing || document.hidden) { again = true; return; }
  const wait = lastRefresh + REFRESH_AT_MOST_EVERY_MS - Date.now();
  if (wait > 0) { refreshing = true; await new Promise((done) => setTimeout(done, wait)); refreshing = false; }
  refreshing = true; again = false; lastRefresh = Date.now();
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
    if (!answer.ok) { say("lost", answer.status === 401 ? "signed out" : "trouble"); return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live][id]")) {
      const fresh = page.getElementById(part.id);
      if (fresh) replacePart(part, fresh);
    }
    let drawn = false;
    for (const data of document.querySelectorAll("script[type='application/json'][id]")) {
      const fresh = page.getElementById(data.id);
      if (fresh && fresh.textContent !== data.textContent) { data.textContent = fresh.textContent; drawn = true; }
    }
    if (drawn && typeof drawAll === "function") drawAll();
    if (page.title) document.title = page.title;
    say("live", "live");
  } catch { say("lost", "connection lost"); } finally { refreshing = false; if (again && !document.hidden) refresh(); }
}

function listen() {
  if (!document.querySelector("[data-live]") || !window.EventSource) { byId("live").hidden = true; return; }
  const events = new EventSource("/api/events");
  events.onopen = () => say("live", "live");
  events.onerror = () => say("lost", "reconnecting");
  // The page is as new as the first events, which tell of what is there already.
  const begun = Date.now(), about = document.body.dataset.stream;
  const seen = (event) => {
    if (Date.now() - begun < SETTLED_MS && event.type !== "incident") return;
    if (event.type === "step" && about !== undefined && JSON.parse(event.data).stream !== about) return;
    refresh();
  };
  for (const kind of ["step", "incident", "health", "lost"]) events.addEventListener(kind, seen);
  addEventListener("pagehide", () => events.close());
}
document.addEventListener("visibilitychange", () => { if (!document.hidden && again) refresh(); });

// ---- keys: j and k go through a list ----

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  const links = [...document.querySelectorAll(".item .what a")], at = links.indexOf(document.activeElement);
  const by = { j: 1, k: -1 }[event.key];
  if (by && links.length) { event.preventDefault(); links[Math.min(links.length - 1, Math.max(0, at + by))].focus(); }
}
document.addEventListener("keydown", keys);

// A form is sent once, however often its button is pressed.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  if (event.target.dataset.sent) { event.preventDefault(); return; }
  event.target.dataset.sent = "yes";
});
addEventListener("pageshow", () => { for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent; });

byId("zone").textContent = zone === "UTC" ? "Times in UTC" : `Times in ${zone.replaceAll("_", " ")}; UTC on pointing at them`;
showTimes(document);
setInterval(() => showTimes(document), AGES_EVERY_MS);
listen();
document.documentElement.dataset.ready = "true";
