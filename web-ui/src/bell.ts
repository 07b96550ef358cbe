// The bell: tells what is new, once a browser, by what each person has chosen: words for screen readers, a sound, a pop-up.
import { isNews } from "./news.ts";
import { chime } from "./chime.ts";

const RUNG = "bell-rung";

/** Tends the bell of the page, if it has one, and the choices of the preferences. */
export function tendBell(): void {
  const bell = document.querySelector<HTMLDetailsElement>("[data-bell]");
  if (!bell) return;
  const panel = bell.querySelector<HTMLElement>("#bell-panel");
  bell.addEventListener("toggle", () => {
    if (bell.open) panel?.dispatchEvent(new CustomEvent("open-panel"));
  });
  document.addEventListener("htmx:after:swap", () => {
    ring(bell);
  });
  panel?.addEventListener("htmx:after:request", (event) => {
    // What was read or acknowledged in the panel is no longer counted on the bell.
    const { ctx } = (event as CustomEvent<{ ctx?: { sourceElement?: Element } }>).detail;
    if (ctx?.sourceElement?.tagName === "FORM") document.body.dispatchEvent(new CustomEvent("read-notices"));
  });
  ring(bell);
  offerPopUps();
  offerSound();
}

function ring(bell: HTMLElement): void {
  const face = bell.querySelector<HTMLElement>("[data-bell-face]");
  const said = document.querySelector<HTMLElement>("[data-bell-said]");
  if (!face) return;
  const newest = Number(face.dataset["newest"]);
  const before = localStorage.getItem(RUNG);
  if (before === null || newest > Number(before)) localStorage.setItem(RUNG, String(newest));
  if (!isNews(before, newest)) return;
  const words = face.dataset["said"] ?? "";
  if (said) said.textContent = words;
  if (face.dataset["sound"] === "1") void chime();
  if (face.dataset["desktop"] === "1" && "Notification" in window && Notification.permission === "granted") {
    new Notification(words, { body: bell.dataset["popUp"] ?? "", tag: "notice", icon: "/static/icon.svg" });
  }
}

function offerPopUps(): void {
  const box = document.querySelector<HTMLInputElement>("[data-pop-ups]");
  const not = document.querySelector<HTMLElement>("[data-pop-ups-not]");
  if (!box || !not) return;
  const check = (): void => {
    not.hidden = "Notification" in window && window.isSecureContext && Notification.permission !== "denied";
  };
  box.addEventListener("change", () => {
    if (!box.checked || !("Notification" in window)) return check();
    void Notification.requestPermission().then(check);
  });
  check();
}

function offerSound(): void {
  const button = document.querySelector<HTMLButtonElement>("[data-try-sound]");
  if (!button) return;
  button.hidden = false;
  button.addEventListener("click", () => void chime());
}
