// The guided tour: a dialog that points at one place of the page after another. The box remembers who has had it.

const LIT = "is-toured";

/** Starts the tour when it is asked for, by its button or by the address "#tour". */
export function guide(): void {
  const dialog = document.querySelector<HTMLDialogElement>("dialog[data-tour]");
  if (!dialog) return;
  const tour = new Tour(dialog);
  document.querySelector<HTMLElement>("[data-tour-start]")?.addEventListener("click", () => tour.start());
  if (location.hash === "#tour") {
    history.replaceState(null, "", location.pathname);
    tour.start();
  }
}

class Tour {
  private stops: HTMLElement[] = [];
  private here = 0;
  private readonly next: HTMLButtonElement;
  private readonly back: HTMLButtonElement;
  private readonly go: string;

  constructor(private readonly dialog: HTMLDialogElement) {
    this.next = button(dialog, "next");
    this.back = button(dialog, "back");
    this.go = this.next.textContent ?? "";
    this.next.addEventListener("click", () => (this.here + 1 < this.stops.length ? this.show(this.here + 1) : dialog.close()));
    this.back.addEventListener("click", () => this.show(this.here - 1));
    button(dialog, "end").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => this.end());
    dialog.addEventListener("keydown", (event) => {
      const forth = getComputedStyle(dialog).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
      if (event.key === forth && this.here + 1 < this.stops.length) this.show(this.here + 1);
      else if ((event.key === "ArrowRight" || event.key === "ArrowLeft") && event.key !== forth && this.here > 0) this.show(this.here - 1);
    });
  }

  /** From the first stop whose place is on the page. */
  start(): void {
    const all = [...this.dialog.querySelectorAll<HTMLElement>("[data-tour-stop]")];
    this.stops = all.filter((stop) => target(stop)?.checkVisibility());
    if (!this.stops.length || this.dialog.open) return;
    this.dialog.showModal();
    this.show(0);
  }

  private show(place: number): void {
    this.dark();
    for (const stop of this.dialog.querySelectorAll<HTMLElement>("[data-tour-stop]")) stop.hidden = true;
    const stop = this.stops[place];
    if (!stop) return;
    this.here = place;
    stop.hidden = false;
    const shown = target(stop);
    shown?.classList.add(LIT);
    shown?.scrollIntoView({ block: "nearest" });
    const low = shown !== null && shown.getBoundingClientRect().top > innerHeight / 2;
    this.dialog.classList.toggle("is-above", low);
    this.back.disabled = place === 0;
    this.next.textContent = place + 1 < this.stops.length ? this.go : (this.next.dataset["last"] ?? this.go);
    stop.querySelector<HTMLElement>("h3")?.focus();
  }

  private dark(): void {
    for (const each of document.querySelectorAll(`.${LIT}`)) each.classList.remove(LIT);
  }

  private end(): void {
    this.dark();
    const offer = document.querySelector<HTMLElement>("[data-tour-offer]");
    if (offer) offer.hidden = true;
    document.querySelector<HTMLElement>("#page")?.focus();
    const form = this.dialog.querySelector("form");
    if (!form) return;
    const body = new URLSearchParams(new FormData(form) as unknown as Record<string, string>);
    fetch(form.action, { method: "POST", body, redirect: "manual", keepalive: true }).catch(() => undefined); // offered again
  }
}

function target(stop: HTMLElement): HTMLElement | null {
  return document.querySelector<HTMLElement>(stop.dataset["tourStop"] ?? "");
}

function button(dialog: HTMLElement, name: string): HTMLButtonElement {
  const found = dialog.querySelector<HTMLButtonElement>(`[data-tour-${name}]`);
  if (!found) throw new Error(name);
  return found;
}
