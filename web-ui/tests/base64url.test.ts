import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBase64Url, toBase64Url } from "../src/base64url.ts";

test("every length and every byte comes back", () => {
  for (let length = 0; length < 300; length += 1) {
    const bytes = Uint8Array.from({ length }, (_, index) => (index * 7 + length) % 256);
    const text = toBase64Url(bytes);
    assert.match(text, /^[A-Za-z0-9_-]*$/);
    assert.deepEqual([...fromBase64Url(text)], [...bytes]);
  }
});

test("the bytes are those of RFC 4648", () => {
  assert.equal(toBase64Url(Uint8Array.from([0xfb, 0xff, 0xfe])), "-__-");
  assert.throws(() => fromBase64Url("?"));
});
