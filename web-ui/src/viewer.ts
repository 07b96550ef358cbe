// The first viewer: pictures are rendered by the box; this chooses which, and how large.
import { AS_RECORDED, between, pictureAddress, type Look } from "./picture.ts";

const CINE_MS = 120;

/** Opens every viewer below `root` that is not open yet. */
export function openViewers(root: ParentNode): void {
  for (const element of root.querySelectorAll<HTMLElement>("[data-viewer]:not([data-open])")) {
    element.setAttribute("data-open", "");
    new Viewer(element);
  }
}

class Viewer {
  readonly #stage: HTMLElement;
  #image: HTMLImageElement;
  readonly #base: string;
  readonly #frames: number;
  #look: Look = { ...AS_RECORDED };
  #wanted = "";
  #loading = false;
  #zoom = 0; // 0: fitted to the stage
  #cine = 0;

  constructor(readonly element: HTMLElement) {
    this.#stage = element.querySelector<HTMLElement>("[data-stage]")!;
    this.#image = element.querySelector<HTMLImageElement>("[data-picture]")!;
    this.#base = element.dataset["image"] ?? this.#image.src;
    this.#frames = Number(element.dataset["frames"] ?? "1");
    this.#wanted = this.#base;
    element.addEventListener("input", (event) => this.#set(event.target as HTMLElement));
    element.addEventListener("click", (event) => {
      const button = (event.target as HTMLElement).closest<HTMLElement>("[data-do]");
      if (button) this.#act(button.dataset["do"] ?? "");
    });
    this.#stage.addEventListener("keydown", (event) => this.#key(event));
    this.#stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.#dragToPan();
  }

  #set(control: HTMLElement): void {
    if (control instanceof HTMLSelectElement && control.name === "preset") {
      const [tone = "recorded", center = "", width = ""] = control.value.split("|");
      this.#look = { ...this.#look, tone, center, width };
    } else if (control instanceof HTMLInputElement) {
      if (control.name === "frame") this.#look.frame = Number(control.value) - 1;
      if (control.name === "brightness") this.#look.brightness = Number(control.value);
      if (control.name === "contrast") this.#look.contrast = Number(control.value);
    }
    this.#draw();
  }

  #act(what: string): void {
    if (what === "invert") this.#look.inverted = !this.#look.inverted;
    if (what === "larger") this.#scale(1.4);
    if (what === "smaller") this.#scale(1 / 1.4);
    if (what === "fit") this.#zoomTo(0);
    if (what === "actual") this.#zoomTo(1);
    if (what === "cine") this.#toggleCine();
    if (what === "reset") {
      this.#look = { ...AS_RECORDED, frame: this.#look.frame };
      this.#zoomTo(0);
      for (const control of this.element.querySelectorAll<HTMLInputElement>("[name=brightness], [name=contrast]")) {
        control.value = "0";
      }
      const preset = this.element.querySelector<HTMLSelectElement>("[name=preset]");
      if (preset) preset.selectedIndex = 0;
    }
    this.#draw();
  }

  #key(event: KeyboardEvent): void {
    const step = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (step !== undefined && this.#frames > 1) this.#toFrame(this.#look.frame + step);
    else if (event.key === "+" || event.key === "=") this.#scale(1.4);
    else if (event.key === "-") this.#scale(1 / 1.4);
    else if (event.key === "0") this.#zoomTo(0);
    else if (event.key === "i") this.#act("invert");
    else if (event.key === " " && this.#frames > 1) this.#toggleCine();
    else return;
    event.preventDefault();
  }

  #wheel(event: WheelEvent): void {
    if (this.#frames > 1 && !event.ctrlKey) this.#toFrame(this.#look.frame + Math.sign(event.deltaY));
    else if (event.ctrlKey) this.#scale(event.deltaY < 0 ? 1.15 : 1 / 1.15);
    else return;
    event.preventDefault();
  }

  #toFrame(frame: number): void {
    this.#look.frame = between(frame, 0, this.#frames - 1);
    this.#draw();
  }

  #toggleCine(): void {
    if (this.#cine) {
      window.clearInterval(this.#cine);
      this.#cine = 0;
    } else {
      this.#cine = window.setInterval(() => {
        if (!this.element.isConnected) return window.clearInterval(this.#cine);
        if (!this.#loading) this.#toFrame((this.#look.frame + 1) % this.#frames);
      }, CINE_MS);
    }
    this.element.querySelector("[data-do=cine]")?.setAttribute("aria-pressed", String(this.#cine !== 0));
  }

  #scale(factor: number): void {
    const now = this.#zoom || this.#image.clientWidth / Math.max(1, this.#image.naturalWidth);
    this.#zoomTo(between(now * factor, 0.05, 8));
  }

  #zoomTo(zoom: number): void {
    this.#zoom = zoom;
    this.#stage.classList.toggle("is-fitted", zoom === 0);
    if (zoom === 0) this.#image.removeAttribute("width");
    else this.#image.width = Math.round(this.#image.naturalWidth * zoom);
  }

  #draw(): void {
    const frame = this.element.querySelector<HTMLInputElement>("[name=frame]");
    if (frame) frame.value = String(this.#look.frame + 1);
    const shown = this.element.querySelector<HTMLElement>("[data-frame-number]");
    if (shown) shown.textContent = String(this.#look.frame + 1);
    this.element.querySelector("[data-do=invert]")?.setAttribute("aria-pressed", String(this.#look.inverted));
    this.#wanted = pictureAddress(this.#base, this.#look);
    void this.#load();
  }

  // One picture is fetched at a time, and the one shown last is the one asked for last.
  async #load(): Promise<void> {
    if (this.#loading) return;
    this.#loading = true;
    try {
      for (let shown = ""; shown !== this.#wanted; ) {
        shown = this.#wanted;
        const next = this.#image.cloneNode() as HTMLImageElement;
        next.src = shown;
        await next.decode();
        this.#show(next);
      }
    } catch {
      this.#image.src = this.#wanted; // the browser shows what came instead
    } finally {
      this.#loading = false;
    }
  }

  // The image that was fetched takes the place of the one before: no browser keeps a picture, so to name its address
  // again would fetch it again.
  #show(next: HTMLImageElement): void {
    const width = this.#image.getAttribute("width");
    if (width === null) next.removeAttribute("width");
    else next.setAttribute("width", width);
    this.#image.replaceWith(next);
    this.#image = next;
  }

  #dragToPan(): void {
    let from: { x: number; y: number; left: number; top: number } | null = null;
    this.#stage.addEventListener("pointerdown", (event) => {
      if (this.#zoom === 0 || event.button !== 0) return;
      from = { x: event.clientX, y: event.clientY, left: this.#stage.scrollLeft, top: this.#stage.scrollTop };
      this.#stage.setPointerCapture(event.pointerId);
    });
    this.#stage.addEventListener("pointermove", (event) => {
      if (!from) return;
      this.#stage.scrollLeft = from.left - (event.clientX - from.x);
      this.#stage.scrollTop = from.top - (event.clientY - from.y);
    });
    for (const end of ["pointerup", "pointercancel"]) this.#stage.addEventListener(end, () => (from = null));
  }
}
