// One stream for all tabs of a browser: streams are few on a small box.
import type { Message } from "./messages.ts";
import { follow } from "./stream.ts";

const ports: MessagePort[] = [];

(self as unknown as { onconnect: (event: MessageEvent) => void }).onconnect = (event) => {
  const port = event.ports[0];
  if (!port) return;
  if (ports.push(port) === 1) follow((message: Message) => ports.forEach((each) => each.postMessage(message)));
};
