/* The charts of a device: one for each measurement, all of one range, which the address holds. */

import { browserZone, timeChart } from "./charts.js";

const facts = JSON.parse(document.getElementById("chart-facts").textContent);
const bar = document.getElementById("chart-bar");
const place = document.getElementById("charts");
const zones = document.getElementById("chart-zone");
const span = document.getElementById("chart-span");
const LENGTHS = { "1h": 3600, "6h": 21600, "24h": 86400, "7d": 604800, "30d": 2592000, "90d": 7776000 };
const SHORTEST = 600, LONGEST = 3660 * 86400;
const POINTS = 500;
const GAP = 3;
const EVENTS = 200;
const HOUR_MS = 3_600_000, STRIP_HOURS = 168, STRIP_MEASUREMENTS = 6;
const charts = new Map();
let asked = 0;

/* What is shown: `range` up to now, or `from` and `to` in seconds. */
const state = {};

function read() {
    const query = new URLSearchParams(location.search);
    state.zone = query.get("tz") || localStorage.getItem("iotflow.zone") || browserZone;
    state.range = query.get("range");
    state.from = Number(query.get("from")) || null;
    state.to = Number(query.get("to")) || null;
    if (state.from === null && !(state.range in LENGTHS)) {
        state.range = "24h";
        const newest = facts.newest / 1000;
        if (Date.now() / 1000 - newest > LENGTHS["24h"]) { // nothing lately: show when it spoke last
            state.range = null;
            [state.from, state.to] = [newest - LENGTHS["24h"], newest + 60];
        }
    }
}

function bounds() {
    const now = Date.now() / 1000;
    return state.range ? [now - LENGTHS[state.range], now] : [state.from, state.to];
}

function show(change, { replace = false } = {}) {
    Object.assign(state, change);
    const query = new URLSearchParams();
    if (state.range) query.set("range", state.range);
    else { query.set("from", Math.round(state.from)); query.set("to", Math.round(state.to)); }
    query.set("tz", state.zone);
    history[replace ? "replaceState" : "pushState"](null, "", `?${query}`);
    load();
}

const between = (from, to) => show({ range: null, from, to });

function zoom(factor) {
    const [from, to] = bounds(), middle = (from + to) / 2;
    const half = Math.min(Math.max((to - from) * factor, SHORTEST), LONGEST) / 2;
    between(middle - half, middle + half);
}

function move(direction) {
    const [from, to] = bounds(), step = direction * (to - from) / 2;
    between(from + step, to + step);
}

/* What the API answers; its own words where it refuses. */
async function ask(path, query) {
    const answer = await fetch(`/api/v1/${path}?${new URLSearchParams(query)}`, { headers: { Accept: "application/json" } });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error?.message || answer.statusText);
    return body;
}

const range = (from, to) => ({
    start_time: new Date(from * 1000).toISOString(), end_time: new Date(to * 1000).toISOString(),
});

const aggregated = (name, query) => ask(`telemetry/${facts.device}/aggregated`, { field: name, ...query });

/* Times and values; a gap wherever nothing was said for several times as long as usual. */
function columns({ data }) {
    const times = data.map((row) => Date.parse(row.timestamp) / 1000);
    const steps = times.slice(1).map((time, index) => time - times[index]);
    const usual = [...steps].sort((a, b) => a - b)[Math.floor(steps.length / 2)];
    const found = [[], []];
    data.forEach(({ value }, index) => {
        if (index && steps[index - 1] > GAP * usual) {
            found[0].push(times[index - 1] + usual);
            found[1].push(null);
        }
        found[0].push(times[index]);
        found[1].push(value);
    });
    return found;
}

async function drawOne(name, from, to, number) {
    const card = charts.get(name);
    const note = card.element.querySelector(".iot-hint");
    card.element.setAttribute("aria-busy", "true");
    try {
        const body = await aggregated(name, { window: "auto", points: POINTS, ...range(from, to) });
        if (number !== asked) return; // another range was asked for meanwhile
        const data = columns(body);
        const values = data[1].filter((value) => value !== null);
        note.textContent = values.length
            ? `mean of ${body.window}${body.truncated ? ", cut: too much for one chart" : ""}`
            : "No readings in this range.";
        card.chart ??= timeChart(card.element.querySelector(".iot-chart"), {
            names: [name], data, zone: state.zone, sync: "device", onSelect: between, onReset: () => show({ range: "24h" }),
        });
        card.chart.draw(pad(data, from, to), state.zone);
    } catch (error) {
        note.textContent = `Not to be had now: ${error.message}`;
    } finally {
        card.element.removeAttribute("aria-busy");
    }
}

