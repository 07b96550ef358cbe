// A sheet for paper: the button prints the page.

/** Lets the buttons marked `data-print` print. */
export function offerPrinting(): void {
  for (const button of document.querySelectorAll("[data-print]")) {
    button.addEventListener("click", () => window.print());
  }
}
