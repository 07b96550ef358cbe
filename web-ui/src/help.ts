// Help in place: the "?" of a page opens its help beside it. Without script the same link leads to the page of the help.

const PHONE = "(max-width: 760px)";

/** Lets links marked as help open in the panel of the page. */
export function offerHelp(): void {
  const panel = document.querySelector<HTMLDialogElement>("[data-help-panel]");
  const body = panel?.querySelector<HTMLElement>("[data-help-body]");
  const title = panel?.querySelector<HTMLElement>("h2");
  if (!panel || !body || !title) return;
  let opener: HTMLElement | null = null;

  const show = async (link: HTMLAnchorElement): Promise<void> => {
    const address = new URL(link.href);
    const answer = await fetch(address.pathname, { headers: { "HX-Request": "true" } });
    if (!answer.ok) throw new Error(String(answer.status));
    const part = new DOMParser().parseFromString(await answer.text(), "text/html").body;
    for (const section of part.querySelectorAll("section")) section.id = `panel-${section.id}`; // the page has ids of its own
    title.textContent = part.querySelector("[data-help-title]")?.getAttribute("data-help-title") ?? title.textContent;
    body.replaceChildren(...part.childNodes);
    opener = link;
    if (!panel.open) {
      if (matchMedia(PHONE).matches) panel.showModal();
      else panel.show();
    }
    const wanted = address.hash ? document.getElementById(`panel-${address.hash.slice(1)}`) : null;
    (wanted ?? title).focus();
    wanted?.scrollIntoView({ block: "start" });
  };

  document.addEventListener("click", (event) => {
    const link = (event.target as Element).closest<HTMLAnchorElement>("a[data-help]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    show(link).catch(() => location.assign(link.href));
  });
  panel.querySelector("[data-help-close]")?.addEventListener("click", () => panel.close());
  panel.addEventListener("close", () => opener?.focus());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && panel.open && !panel.matches(":modal")) panel.close();
  });
}
