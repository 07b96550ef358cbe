// Says when the box cannot be reached, what still works, and goes by itself.

/** Shows the banner of the page while the browser, or the box, is away. */
export function watchBanner(): void {
  const banner = document.querySelector<HTMLElement>("[data-offline]");
  if (!banner) return;
  const away = { network: !navigator.onLine, box: false };
  const show = (change: Partial<typeof away>): void => {
    Object.assign(away, change);
    banner.hidden = !(away.network || away.box);
  };
  show({});
  window.addEventListener("offline", () => show({ network: true }));
  window.addEventListener("online", () => show({ network: false }));
  document.addEventListener("live-lost", () => show({ box: true }));
  document.addEventListener("live-found", () => show({ box: false }));
}
