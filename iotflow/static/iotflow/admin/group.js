/* One measurement of all devices of a group, on one chart. */

import { POINTS, aggregated, columns, padded, range } from "./api.js";
import { timeChart } from "./charts.js";
import { timeBar } from "./timebar.js";

const facts = JSON.parse(document.getElementById("chart-facts").textContent);
const names = document.getElementById("measurement");
const card = document.getElementById("compare");
const note = card.querySelector(".iot-hint");
let chart = null, asked = 0;

async function load(from, to) {
    const number = ++asked, name = bar.parameters.measurement;
    names.value = name;
    card.querySelector("h2").textContent = name;
    card.setAttribute("aria-busy", "true");
    try {
        const answers = await Promise.all(facts.devices.map(({ id }) =>
            aggregated(id, name, { window: "auto", points: POINTS, ...range(from, to) })));
        if (number !== asked) return;
        const data = padded(uPlot.join(answers.map(columns), answers.map(() => [1, 2])), from, to);
        chart ??= timeChart(card.querySelector(".iot-chart"), {
            names: facts.devices.map((device) => device.name), data, zone: bar.zone, height: 360,
            onSelect: bar.between, onReset: bar.reset,
        });
        chart.draw(data, bar.zone);
        const silent = answers.filter((answer) => !answer.data.length).length;
        note.textContent = `mean of ${answers[0].window}` + (silent ? `; ${silent} of ${answers.length} devices said nothing of it in this range` : "");
    } catch (error) {
        note.textContent = `Not to be had now: ${error.message}`;
    } finally {
        card.removeAttribute("aria-busy");
    }
}

const bar = timeBar(facts.newest, load, { measurement: names.value });
names.addEventListener("change", () => { bar.parameters.measurement = names.value; bar.changed(); });
