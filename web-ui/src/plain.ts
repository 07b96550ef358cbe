// A button marked `data-plain` in a form that htmx otherwise sends: the browser sends it, so that what comes is kept as a file.

export function leavePlain(): void {
  document.addEventListener(
    "submit",
    (event) => {
      if (event.submitter?.hasAttribute("data-plain")) event.stopPropagation(); // htmx, at the form, hears nothing
    },
    true,
  );
}
