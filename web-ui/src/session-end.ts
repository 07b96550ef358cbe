// Warns before a session ends, and loses nothing that was typed when it has: the page stays, and goes on when somebody
// has signed in again in another window.
import { clock, warningSeconds } from "./session-clock.ts";

const TICK_MS = 1000;
const ASK_AGAIN_MS = 15_000;

interface State {
  login: string;
  left_seconds: number;
  can_stay: boolean;
  csrf: string;
}

/** Follows the end of this page's session, if it has one. */
export function watchSession(): void {
  const bar = document.querySelector<HTMLElement>("[data-session]");
  if (!bar) return;
  const whole = Number(bar.dataset["left"]);
  let endsAt = Date.now() + whole * 1000;
  let askedAt = 0;
  let over = false;
  let login: string | null = null;

  const part = <E extends HTMLElement>(name: string): E => bar.querySelector<E>(`[data-session-${name}]`) as E;
  const say = (sentence: string): void => {
    const text = part<HTMLTemplateElement>(sentence).content.textContent ?? "";
    if (part("said").textContent !== text) part("said").textContent = text; // told once, not every second
  };

  const show = (canStay: boolean): void => {
    const left = (endsAt - Date.now()) / 1000;
    bar.hidden = !over && left > warningSeconds(whole);
    if (bar.hidden) return void (part("said").textContent = "");
    say(over ? "over" : canStay ? "soon" : "last");
    part("clock").textContent = over ? "" : clock(left);
    part("stay").hidden = over || !canStay;
    part("again").hidden = !over;
  };

  const hear = (state: State | null): void => {
    if (state === null) {
      over = true;
      return show(false);
    }
    if (login !== null && state.login !== login) return location.reload(); // somebody else sits here now
    login = state.login;
    over = false;
    endsAt = Date.now() + state.left_seconds * 1000;
    for (const field of document.querySelectorAll<HTMLInputElement>("input[name=csrf]")) field.value = state.csrf;
    show(state.can_stay);
  };

  const ask = async (stay = false): Promise<void> => {
    askedAt = Date.now();
    const token = document.querySelector<HTMLInputElement>("input[name=csrf]")?.value ?? "";
    const said = stay
      ? await fetch("/me/session/stay", { method: "POST", headers: { "X-CSRF-Token": token }, redirect: "error" })
      : await fetch("/me/session", { headers: { "X-Refresh": "live" }, redirect: "error" });
    if (said.ok) hear((await said.json()) as State);
    else if (said.status === 401) hear(null);
  };
  const quietly = (stay = false): void => void ask(stay).catch(() => undefined); // the banner says when the box is away

  part("stay").addEventListener("click", () => quietly(true));
  document.addEventListener("htmx:after:request", (event) => {
    const { ctx } = (event as CustomEvent<{ ctx: { sourceEvent?: Event } }>).detail;
    if (ctx.sourceEvent?.type.startsWith("live-")) return; // a list that refreshes by itself is no use of the session
    endsAt = Math.max(endsAt, Date.now() + whole * 1000);
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && (over || endsAt - Date.now() < warningSeconds(whole) * 1000)) quietly();
  });
  setInterval(() => {
    const left = endsAt - Date.now();
    if (left > warningSeconds(whole) * 1000 && !over) return;
    if (Date.now() - askedAt > ASK_AGAIN_MS || (left <= 0 && !over && Date.now() - askedAt > TICK_MS)) quietly();
    else if (!over) part("clock").textContent = clock(left / 1000);
  }, TICK_MS);
}
