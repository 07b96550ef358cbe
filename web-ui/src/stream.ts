// The stream itself: Server-Sent Events while there is room, asking every few seconds while there is not.
import { type Message, type Pulse, pulseIn } from "./messages.ts";

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
    source.onopen = found;
    source.onmessage = (event: MessageEvent<string>) => {
      found();
      const pulse = pulseIn(event.data);
      if (pulse) tell({ kind: "pulse", pulse });
    };
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return lost(); // it reconnects by itself
      source.close(); // refused: too many streams, or signed out
      poll(Date.now() + RETRY_MS);
    };
  };

  const poll = (until: number): void => {
    const again = (): void => {
      setTimeout(() => (Date.now() > until ? listen() : poll(until)), POLL_MS);
    };
    fetch("/events/pulse", { headers: { "X-Refresh": "live" }, redirect: "error" })
      .then(async (answer) => {
        if (answer.ok) {
          const pulse = (await answer.json()) as Pulse;
          found();
          tell({ kind: "pulse", pulse });
        }
        again();
      })
      .catch(() => {
        lost();
        again();
      });
  };

  listen();
}
