// Two soft tones, made by the browser itself: no file to fetch, nothing that the policy would have to allow.

const TONES_HZ = [659.25, 880];
const TONE_SECONDS = 0.18;

/** Sounds once; does nothing where the browser wants a click first. */
export async function chime(): Promise<void> {
  const context = new AudioContext();
  try {
    if (context.state === "suspended") await Promise.race([context.resume(), pause(300)]);
    if (context.state !== "running") return;
    TONES_HZ.forEach((hertz, number) => {
      const tone = context.createOscillator();
      const volume = context.createGain();
      const start = context.currentTime + number * TONE_SECONDS;
      tone.frequency.value = hertz;
      volume.gain.setValueAtTime(0, start);
      volume.gain.linearRampToValueAtTime(0.15, start + 0.02);
      volume.gain.linearRampToValueAtTime(0, start + TONE_SECONDS);
      tone.connect(volume).connect(context.destination);
      tone.start(start);
      tone.stop(start + TONE_SECONDS);
    });
    await pause(TONES_HZ.length * TONE_SECONDS * 1000 + 200);
  } finally {
    await context.close();
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
