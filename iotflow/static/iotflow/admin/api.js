/* Readings from the API, with the session of the admin site. */

const GAP = 3;
export const POINTS = 500;

/** What the API answers; its own words where it refuses. */
export async function ask(path, query) {
    const answer = await fetch(`/api/v1/${path}?${new URLSearchParams(query)}`, { headers: { Accept: "application/json" } });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error?.message || answer.statusText);
    return body;
}

export const range = (from, to) => ({
    start_time: new Date(from * 1000).toISOString(), end_time: new Date(to * 1000).toISOString(),
});

export const aggregated = (device, name, query) => ask(`telemetry/${device}/aggregated`, { field: name, ...query });

/** Times and values; a gap wherever nothing was said for several times as long as usual. */
export function columns({ data }) {
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

/** The whole range is drawn, also where nothing was said. */
export const padded = ([times, ...values], from, to) =>
    [[from, ...times, to], ...values.map((column) => [null, ...column, null])];
