// A button that copies what stands in the field beside it, where the browser can.

/** Gives every copy button of the page its work; without it, the field can still be selected and copied. */
export function offerCopying(): void {
  for (const button of document.querySelectorAll<HTMLButtonElement>("[data-copy]")) {
    const field = button.parentElement?.querySelector<HTMLInputElement>("[data-copy-from]");
    if (!field) continue;
    button.hidden = false;
    field.addEventListener("focus", () => field.select());
    button.addEventListener("click", () => void copy(field, button));
  }
}

async function copy(field: HTMLInputElement, button: HTMLButtonElement): Promise<void> {
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    button.textContent = button.dataset["copied"] ?? button.textContent;
  } catch {
    field.focus(); // not over plain HTTP: it is selected, and Ctrl+C does it
  }
}
