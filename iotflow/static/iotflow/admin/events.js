/* Live: the newest page of the event log is read again when something happened; what is new is marked. */

import { follow, spaced } from "./live.js";

const EVERY_MS = 1000, POLL_MS = 2000;
const STREAMED = ["kind", "severity", "device_id", "user_id", "request_id"];
const live = document.getElementById("live");
let end = () => {};
let isAsking = false, isAgain = false;

async function refresh() {
    if (document.hidden) return;
    isAgain = isAsking;
    if (isAsking) return;
    isAsking = true;
    try {
        const answer = await fetch(location.href);
        if (!answer.ok || answer.redirected) return;
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = page.getElementById("events"), shown = document.getElementById("events");
        if (!fresh || !shown) return;
        const known = new Set([...shown.querySelectorAll("[data-id]")].map((row) => row.dataset.id));
        fresh.querySelectorAll("[data-id]").forEach((row) => row.classList.toggle("iot-new", !known.has(row.dataset.id)));
        shown.replaceWith(fresh);
    } catch {
        // the server is away; the next time may find it
    } finally {
        isAsking = false;
        if (isAgain) refresh();
    }
}

function poll() {
    const timer = setInterval(refresh, POLL_MS);
    end = () => clearInterval(timer);
}

live?.addEventListener("change", () => {
    end();
    end = () => {};
    if (!live.checked) return;
    refresh();
    const asked = [...new URLSearchParams(location.search)].filter(([name, value]) => value && STREAMED.includes(name));
    const news = spaced(refresh, EVERY_MS);
    end = follow("events/stream", Object.fromEntries(asked), { event: news, gap: news }, poll);
});
