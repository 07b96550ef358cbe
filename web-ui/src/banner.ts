// Says when the box cannot be reached, and goes by itself.

/** Shows the banner of the page while the browser, or the box, is away. */
export function watchBanner(): void {
  const banner = document.querySelector<HTMLElement>("[data-offline]");
  if (!banner) return;
  const show = (away: boolean): void => {
    banner.hidden = !away;
  };
  window.addEventListener("offline", () => show(true));
  window.addEventListener("online", () => show(false));
  document.addEventListener("live-lost", () => show(true));
  document.addEventListener("live-found", () => show(false));
}
