import assert from "node:assert/strict";
import { test } from "node:test";
import { refreshInMs } from "../src/messages.ts";

test("the first change of a list is shown at once", () => {
  assert.equal(refreshInMs(Number.POSITIVE_INFINITY), 500);
  assert.equal(refreshInMs(60_000), 500);
});

test("while images pour in, a list is asked for every few seconds and not with each image", () => {
  assert.equal(refreshInMs(0), 3000);
  assert.equal(refreshInMs(1000), 2000);
  assert.equal(refreshInMs(2900), 500);
});
