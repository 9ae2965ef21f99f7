// What the theme makes a mouse's alone is made a keyboard's too, and its icons, whose names are
// drawn as pictures, are read aloud only where nothing else says what a button is for.

const NATIVE = "a[href], button, input, select, textarea, label";

function press(event) {
  if (event.target !== event.currentTarget || !["Enter", " "].includes(event.key)) return;
  event.preventDefault();
  event.currentTarget.click();
}

function reach(element) {
  if (element.matches(NATIVE) || element.querySelector(`${NATIVE}, [tabindex]`)) return;
  element.tabIndex = 0;
  element.setAttribute("role", "button");
  element.addEventListener("keydown", press);
}

function name(icon) {
  const text = icon.textContent;
  const control = icon.closest("a, button, [role=button]");
  if (control !== icon) icon.setAttribute("aria-hidden", "true");
  if (control?.textContent.replace(text, "").trim() === "" && !control.ariaLabel) {
    control.setAttribute("aria-label", text.trim().replaceAll("_", " "));
  }
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("[x-on\\:click]").forEach(reach);
  document.querySelectorAll(".material-symbols-outlined").forEach(name);
});
