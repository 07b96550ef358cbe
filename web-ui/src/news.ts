// Whether a notice is news to this browser: one that it has rung for, in any tab, is not; nor is anything at its first page.

/** `before` is what was rung for last, as kept; null for a browser that never looked. `newest` is 0 when all is read. */
export function isNews(before: string | null, newest: number): boolean {
  if (before === null || newest === 0) return false;
  const rung = Number(before);
  return Number.isFinite(rung) && newest > rung;
}
