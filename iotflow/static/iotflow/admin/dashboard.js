/* The dashboard: its figures are put in place anew every ten seconds, and its charts go on. */

import { timeChart } from "./charts.js";

const EVERY_MS = 10_000;
const figures = document.getElementById("figures");
const stale = document.getElementById("stale");
const charts = {};
let asOf = new Date();
let isAsking = false;

function draw() {
    const facts = document.getElementById("series");
    if (!facts) return;
    for (const [name, columns] of Object.entries(JSON.parse(facts.textContent))) {
        charts[name] ??= timeChart(document.getElementById(name), { names: ["readings/s"], data: columns, height: 180, fromZero: true });
        charts[name].draw(columns);
    }
}

async function refresh() {
    if (document.hidden || isAsking) return;
    isAsking = true;
    try {
        const answer = await fetch(figures.dataset.address, { headers: { "X-Requested-With": "fetch" } });
        if (answer.redirected) return location.reload(); // logged out meanwhile
        if (!answer.ok) throw new Error(answer.status);
        const focused = document.activeElement?.closest("#figures a")?.getAttribute("href");
        figures.innerHTML = await answer.text();
        if (focused) figures.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
        asOf = new Date();
        stale.hidden = true;
        draw();
    } catch {
        stale.querySelector("span").textContent = asOf.toLocaleTimeString();
        stale.hidden = false;
    } finally {
        isAsking = false;
    }
}

draw();
setInterval(refresh, EVERY_MS);
document.addEventListener("visibilitychange", refresh);
