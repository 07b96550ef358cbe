import assert from "node:assert/strict";
import { test } from "node:test";
import { clock, warningSeconds } from "../src/session-clock.ts";

test("a long session is warned two minutes before its end, a short one a third before", () => {
  assert.equal(warningSeconds(1800), 120);
  assert.equal(warningSeconds(360), 120);
  assert.equal(warningSeconds(60), 20);
  assert.equal(warningSeconds(0), 0);
});

test("what is left is written as minutes and seconds, and never below nothing", () => {
  assert.equal(clock(125), "2:05");
  assert.equal(clock(59.2), "1:00");
  assert.equal(clock(-3), "0:00");
});
