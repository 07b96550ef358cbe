// The list of steps of setting up: open beside the page, folded away above it on a small screen.

/** Folds the list where it would push the page down. */
export function foldSteps(): void {
  const list = document.querySelector<HTMLDetailsElement>(".setup-steps details");
  if (list && matchMedia("(max-width: 900px)").matches) list.open = false;
}
