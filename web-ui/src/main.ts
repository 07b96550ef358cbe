// Everything a page runs. Pages work without it; it makes them quick and live.
import "../styles/main.css";
import htmx from "htmx.org";
import { watchBanner } from "./banner.ts";
import { tendBell } from "./bell.ts";
import { offerCopying } from "./copy.ts";
import { offerHelp } from "./help.ts";
import { followLive } from "./live.ts";
import { tendMenus } from "./menus.ts";
import { offerPasskeys } from "./passkeys.ts";
import { leavePlain } from "./plain.ts";
import { offerPrinting } from "./print.ts";
import { watchSession } from "./session-end.ts";
import { steerRows } from "./rows.ts";
import { keepShell, searchHere, waitForTheBox } from "./shell.ts";
import { foldSteps } from "./steps.ts";
import { guide } from "./tour.ts";
import { openViewers } from "./viewer.ts";
import { openLink } from "./welcome.ts";

document.addEventListener("htmx:config:request", (event) => {
  // A list that refreshes by itself is no sign of a person: it must not keep a session alive.
  const { ctx } = (event as CustomEvent<{ ctx: HtmxContext }>).detail;
  if (ctx.sourceEvent?.type.startsWith("live-")) ctx.request.headers["X-Refresh"] = "live";
});
document.addEventListener("htmx:after:swap", () => openViewers(document));

htmx.config.history = false;
htmx.config.morphIgnore = [...htmx.config.morphIgnore, "open"]; // what a person has opened stays open when a part refreshes
leavePlain();
watchBanner();
tendMenus();
tendBell();
offerHelp();
keepShell();
waitForTheBox();
searchHere();
guide();
followLive();
steerRows();
foldSteps();
openViewers(document);
offerPasskeys();
offerPrinting();
offerCopying();
openLink();
watchSession();

interface HtmxContext {
  sourceEvent?: Event;
  request: { headers: Record<string, string> };
}
