// When to warn before a session ends, and how the time that is left is written. Pure.

const WARN_SECONDS = 120;

/** How many seconds before the end a page warns: two minutes, or a third of a session that is shorter than six. */
export function warningSeconds(sessionSeconds: number): number {
  return Math.min(WARN_SECONDS, Math.floor(sessionSeconds / 3));
}

/** Seconds as minutes and seconds. */
export function clock(seconds: number): string {
  const left = Math.max(0, Math.ceil(seconds));
  return `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
}
