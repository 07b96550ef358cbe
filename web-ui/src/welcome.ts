// Opens the link of an invitation: what stands behind the "#" goes into the form, out of the address, and is sent.

/** Fills in and sends the form of the page, if there is one and the address holds something. */
export function openLink(): void {
  const form = document.querySelector<HTMLFormElement>("form[data-welcome]");
  const code = form?.elements.namedItem("code");
  const held = window.location.hash.slice(1);
  if (!form || !(code instanceof HTMLInputElement) || !held) return;
  code.value = held;
  window.history.replaceState(null, "", window.location.pathname); // not for whoever looks at the history
  form.requestSubmit();
}
