/* What stretch of time the charts of a page show: chosen in its bar, kept in its address. */

import { browserZone } from "./charts.js";

const LENGTHS = { "1h": 3600, "6h": 21600, "24h": 86400, "7d": 604800, "30d": 2592000, "90d": 7776000 };
const USUAL = "24h";
const SHORTEST = 600, LONGEST = 3660 * 86400;

/** `load(from, to)`, in seconds, is called at first and whenever another stretch was chosen.
 *
 * `newest`, in ms, is when there last was something to show: where that is long ago, it is shown
 * at first. The bar that is returned has `zone`, `between(from, to)`, `reset()`, `parameters` of
 * the address that are the page's own, and `changed()` for when those are others; `untilNow()` is
 * the stretch as it is by now where that ends now, else null.
 */
export function timeBar(newest, load, parameters = {}) {
    const form = document.getElementById("chart-bar");
    const zones = document.getElementById("chart-zone");
    const span = document.getElementById("chart-span");
    const bar = {
        parameters, between,
        reset: () => show({ range: USUAL }),
        changed: () => show({}),
        untilNow: () => (bar.range ? bounds() : null),
    };

    function read() {
        const query = new URLSearchParams(location.search);
        bar.zone = query.get("tz") || localStorage.getItem("iotflow.zone") || browserZone;
        bar.range = query.get("range");
        bar.from = Number(query.get("from")) || null;
        bar.to = Number(query.get("to")) || null;
        Object.keys(parameters).forEach((name) => { parameters[name] = query.get(name) ?? parameters[name]; });
        if (bar.from === null && !(bar.range in LENGTHS)) {
            bar.range = USUAL;
            if (newest && Date.now() - newest > LENGTHS[USUAL] * 1000) {
                bar.range = null;
                [bar.from, bar.to] = [newest / 1000 - LENGTHS[USUAL], newest / 1000 + 60];
            }
        }
    }

    function bounds() {
        const now = Date.now() / 1000;
        return bar.range ? [now - LENGTHS[bar.range], now] : [bar.from, bar.to];
    }

    function show(change, { replace = false } = {}) {
        Object.assign(bar, change);
        const query = new URLSearchParams(parameters);
        if (bar.range) query.set("range", bar.range);
        else { query.set("from", Math.round(bar.from)); query.set("to", Math.round(bar.to)); }
        query.set("tz", bar.zone);
        history[replace ? "replaceState" : "pushState"](null, "", `?${query}`);
        tell();
    }

    function between(from, to) {
        show({ range: null, from, to });
    }

    function zoom(factor) {
        const [from, to] = bounds(), middle = (from + to) / 2;
        const half = Math.min(Math.max((to - from) * factor, SHORTEST), LONGEST) / 2;
        between(middle - half, middle + half);
    }

    function move(direction) {
        const [from, to] = bounds(), step = direction * (to - from) / 2;
        between(from + step, to + step);
    }

    function tell() {
        const [from, to] = bounds();
        form.querySelectorAll("[data-range]").forEach((button) =>
            button.setAttribute("aria-pressed", String(button.dataset.range === bar.range)));
        const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short", timeZone: bar.zone });
        span.textContent = `${format.format(from * 1000)} – ${format.format(to * 1000)}`;
        load(from, to);
    }

    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("click", ({ target }) => {
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
    window.addEventListener("popstate", () => { read(); tell(); });

    read();
    for (const zone of new Set([browserZone, "UTC", bar.zone, ...(Intl.supportedValuesOf?.("timeZone") ?? [])])) {
        zones.add(new Option(zone, zone, false, zone === bar.zone));
    }
    queueMicrotask(tell); // when the page has its bar
    return bar;
}
