// What the box says over its stream: which lists have changed, never what is in them.

export type Topic = "studies" | "deliveries" | "devices" | "destinations" | "notices" | "health";

export const TOPICS: readonly Topic[] = ["studies", "deliveries", "devices", "destinations", "notices", "health"];

export type Message = { kind: "changed"; topic: Topic } | { kind: "lost" } | { kind: "found" };

/** Whether `text` is a topic that this page knows. */
export function isTopic(text: string): text is Topic {
  return (TOPICS as readonly string[]).includes(text);
}

/** The topics whose number differs between two pulses of the box; a first pulse changes nothing. */
export function changedTopics(
  before: Readonly<Record<string, number>> | null,
  now: Readonly<Record<string, number>>,
): Topic[] {
  return before === null ? [] : TOPICS.filter((topic) => before[topic] !== now[topic]);
}
