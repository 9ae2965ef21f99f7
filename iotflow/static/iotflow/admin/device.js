/* The overview of a device: a chart for each measurement, events, and the hours it was heard in. */

import { alertBands, openSpans } from "./alerts.js";
import { POINTS, aggregated, ask, columns, padded, range } from "./api.js";
import { timeChart } from "./charts.js";
import { timeBar } from "./timebar.js";

const facts = JSON.parse(document.getElementById("chart-facts").textContent);
const EVENTS = 200;
const HOUR_MS = 3_600_000, STRIP_HOURS = 168, STRIP_MEASUREMENTS = 6;
const charts = new Map();
let asked = 0, spans = new Map();

async function drawOne(name, from, to, number) {
    const card = charts.get(name);
    const note = card.element.querySelector(".iot-hint");
    card.element.setAttribute("aria-busy", "true");
    try {
        const body = await aggregated(facts.device, name, { window: "auto", points: POINTS, ...range(from, to) });
        if (number !== asked) return; // another stretch was asked for meanwhile
        const data = padded(columns(body), from, to);
        note.textContent = body.data.length
            ? `mean of ${body.window}${body.truncated ? ", cut: too much for one chart" : ""}`
            : "No readings in this range.";
        card.chart ??= timeChart(card.element.querySelector(".iot-chart"), {
            names: [name], data, zone: bar.zone, sync: "device", onSelect: bar.between, onReset: bar.reset,
            plugins: [alertBands(() => spans.get(name) ?? [])],
        });
        card.chart.draw(data, bar.zone);
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
            mark.style.left = `${100 * (Date.parse(event.time) / 1000 - from) / (to - from)}%`;
            mark.title = `${event.message} (${event.time})`;
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

async function drawAlerts(to, number) {
    const found = await openSpans(facts.device, to).catch(() => new Map()); // the lane says it
    if (number !== asked) return;
    spans = found;
    charts.forEach((card) => card.chart?.redraw());
}

/* A cell for every hour: whether anything at all was heard in it. */
async function drawStrip() {
    const strip = document.getElementById("strip"), note = document.getElementById("strip-note");
    const end = Math.floor(Date.now() / HOUR_MS) * HOUR_MS, begin = end - (STRIP_HOURS - 1) * HOUR_MS;
    const heard = new Map();
    try {
        await Promise.all(facts.measurements.slice(0, STRIP_MEASUREMENTS).map(async (name) => {
            const { data } = await aggregated(facts.device, name, { aggregation: "count", window: "1h", start_time: new Date(begin).toISOString() });
            data.forEach(({ timestamp, count }) => heard.set(Date.parse(timestamp), Math.max(count, heard.get(Date.parse(timestamp)) ?? 0)));
        }));
    } catch (error) {
        note.textContent = `Not to be had now: ${error.message}`;
        return;
    }
    const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short", timeZone: bar.zone });
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

for (const name of facts.measurements) {
    const card = document.createElement("section");
    card.className = "iot-card";
    card.innerHTML = '<h2></h2><div class="iot-chart"></div><p class="iot-hint" role="status">Loading …</p>';
    card.querySelector("h2").textContent = name;
    document.getElementById("charts").append(card);
    charts.set(name, { element: card, chart: null });
}

const bar = timeBar(facts.newest, (from, to) => {
    const number = ++asked;
    facts.measurements.forEach((name) => drawOne(name, from, to, number));
    drawEvents(from, to, number);
    drawAlerts(to, number);
});
drawStrip();
