// Keeps the shell of the console for when the box cannot be reached: what is built, and a page that says so.
// Never a page of the console, a picture or data: what is not listed by the box is not even looked at here.

interface Shell {
  version: string;
  files: string[];
  offline: Record<string, string>;
}

interface Scope {
  shell: Shell;
  clients: { claim(): Promise<void> };
  skipWaiting(): Promise<void>;
  addEventListener(kind: "install" | "activate", tell: (event: Lasting) => void): void;
  addEventListener(kind: "fetch", tell: (event: Asked) => void): void;
  addEventListener(kind: "message", tell: (event: Lasting & MessageEvent<Told>) => void): void;
}
type Lasting = { waitUntil(work: Promise<unknown>): void };
type Asked = Lasting & { request: Request; respondWith(answer: Promise<Response>): void };
type Told = { kind: "take-over" } | { kind: "language"; language: string };

const scope = self as unknown as Scope;
const { version, files, offline } = scope.shell; // put before this script by the box
const CACHE = `shell-${version}`;
const LANGUAGE = "/offline/language";
const kept = new Set(files);

scope.addEventListener("install", (event) => {
  const wanted = [...files, ...Object.values(offline)];
  const requests = wanted.map((address) => new Request(address, { credentials: "omit", cache: "reload" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(requests)));
});

scope.addEventListener("activate", (event) => {
  const forget = async (): Promise<void> => {
    for (const name of await caches.keys()) if (name !== CACHE) await caches.delete(name);
    await scope.clients.claim();
  };
  event.waitUntil(forget());
});

scope.addEventListener("message", (event) => {
  if (event.data.kind === "take-over") event.waitUntil(scope.skipWaiting());
  else if (event.data.language in offline) {
    const note = new Response(event.data.language);
    event.waitUntil(caches.open(CACHE).then((cache) => cache.put(LANGUAGE, note)));
  }
});

scope.addEventListener("fetch", (event) => {
  const { request } = event;
  const address = new URL(request.url);
  if (request.method !== "GET" || address.origin !== location.origin) return;
  if (request.mode === "navigate") event.respondWith(fetch(request).catch(sayOffline));
  else if (kept.has(address.pathname)) event.respondWith(fromShell(request));
});

async function fromShell(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  return (await cache.match(request, { ignoreSearch: true })) ?? fetch(request);
}

async function sayOffline(): Promise<Response> {
  const cache = await caches.open(CACHE);
  const language = (await (await cache.match(LANGUAGE))?.text()) ?? "";
  const page = offline[language] ?? Object.values(offline)[0] ?? "";
  return (await cache.match(page)) ?? Response.error();
}
