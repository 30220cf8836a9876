// The operator's page. Everything on it is made by the server; this keeps it fresh, and moves the slider.
"use strict";

const byId = (id) => document.getElementById(id);

// --- clock and ages, by the server's clock: a tablet's own may be wrong

const clock = byId("clock");
let serverNow = clock ? Number(clock.dataset.now) : 0;  // s since 1970, at `heardAt`
let heardAt = performance.now();

const sinceHeard = () => (performance.now() - heardAt) / 1000;

function span(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

function clockText(time) {
  return new Date((time + Number(clock.dataset.offset)) * 1000).toISOString().slice(11, 19);
}

function tick() {
  if (!clock) return;
  clock.textContent = clockText(serverNow + sinceHeard());
  for (const age of document.querySelectorAll("[data-age]")) {
    age.textContent = span(Number(age.dataset.age) + sinceHeard());
  }
  for (const quiet of document.querySelectorAll("[data-quiet]")) {
    quiet.hidden = Number(quiet.dataset.quiet) + sinceHeard() < Number(quiet.dataset.after);
  }
}
setInterval(tick, 1000);

// --- now: a new part is told by an event; what is shown is then fetched whole. Without events it is fetched anyway

const LOST_S = 8;  // nothing heard for so long: the page says that it is old
const OFTEN_S = 1, SELDOM_S = 3;

function watchLine(live) {
  let isStale = true, isFetching = false, fetchedAt = -1e9, trouble = "";
  const events = new EventSource(live.dataset.events);
  const stale = () => { isStale = true; };
  for (const kind of ["message", "verdict", "review", "event"]) events.addEventListener(kind, stale);
  events.addEventListener("open", stale);

  function show(isLost) {
    document.body.classList.toggle("is-lost", isLost);
    const lost = byId("lost");
    if (isLost) {
      lost.lastElementChild.textContent =
        `${trouble || "Connection lost"} for ${span(sinceHeard())}. What is shown is of ${clockText(serverNow)}.`;
    }
    lost.hidden = !isLost;
    const way = byId("way");
    const isLive = events.readyState === EventSource.OPEN;
    const text = isLost ? "not connected" : isLive ? "live" : `no events, asked every ${SELDOM_S} s`;
    if (way && way.textContent !== text) way.textContent = text;
  }

  async function refresh() {
    const answer = await fetch(live.dataset.live, { signal: AbortSignal.timeout(5000), redirect: "manual" });
    if (answer.type === "opaqueredirect" || answer.status === 401) location.reload();  // logged out
    trouble = answer.status === 503 ? "The service cannot read its record" : "";
    if (!answer.ok) throw new Error(answer.statusText);
    const fresh = document.createRange().createContextualFragment(await answer.text());
    const shown = new Map([...live.querySelectorAll("img")].map((image) => [image.getAttribute("src"), image]));
    const isShown = (image) => shown.has(image.getAttribute("src"));
    const images = [...fresh.querySelectorAll("img")];
    await Promise.race([
      Promise.allSettled(images.filter((image) => !isShown(image)).map((image) => image.decode())),
      new Promise((done) => setTimeout(done, 1500)),  // a slow picture does not hold a verdict back
    ]);
    serverNow = Number(fresh.querySelector("#products").dataset.now);
    heardAt = performance.now();
    for (const image of images) {  // what is shown already stays: loaded again, it would flicker
      if (isShown(image)) image.replaceWith(shown.get(image.getAttribute("src")));
    }
    swap(live, fresh);
  }

  setInterval(async () => {
    const waited = (performance.now() - fetchedAt) / 1000;
    show(sinceHeard() > LOST_S);
    if (isFetching || waited < (isStale ? OFTEN_S : SELDOM_S)) return;
    isFetching = true;
    isStale = false;
    fetchedAt = performance.now();
    try {
      await refresh();
      tick();
    } catch (error) {
      if (error.name !== "Error") trouble = "";  // there was no answer
      isStale = true;
    } finally {
      isFetching = false;
    }
  }, 250);
}

function swap(live, fresh) {
  const focused = document.activeElement && document.activeElement.id;
  live.replaceChildren(fresh);
  if (focused && byId(focused)) byId(focused).focus({ preventScroll: true });
}

const live = byId("live");
if (live) watchLine(live);

// --- keys: an element with data-key is pressed, or entered

document.addEventListener("keydown", (event) => {
  const target = event.target;
  if (event.key === "Escape" && target.matches("input, textarea")) target.blur();
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  if (target.matches("textarea, select, input:not([type=checkbox], [type=range])")) return;
  const element = document.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (!element) return;
  event.preventDefault();
  if (element.matches("textarea")) element.focus();
  else element.click();
});

for (const form of document.querySelectorAll(".review form")) {
  const note = form.querySelector("textarea");
  let isSent = false;
  form.addEventListener("submit", () => {
    isSent = true;
    setTimeout(() => {  // a second press does not review twice
      for (const button of form.querySelectorAll("button")) button.disabled = true;
    });
  });
  addEventListener("beforeunload", (event) => {  // a note that was not sent is not lost without a word
    if (!isSent && note.value !== note.defaultValue) event.preventDefault();
  });
}

// --- a part: layers, and the slider

function lookAtPart(part) {
  const { verdict } = part.dataset;
  const score = Number(part.dataset.score), usual = Number(part.dataset.threshold);
  const scores = part.dataset.scores.split(" ").filter(Boolean).map(Number);
  const slider = byId("slider"), photograph = byId("photograph"), note = byId("again");
  let judged = null;  // what judging the photograph again says
  const threshold = () => (slider ? Number(slider.value) : usual);

  function isRejected() {
    return part.dataset.score !== "" && score > threshold() && (!judged || judged.has_region);
  }

  function layers() {
    if (!judged) return;
    const hasMap = byId("show-map").checked, hasOutline = byId("show-outline").checked && isRejected();
    const source = `${photograph.dataset.layers}?map=${hasMap}&outline=${hasOutline}`;
    if (photograph.getAttribute("src") !== source) photograph.src = source;
  }

  function move() {
    byId("value").textContent = Number(slider.value).toPrecision(4);
    const line = byId("limit"), frame = line.closest("svg").dataset;
    const x = Number(frame.left) + (Number(slider.value) / Number(slider.max)) * Number(frame.width);
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    const would = isRejected() ? "defective" : "good";
    const change = would === verdict ? "as it was judged" : "another verdict than it was given";
    byId("would").textContent = `This part would be ${would}: ${change}.`;
    const nAbove = scores.filter((other) => other > threshold()).length;
    const nBefore = scores.filter((other) => other > usual).length;
    const share = ((100 * nAbove) / scores.length).toFixed(1);
    byId("others").textContent = `Of the last ${scores.length} parts, ${nAbove} (${share} %) would be above it; ` +
      `${nBefore} are above ${slider.dataset.usual}.`;
    layers();
  }

  async function judgeAgain() {
    const answer = await fetch(note.dataset.src);
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.error);
    judged = said;
    const isSame = Math.abs(said.score - score) <= 1e-4 * Math.abs(score);
    note.textContent = isSame ? "Judged again: the same score." : `Judged again: score ${said.score.toPrecision(6)}.`;
    for (const box of document.querySelectorAll("#layers input")) box.disabled = false;
    layers();
    for (const layer of ["map=true&outline=true", "map=true&outline=false", "map=false&outline=false"]) {
      new Image().src = `${photograph.dataset.layers}?${layer}`;  // so that they are there at once
    }
  }

  if (slider) {
    slider.addEventListener("input", move);
    byId("back").addEventListener("click", () => { slider.value = usual; move(); });
  }
  if (note) {
    byId("layers").addEventListener("change", layers);
    judgeAgain().catch((error) => {
      note.textContent = `No map: ${error.message}.`;
      if (photograph.dataset.drawn) photograph.src = photograph.dataset.drawn;  // as it was drawn when it was judged
    });
  }
}

const look = byId("look");
if (look) lookAtPart(look);
