// What a page says in its markup, since the policy of the site runs no script that stands there:
// data-confirm is a question asked before a form is sent, data-select a text that is taken whole.

document.addEventListener("submit", (event) => {
  const asking = (event.submitter ?? event.target).closest("[data-confirm]");
  if (asking && !window.confirm(asking.dataset.confirm)) event.preventDefault();
});

document.addEventListener("focusin", ({ target }) => {
  if (target.matches("[data-select]")) target.select();
});
