// One stream for all tabs of a browser: streams are few on a small box.
import type { Message } from "./messages.ts";
import { follow } from "./stream.ts";

const ports: MessagePort[] = [];
let latest: Message | null = null;

(self as unknown as { onconnect: (event: MessageEvent) => void }).onconnect = (event) => {
  const port = event.ports[0];
  if (!port) return;
  if (latest) port.postMessage(latest); // a tab that comes later compares it with what its page knows
  if (ports.push(port) > 1) return;
  follow((message: Message) => {
    if (message.kind === "pulse") latest = message;
    ports.forEach((each) => each.postMessage(message));
  });
};
