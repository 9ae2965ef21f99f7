// What a page says in its markup, since the policy of the site runs no script that stands there:
// data-confirm is a question asked before a form is sent, data-select a text that is taken whole.

document.addEventListener("submit", (event) => {
  const asking = (event.submitter ?? event.target).closest("[data-confirm]");
  if (asking && !window.confirm(asking.dataset.confirm)) event.preventDefault();
});

document.addEventListener("focusin", ({ target }) => {
  if (target.matches("[data-select]")) target.select();
});

// What Select2 puts in the place of a field has no name for who cannot see its label.
window.addEventListener("load", () => {
  for (const field of document.querySelectorAll("select.select2-hidden-accessible")) {
    const label = document.querySelector(`label[for="${CSS.escape(field.id)}"]`);
    document.getElementById(`select2-${field.id}-container`)?.setAttribute("aria-label", label?.textContent.trim() ?? field.name);
  }
});
