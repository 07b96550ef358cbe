// Turns what the box says into events that htmx attributes listen to: "live-studies from:body".
import { changedTopics, type Message, pulseIn, type Topic } from "./messages.ts";
import { follow } from "./stream.ts";

const CALM_MS = 500;
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
  waiting.add(topic); // many images in a second are one refresh
  setTimeout(() => {
    waiting.delete(topic);
    document.body.dispatchEvent(new CustomEvent(`live-${topic}`));
  }, CALM_MS);
}
