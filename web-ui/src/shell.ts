// The console as an app: its service worker, the notice of a new version, and the page shown while the box is away.

const ASK_AGAIN_MS = 3_000;
const LOOK_FOR_NEW_MS = 60 * 60 * 1000;

/** Registers the service worker where the browser allows one: on a trusted address. */
export function keepShell(): void {
  const workers = navigator.serviceWorker as ServiceWorkerContainer | undefined;
  if (!workers) return;
  void workers.ready.then((registration) => {
    const language = document.documentElement.lang.split("-")[0];
    registration.active?.postMessage({ kind: "language", language });
  });
  workers
    .register("/service-worker.js")
    .then((registration) => {
      offerWhenReady(workers, registration);
      setInterval(() => void registration.update().catch(() => undefined), LOOK_FOR_NEW_MS);
    })
    .catch(() => undefined); // without it the console works as before
}

function offerWhenReady(workers: ServiceWorkerContainer, registration: ServiceWorkerRegistration): void {
  const banner = document.querySelector<HTMLElement>("[data-update]");
  const show = (): void => {
    if (banner && registration.waiting && workers.controller) banner.hidden = false;
  };
  const follow = (): void => registration.installing?.addEventListener("statechange", show);
  show();
  follow(); // what the browser found before this page was ready to be told
  registration.addEventListener("updatefound", follow);
  banner?.querySelector("button")?.addEventListener("click", () => {
    workers.addEventListener("controllerchange", () => location.reload());
    registration.waiting?.postMessage({ kind: "take-over" });
  });
}

/** On the page that stands in for the box: goes back to the page asked for, or to the one it names, as soon as the box answers. */
export function waitForTheBox(): void {
  const page = document.querySelector<HTMLElement>("[data-away]");
  if (!page) return;
  const onward = page.dataset["away"];
  const leave = (): void => (onward ? location.replace(onward) : location.reload());
  const ask = (): void => {
    fetch("/health/live", { cache: "no-store" })
      .then((answer) => (answer.ok ? leave() : setTimeout(ask, ASK_AGAIN_MS)))
      .catch(() => setTimeout(ask, ASK_AGAIN_MS));
  };
  setTimeout(ask, ASK_AGAIN_MS);
  window.addEventListener("online", ask);
}

/** Searches the help that the page holds whole: without the box nobody else can. */
export function searchHere(): void {
  const field = document.querySelector<HTMLInputElement>("[data-search-here]");
  const none = document.querySelector<HTMLElement>("[data-none-found]");
  if (!field) return;
  const sections = [...document.querySelectorAll<HTMLElement>("[data-help-section]")];
  const texts = sections.map((section) => fold(section.textContent ?? ""));
  field.addEventListener("input", () => {
    const words = fold(field.value).split(/\s+/).filter(Boolean);
    let found = 0;
    sections.forEach((section, place) => {
      section.hidden = !words.every((word) => texts[place]?.includes(word));
      if (!section.hidden) found += 1;
    });
    if (none) none.hidden = found > 0;
  });
}

function fold(text: string): string {
  return text.normalize("NFKD").replace(/\p{Mn}/gu, "").toLowerCase();
}
