// Turns what the box says into events that htmx attributes listen to: "live-studies from:body".
import { changedTopics, type Message, pulseIn, refreshInMs, type Topic } from "./messages.ts";
import { follow } from "./stream.ts";

const SIGN_OUT_MS = 30_000;
const REFRESHED = "[hx-trigger*='live-'], [hx-trigger*='every ']";

const refreshed = new Map<Topic, number>();
const waiting = new Set<Topic>();
// What was true before this page was made; from then on, what it has been told.
let known = pulseIn(document.body.dataset["live"] ?? "");

/** Follows the box on pages that ask for it: those of somebody signed in. */
export function followLive(): void {
  if (!document.body.hasAttribute("data-live")) return;
  try {
    const worker = new SharedWorker(new URL("./live.worker.ts", import.meta.url), { type: "module", name: "live" });
    worker.port.onmessage = (event: MessageEvent<Message>) => hear(event.data);
  } catch {
    follow(hear); // phones have no shared workers
  }
  stopAtSignOut();
}

/** What a part refreshes by while its session is being ended is refused, and the browser reports each refusal as an error. */
function stopAtSignOut(): void {
  const refuse = (event: Event): void => event.preventDefault();
  document.addEventListener("submit", ({ target }) => {
    if (!(target as HTMLFormElement).matches("[action='/sign-out']")) return;
    document.addEventListener("htmx:before:request", refuse);
    setTimeout(() => document.removeEventListener("htmx:before:request", refuse), SIGN_OUT_MS); // it may never be answered
    document.querySelectorAll(REFRESHED).forEach((part) => part.dispatchEvent(new CustomEvent("htmx:abort")));
  });
}

function hear(message: Message): void {
  if (message.kind !== "pulse") {
    document.dispatchEvent(new CustomEvent(`live-${message.kind}`));
    return;
  }
  const changed = changedTopics(known, message.pulse);
  known = message.pulse;
  changed.forEach(refresh);
}

function refresh(topic: Topic): void {
  if (waiting.has(topic)) return;
  waiting.add(topic);
  const sinceMs = performance.now() - (refreshed.get(topic) ?? Number.NEGATIVE_INFINITY);
  setTimeout(() => {
    waiting.delete(topic);
    refreshed.set(topic, performance.now());
    document.body.dispatchEvent(new CustomEvent(`live-${topic}`));
  }, refreshInMs(sinceMs));
}
