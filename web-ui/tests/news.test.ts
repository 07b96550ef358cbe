import assert from "node:assert/strict";
import { test } from "node:test";
import { changedTopics } from "../src/messages.ts";
import { isNews } from "../src/news.ts";

test("a browser that never looked before is not startled by what is old", () => {
  assert.equal(isNews(null, 7), false);
});

test("what came after the last ring is news, once", () => {
  assert.equal(isNews("6", 7), true);
  assert.equal(isNews("7", 7), false);
  assert.equal(isNews("8", 7), false);
});

test("nothing unread, or a spoilt memory, is no news", () => {
  assert.equal(isNews("6", 0), false);
  assert.equal(isNews("spoilt", 7), false);
});

test("notices are followed live as the lists are", () => {
  const pulse = { studies: 1, deliveries: 1, devices: 1, destinations: 1, notices: 1, health: 1 };
  assert.deepEqual(changedTopics(pulse, { ...pulse, notices: 2 }), ["notices"]);
});
