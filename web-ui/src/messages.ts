// What the box says over its stream: a number for each list, never what is in it.

export type Topic = "studies" | "deliveries" | "devices" | "destinations" | "notices" | "health";

export const TOPICS: readonly Topic[] = ["studies", "deliveries", "devices", "destinations", "notices", "health"];

export type Pulse = Readonly<Record<string, number>>;

export type Message = { kind: "pulse"; pulse: Pulse } | { kind: "lost" } | { kind: "found" };

/** The topics whose number differs between two pulses of the box; all of them if `before` is not known. */
export function changedTopics(before: Pulse | null, now: Pulse): Topic[] {
  return TOPICS.filter((topic) => before === null || before[topic] !== now[topic]);
}

/** The pulse in `text`, or null if there is none. */
export function pulseIn(text: string): Pulse | null {
  try {
    const found: unknown = JSON.parse(text);
    return typeof found === "object" && found !== null ? (found as Pulse) : null;
  } catch {
    return null;
  }
}

const CALM_MS = 500;
const LULL_MS = 3000;

/** How long a page waits before it asks for a list that has changed, `sinceMs` after it last did. The first change is shown
 * at once; while images pour in, fifty open lists must not cost more than the images. */
export function refreshInMs(sinceMs: number): number {
  return Math.max(CALM_MS, LULL_MS - sinceMs);
}
