/* Time charts: uPlot in the colours of the page, light or dark, and as wide as it is. */

const COLOURS = ["--iot-1", "--iot-2", "--iot-3", "--iot-4", "--iot-5", "--iot-6"];
const DAY = "\n{D} {MMM} {YYYY}";
const MINUTE = `${DAY} {HH}:{mm}`;
// From how many seconds between ticks on which text is used; then what is added to it where the
// year, month, day, hour, minute or second is another one (uPlot's layout, its last column too).
const TICKS = [
    [3600 * 24 * 365, "{YYYY}", null, null, null, null, null, null, 1],
    [3600 * 24 * 28, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
    [3600 * 24, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
    [60, "{HH}:{mm}", DAY, null, "\n{D} {MMM}", null, null, null, 1],
    [1, "{HH}:{mm}:{ss}", DAY, null, "\n{D} {MMM}", null, null, null, 1],
    [0.001, ":{ss}.{fff}", MINUTE, null, MINUTE, null, MINUTE, null, 1],
];
const drawn = new Set();

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export const browserZone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

/** Of a series without points the indexes of values that no line leads to: these get one. */
function alone(plot, series, hasPoints) {
    const values = plot.data[series];
    if (hasPoints) return null;
    return [...values.keys()].filter((at) => values[at] != null && values[at - 1] == null && values[at + 1] == null);
}

/** A chart in `element`.
 *
 * `data`: uPlot's columns, times in seconds first; null is a gap. `series`: their names and, where
 * they are one line with a band around it, `band: [lower, upper]` as indexes of columns. `zone` is
 * a name of the tz database; with `fromZero` the values begin there. `onSelect(from, to)` in
 * seconds when a stretch was dragged across, `onReset` on a double click. The chart that is
 * returned has `draw(data, zone)`, `redraw()` and `end()`.
 */
export function timeChart(element, { names, data, zone, height = 220, sync, band, fromZero, onSelect, onReset, plugins = [] }) {
    let plot;
    const chart = { element, data, zone: zone || browserZone, draw, end };

    function make() {
        plot?.destroy();
        const axis = {
            stroke: colour("--iot-soft"),
            grid: { stroke: colour("--iot-line"), width: 1 },
            ticks: { stroke: colour("--iot-line"), width: 1 },
            font: "12px Inter, system-ui, sans-serif",
        };
        plot = new uPlot({
            width: element.clientWidth,
            height,
            tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), chart.zone),
            cursor: {
                sync: sync ? { key: sync } : undefined,
                drag: { x: Boolean(onSelect), y: false, setScale: false },
                bind: { dblclick: () => () => { onReset?.(); return null; } },
            },
            legend: { live: true },
            scales: fromZero ? { y: { range: (self, least, most) => [0, most > 0 ? most * 1.1 : 1] } } : {},
            axes: [{ ...axis, values: TICKS, space: 60 }, { ...axis, size: 60 }],
            series: [
                { label: "Time", value: "{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}" },
                ...names.map((name, index) => ({
                    label: name,
                    stroke: colour(COLOURS[index % COLOURS.length]),
                    width: band && index ? 0 : 1.5,
                    points: { show: undefined, size: 4, filter: alone },
                    spanGaps: false,
                })),
            ],
            bands: band ? [{ series: band, fill: colour("--iot-band") }] : [],
            plugins,
            hooks: {
                setSelect: [(self) => {
                    if (!onSelect || self.select.width < 5) return;
                    const { left, width } = self.select;
                    onSelect(self.posToVal(left, "x"), self.posToVal(left + width, "x"));
                    self.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
                }],
            },
        }, chart.data, element);
    }

    function draw(columns, newZone) {
        chart.data = columns;
        if (newZone && newZone !== chart.zone) {
            chart.zone = newZone;
            make();
        } else {
            plot.setData(columns);
        }
    }

    function end() {
        plot.destroy();
        widths.unobserve(element);
        drawn.delete(chart);
    }

    chart.remake = make;
    chart.redraw = () => plot.redraw();
    chart.resize = () => element.clientWidth && plot.setSize({ width: element.clientWidth, height });
    make();
    drawn.add(chart);
    widths.observe(element);
    return chart;
}

const widths = new ResizeObserver((entries) => {
    const changed = new Set(entries.map((entry) => entry.target));
    drawn.forEach((chart) => changed.has(chart.element) && chart.resize());
});

// Dark mode is a class of the page: charts are drawn anew in its colours.
new MutationObserver(() => drawn.forEach((chart) => chart.remake()))
    .observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
