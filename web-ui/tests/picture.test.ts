import assert from "node:assert/strict";
import { test } from "node:test";
import { changedTopics, pulseIn, TOPICS } from "../src/messages.ts";
import { AS_RECORDED, between, pictureAddress } from "../src/picture.ts";

test("an image as recorded has a plain address, so that it is fetched once", () => {
  assert.equal(pictureAddress("/instances/5/image", AS_RECORDED), "/instances/5/image");
});

test("what a person sets is in the address, and nothing else", () => {
  const look = { ...AS_RECORDED, frame: 3, tone: "window", center: "40", width: "400", inverted: true };
  const address = new URL(pictureAddress("/i", look), "http://box");
  assert.deepEqual(Object.fromEntries(address.searchParams), {
    frame: "3", tone: "window", center: "40", width: "400", inverted: "1",
  });
});

test("a centre without the window tone is not sent", () => {
  assert.equal(pictureAddress("/i", { ...AS_RECORDED, center: "40", width: "400" }), "/i");
});

test("between holds at both ends", () => {
  assert.deepEqual([between(-1, 0, 9), between(4, 0, 9), between(10, 0, 9)], [0, 4, 9]);
});

test("a page that knows no numbers asks for every list, one that does for what differs", () => {
  const pulse = { studies: 1, deliveries: 2, devices: 3, destinations: 4 };
  assert.deepEqual(changedTopics(null, pulse), TOPICS);
  assert.deepEqual(changedTopics(pulse, pulse), []);
  assert.deepEqual(changedTopics(pulse, { ...pulse, deliveries: 9 }), ["deliveries"]);
});

test("what is no pulse is none", () => {
  assert.deepEqual(pulseIn('{"studies": 1}'), { studies: 1 });
  for (const text of ["", "null", "7", "{"]) assert.equal(pulseIn(text), null);
});
