/* What happens, while it happens: the API's streams, with the session of the admin site. */

/** Calls `told[kind](data)` for what a stream says, from now on; `lost()` where it cannot be had.
 *
 * While the page is hidden it is closed, for a browser has few connections to a server; then it
 * goes on where it was. The function that is returned ends it.
 */
export function follow(path, query, told, lost = () => {}) {
    let source = null, place = null, isAgain = false;

    function open() {
        const asked = new URLSearchParams(place ? { ...query, last_event_id: place } : query);
        source = new EventSource(`/api/v1/${path}?${asked}`);
        for (const [kind, act] of Object.entries(told)) {
            source.addEventListener(kind, (event) => {
                place = event.lastEventId || place;
                act(JSON.parse(event.data));
            });
        }
        source.addEventListener("error", () => {
            if (source?.readyState === EventSource.CLOSED) { end(); lost(); } // it is not tried again
        });
    }

    function close() {
        source?.close();
        source = null;
    }

    function turn() {
        if (document.hidden) close();
        if (document.hidden || source) return;
        if (isAgain && !place) told.gap?.({}); // nothing came before: what did meanwhile is not known
        isAgain = true;
        open();
    }

    function end() {
        document.removeEventListener("visibilitychange", turn);
        close();
    }

    document.addEventListener("visibilitychange", turn);
    turn();
    return end;
}

/** `act()`, at once and then at most every `ms`; the last call is never left out. */
export function spaced(act, ms) {
    let next = 0, timer = null;
    return () => {
        if (timer) return;
        timer = setTimeout(() => {
            timer = null;
            next = Date.now() + ms;
            act();
        }, Math.max(0, next - Date.now()));
    };
}
