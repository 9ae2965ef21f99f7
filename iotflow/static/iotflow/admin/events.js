/* Live: the newest page of the event log is read again every two seconds, one at a time; what is new is marked. */

const EVERY_MS = 2000;
const live = document.getElementById("live");
let timer = null;
let isAsking = false;

async function refresh() {
    if (document.hidden || isAsking) return;
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
    }
}

live?.addEventListener("change", () => {
    clearInterval(timer);
    if (live.checked) {
        refresh();
        timer = setInterval(refresh, EVERY_MS);
    }
});
