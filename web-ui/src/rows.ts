// Lists by keyboard: arrows move from row to row, Enter opens, "/" goes to the search.

/** Listens once for all lists of the page, those that arrive later included. */
export function steerRows(): void {
  document.addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    const typing = target.matches("input, select, textarea");
    if (event.key === "/" && !typing) {
      const search = document.querySelector<HTMLInputElement>("[data-search]");
      if (search) {
        event.preventDefault();
        search.focus();
      }
      return;
    }
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    if (typing && !target.matches("[data-search]")) return;
    if (target.closest("[data-viewer]")) return;
    const links = [...document.querySelectorAll<HTMLAnchorElement>("[data-rows] a[data-row]")];
    if (!links.length) return;
    const here = links.indexOf(document.activeElement as HTMLAnchorElement);
    const next = event.key === "ArrowDown" ? Math.min(here + 1, links.length - 1) : here - 1;
    event.preventDefault();
    if (next >= 0) links[next]?.focus();
    else document.querySelector<HTMLInputElement>("[data-search]")?.focus();
  });
}
