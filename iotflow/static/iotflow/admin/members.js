/* A status for every device of a group, some at a time, and how far it is. */

const form = document.getElementById("bulk");
const progress = form.querySelector("progress");
const output = form.querySelector("output");

async function some(status, after) {
    const answer = await fetch(form.dataset.address, {
        method: "POST",
        headers: { "X-CSRFToken": form.elements.csrfmiddlewaretoken.value },
        body: new URLSearchParams({ status, after }),
    });
    if (!answer.ok) throw new Error(answer.status === 403 ? "you may not change devices" : answer.statusText);
    return answer.json();
}

form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const status = form.elements.status, text = status.selectedOptions[0].textContent;
    if (!confirm(`Make every device of this group ${text}?`)) return;
    let done = 0, changed = 0, after = 0;
    form.querySelector("button").disabled = true;
    progress.hidden = false;
    try {
        while (after !== null) {
            const step = await some(status.value, after);
            ({ after } = step);
            done += step.done;
            changed += step.changed;
            progress.max = Math.max(step.total, 1);
            progress.value = done;
            output.textContent = `${done} of ${step.total}`;
        }
        output.textContent = `${changed} device(s) are ${text} now; ${done - changed} were.`;
    } catch (error) {
        output.textContent = `Stopped after ${done}: ${error.message}. What was changed stays; going on is safe.`;
    } finally {
        form.querySelector("button").disabled = false;
    }
});
