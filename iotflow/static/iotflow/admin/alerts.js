/* Alerts on charts: the time that one was open is shaded, and begins with a line. */

import { ask } from "./api.js";
import { colour } from "./charts.js";

const MOST = 200;

/** When alerts about each measurement were open, as [from, to] in seconds: the newest until `to`. */
export async function openSpans(device, to) {
    const { alerts } = await ask("alerts", { device_id: device, end_time: new Date(to * 1000).toISOString(), limit: MOST });
    const seconds = (time) => (time ? Date.parse(time) : Date.now()) / 1000;
    return Map.groupBy(alerts.map((alert) => ({
        measurement: alert.measurement, from: seconds(alert.raised_at), to: seconds(alert.resolved_at),
    })), ({ measurement }) => measurement);
}

/** A plugin of a chart that shades the spans that `current()` gives. */
export const alertBands = (current) => ({
    hooks: {
        drawClear: [(plot) => {
            const { ctx, bbox } = plot;
            ctx.save();
            ctx.beginPath();
            ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
            ctx.clip();
            for (const { from, to } of current()) {
                const left = plot.valToPos(from, "x", true), right = plot.valToPos(to, "x", true);
                ctx.fillStyle = colour("--iot-alert");
                ctx.fillRect(left, bbox.top, Math.max(right - left, 1), bbox.height);
                ctx.fillStyle = colour("--iot-bad");
                ctx.fillRect(left, bbox.top, devicePixelRatio, bbox.height);
            }
            ctx.restore();
        }],
    },
});