/* Events on the same axis as the charts below them. */
async function drawEvents(from, to, number) {
    const lane = document.getElementById("lane"), note = document.getElementById("lane-note");
    try {
        const query = { device_id: facts.device, kind: facts.kinds.join(","), limit: EVENTS, ...range(from, to) };
        const { events, next_cursor: more } = await ask("events", query);
        if (number !== asked) return;
        lane.replaceChildren(...events.map((event) => {
            const mark = document.createElement("a");
            mark.href = `${facts.event}${event.id}/change/`;
            mark.className = `iot-${event.severity}`;
            mark.style.left = `${100 * (Date.parse(event.timestamp) / 1000 - from) / (to - from)}%`;
            mark.title = `${event.message} (${event.timestamp})`;
            mark.setAttribute("aria-label", mark.title);
            return mark;
        }));
        note.textContent = events.length
            ? `${more ? `the newest ${events.length}` : events.length} in this range, readings apart`
            : "Nothing happened in this range, readings apart.";
    } catch (error) {
        note.textContent = `Not to be had now: ${error.message}`;
    }
}

/* A cell for every hour: whether anything at all was heard in it. */
async function drawStrip() {
    const strip = document.getElementById("strip"), note = document.getElementById("strip-note");
    const end = Math.floor(Date.now() / HOUR_MS) * HOUR_MS, begin = end - (STRIP_HOURS - 1) * HOUR_MS;
    const heard = new Map();
    try {
        await Promise.all(facts.measurements.slice(0, STRIP_MEASUREMENTS).map(async (name) => {
            const { data } = await aggregated(name, { aggregation: "count", window: "1h", start_time: new Date(begin).toISOString() });
            data.forEach(({ timestamp, count }) => heard.set(Date.parse(timestamp), Math.max(count, heard.get(Date.parse(timestamp)) ?? 0)));
        }));
    } catch (error) {
        note.textContent = `Not to be had now: ${error.message}`;
        return;
    }
    const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short", timeZone: state.zone });
    let up = 0;
    strip.replaceChildren(...Array.from({ length: STRIP_HOURS }, (_, number) => {
        const hour = begin + number * HOUR_MS, times = heard.get(hour) ?? 0, cell = document.createElement("span");
        if (times) { up += 1; cell.className = "iot-up"; }
        cell.title = `${format.format(hour)}: ${times ? `${times} reading${times === 1 ? "" : "s"}` : "nothing"}`;
        return cell;
    }));
    note.innerHTML = "<span></span><span></span><span></span>";
    [format.format(begin), `heard in ${up} of ${STRIP_HOURS} hours, ${Math.round(100 * up / STRIP_HOURS)} %`, "now"]
        .forEach((text, index) => { note.children[index].textContent = text; });
}

/* The whole range is drawn, also where nothing was said. */
function pad([times, values], from, to) {
    return [[from, ...times, to], [null, ...values, null]];
}

function load() {
    const [from, to] = bounds(), number = ++asked;
    bar.querySelectorAll("[data-range]").forEach((button) =>
        button.setAttribute("aria-pressed", String(button.dataset.range === state.range)));
    const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short", timeZone: state.zone });
    span.textContent = `${format.format(from * 1000)} – ${format.format(to * 1000)}`;
    facts.measurements.forEach((name) => drawOne(name, from, to, number));
    drawEvents(from, to, number);
}

function build() {
    for (const zone of new Set([browserZone, "UTC", state.zone, ...(Intl.supportedValuesOf?.("timeZone") ?? [])])) {
        zones.add(new Option(zone, zone, false, zone === state.zone));
    }
    for (const name of facts.measurements) {
        const card = document.createElement("section");
        card.className = "iot-card";
        card.innerHTML = '<h2></h2><div class="iot-chart"></div><p class="iot-hint" role="status">Loading …</p>';
        card.querySelector("h2").textContent = name;
        place.append(card);
        charts.set(name, { element: card, chart: null });
    }
}

bar.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (button?.dataset.range) show({ range: button.dataset.range, from: null, to: null });
    if (button?.dataset.move) move(Number(button.dataset.move));
    if (button?.dataset.zoom) zoom(Number(button.dataset.zoom));
});
zones.addEventListener("change", () => {
    localStorage.setItem("iotflow.zone", zones.value);
    show({ zone: zones.value }, { replace: true });
});
document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const action = { ArrowLeft: () => move(-1), ArrowRight: () => move(1), "+": () => zoom(0.5), "-": () => zoom(2) }[event.key];
    if (action) { event.preventDefault(); action(); }
});
window.addEventListener("popstate", () => { read(); load(); });

read();
build();
load();
drawStrip();
