// The stream itself: Server-Sent Events while there is room, asking every few seconds while there is not.
import { changedTopics, isTopic, type Message } from "./messages.ts";

const POLL_MS = 4000;
const RETRY_MS = 30_000;

/** Follows the box and tells `tell`. Never ends by itself; runs in a shared worker or in the page. */
export function follow(tell: (message: Message) => void): void {
  let away = false;
  const found = (): void => {
    if (away) tell({ kind: "found" });
    away = false;
  };
  const lost = (): void => {
    if (!away) tell({ kind: "lost" });
    away = true;
  };

  const listen = (): void => {
    const source = new EventSource("/events");
    source.onopen = () => {
      found();
      tell({ kind: "changed", topic: "notices" }); // what was told between the making of the page and now
    };
    source.onmessage = (event: MessageEvent<string>) => {
      found();
      for (const word of event.data.split(" ")) if (isTopic(word)) tell({ kind: "changed", topic: word });
    };
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return lost(); // it reconnects by itself
      source.close(); // refused: too many streams, or signed out
      tell({ kind: "changed", topic: "notices" });
      poll(Date.now() + RETRY_MS);
    };
  };

  const poll = (until: number, before: Record<string, number> | null = null): void => {
    const again = (pulse: Record<string, number> | null): void => {
      setTimeout(() => (Date.now() > until ? listen() : poll(until, pulse)), POLL_MS);
    };
    fetch("/events/pulse", { headers: { "X-Refresh": "live" }, redirect: "error" })
      .then(async (answer) => {
        if (!answer.ok) return again(before);
        const pulse = (await answer.json()) as Record<string, number>;
        found();
        for (const topic of changedTopics(before, pulse)) tell({ kind: "changed", topic });
        again(pulse);
      })
      .catch(() => {
        lost();
        again(before);
      });
  };

  listen();
}
