// The address of a picture: what the person has set, as parameters of the image. Pure.

export interface Look {
  frame: number;
  tone: string;
  center: string;
  width: string;
  brightness: number;
  contrast: number;
  inverted: boolean;
}

export const AS_RECORDED: Look = {
  frame: 0,
  tone: "recorded",
  center: "",
  width: "",
  brightness: 0,
  contrast: 0,
  inverted: false,
};

/** The image of `base` with this look; parameters that say nothing are left out, so that the box finds what it drew. */
export function pictureAddress(base: string, look: Look): string {
  const wanted = new URLSearchParams();
  if (look.frame) wanted.set("frame", String(look.frame));
  if (look.tone !== "recorded") wanted.set("tone", look.tone);
  if (look.tone === "window") {
    wanted.set("center", look.center);
    wanted.set("width", look.width);
  }
  if (look.brightness) wanted.set("brightness", String(look.brightness));
  if (look.contrast) wanted.set("contrast", String(look.contrast));
  if (look.inverted) wanted.set("inverted", "1");
  const query = wanted.toString();
  return query ? `${base}?${query}` : base;
}

/** `value` held between two bounds. */
export function between(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
